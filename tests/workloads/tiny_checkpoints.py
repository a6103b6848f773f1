"""Small checkpoints with random weights, as transformers and llama.cpp's converter write them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers
from gguf.constants import GGMLQuantizationType

from tpubench.errors import UsageError
from tpubench.workloads._checkpoint import load, read_config
from tpubench.workloads.llama.model import KVCache, Llama

TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 257,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 17,
    "max_position_embeddings": 32,
}

GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
    "input_layernorm": "attn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
}


def random_model(kind: str = "Llama", **changes: Any) -> Any:
    """A transformers model in float32; every parameter random, biases and norms too."""
    config = getattr(transformers, f"{kind}Config")(**{**TINY, **changes})
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).float().eval()
    model.generation_config.eos_token_id = None  # answers run to their full length
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.15)
    return model


def save(folder: Path, kind: str = "Llama", shard: str = "5GB", **changes: Any) -> Any:
    """A random model, saved by transformers into ``folder``; returns the model."""
    model = random_model(kind, **changes)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


def edit_json(file: Path, remove: tuple[str, ...] = (), **changes: Any) -> None:
    """Changes some keys of a JSON file and removes others."""
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in values.items() if k not in remove}))


def gguf_name(name: str) -> str:
    for theirs, ours in GGUF_NAMES.items():
        name = name.replace(theirs, ours)
    return name


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """Query or key rows as converters store them: the two elements of a rotated pair adjacent."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def llama3_factors(head_dim: int, factor: float) -> np.ndarray:
    """What a converter stores for Llama 3.1's scaling: divisors of the rotary frequencies."""
    factors = []
    for i in range(head_dim // 2):
        wavelength = 2 * math.pi * 500_000.0 ** (2 * i / head_dim)
        smooth = min(max((8192 / wavelength - 1.0) / (4.0 - 1.0), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def write_gguf(
    path: Path,
    model: Any,
    kind: str = "F32",
    *,
    architecture: str = "llama",
    omit: tuple[str, ...] = (),
    extra: dict[str, np.ndarray] | None = None,
    raw: dict[str, tuple[np.ndarray, GGMLQuantizationType]] | None = None,
    keys: dict[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Writes ``model`` with its matrices as ``kind``; the dequantised tensors by HF name.

    omit, extra, raw: tensors left out and added, raw ones as quantised bytes.
    keys: more header values; under the architecture's name unless they hold a known prefix.
    """
    config, quantization = model.config, GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, architecture)
    header = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "rope.dimension_count": config.head_dim,
        **(keys or {}),
    }
    for key, value in header.items():
        known = key.startswith(("general.", "split.", "tokenizer."))
        name = key if known else f"{architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_int32(name, value) if value < 0 else writer.add_uint32(name, value)
        else:
            writer.add_float32(name, value)
    dequantised = {}
    state = model.state_dict()
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for name, tensor in state.items():
        if gguf_name(name) in omit:
            continue
        stored = quantization if tensor.dim() == 2 else GGMLQuantizationType.F32
        rows = tensor.numpy()
        dequantised[name] = gguf.dequantize(gguf.quantize(rows, stored), stored)
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            query = ".q_proj." in name
            rows = interleave(
                rows, config.num_attention_heads if query else config.num_key_value_heads
            )
        writer.add_tensor(gguf_name(name), gguf.quantize(rows, stored), raw_dtype=stored)
    for name, rows in (extra or {}).items():
        writer.add_tensor(name, rows)
    for name, (data, stored) in (raw or {}).items():
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dequantised


def greedy(model: Llama, prompt: list[int], steps: int) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens of our program after ``prompt``, and the logits [steps, V] they come from."""
    length = len(prompt)
    cache = KVCache(model.config, 1, length + steps, torch.float32)
    tokens, rows = [], []
    with torch.no_grad():
        logits = model(torch.tensor([prompt]), torch.arange(length), cache, length)
        for step in range(steps):
            rows.append(logits[0])
            tokens.append(int(logits[0].argmax()))
            at = length + step
            logits = model(torch.tensor([tokens[-1:]]), torch.tensor([at]), cache, at + 1)
    return tokens, torch.stack(rows)


def reference_greedy(model: Any, prompt: list[int], steps: int) -> tuple[list[int], torch.Tensor]:
    """The same from transformers."""
    answer = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=steps,
        min_new_tokens=steps,
        do_sample=False,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return answer.sequences[0, len(prompt) :].tolist(), torch.cat(answer.logits)


def loaded(path: Path, dtype: torch.dtype = torch.float32) -> Llama:
    model = Llama(read_config(path), 8, dtype)
    load(path, model)
    return model


def refusal(path: Path) -> str:
    """The one line that refuses a checkpoint."""
    with pytest.raises(UsageError) as error:
        loaded(path)
    line = str(error.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def truncate(file: Path, keep: float) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * keep)])
