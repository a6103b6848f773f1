"""A tiny good Llama: its parts, as a Hugging Face folder and as a GGUF file."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "eos_token_id": 1,
}
LAYER = {
    "input_layernorm": ("attn_norm", (32,)),
    "post_attention_layernorm": ("ffn_norm", (32,)),
    "self_attn.q_proj": ("attn_q", (32, 32)),
    "self_attn.k_proj": ("attn_k", (16, 32)),
    "self_attn.v_proj": ("attn_v", (16, 32)),
    "self_attn.o_proj": ("attn_output", (32, 32)),
    "mlp.gate_proj": ("ffn_gate", (32, 32)),
    "mlp.up_proj": ("ffn_up", (32, 32)),
    "mlp.down_proj": ("ffn_down", (32, 32)),
}
TEMPLATE = "{{ messages[0]['content'] }}"


class Base:
    """The good checkpoint in its parts, made once."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.tensors: dict[str, np.ndarray[Any, Any]] = {
            "model.embed_tokens.weight": rng.normal(size=(300, 32)).astype(np.float32),
            "model.norm.weight": np.ones(32, np.float32),
        }
        self.gguf_names = {
            "model.embed_tokens.weight": "token_embd.weight",
            "model.norm.weight": "output_norm.weight",
        }
        for name, (short, shape) in LAYER.items():
            full = f"model.layers.0.{name}.weight"
            self.tensors[full] = rng.normal(size=shape).astype(np.float32)
            self.gguf_names[full] = f"blk.0.{short}.weight"
        self.tokenizer = _tokenizer()
        self.safetensors = _safetensors(self.tensors, folder)
        self.gguf = Gguf.of(self)


def _tokenizer() -> dict[str, Any]:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", *alphabet]
    tokens += [a + b for a, b in (("a", "b"), ("c", "d"))]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    backend = Tokenizer(BPE(vocabulary, [("a", "b"), ("c", "d")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<s>"), AddedToken("</s>")])
    content: dict[str, Any] = json.loads(backend.to_str())
    return content


def _safetensors(tensors: dict[str, np.ndarray[Any, Any]], folder: Path) -> bytes:
    from safetensors.numpy import save_file

    path = folder / "base.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    return path.read_bytes()


@dataclass(slots=True)
class Gguf:
    """A GGUF file as its parts: (key, type, raw value), (name, shape, kind, offset), data."""

    values: list[tuple[bytes, int, bytes]]
    tensors: list[tuple[bytes, tuple[int, ...], int, int]]
    data: bytes
    version: int = 3
    tensor_count: int | None = None
    value_count: int | None = None

    @classmethod
    def of(cls, base: Base) -> Gguf:
        tokens = sorted(
            base.tokenizer["model"]["vocab"], key=base.tokenizer["model"]["vocab"].__getitem__
        )
        values = [
            text("general.architecture", "llama"),
            u32("llama.block_count", 1),
            u32("llama.context_length", 64),
            u32("llama.embedding_length", 32),
            u32("llama.feed_forward_length", 32),
            u32("llama.attention.head_count", 2),
            u32("llama.attention.head_count_kv", 1),
            (b"llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)),
            (b"llama.rope.freq_base", 6, struct.pack("<f", 10000.0)),
            text("tokenizer.ggml.model", "gpt2"),
            text("tokenizer.ggml.pre", "gpt-2"),
            strings("tokenizer.ggml.tokens", tokens),
            strings("tokenizer.ggml.merges", ["a b", "c d"]),
            numbers("tokenizer.ggml.token_type", 5, [3, 3, *[1] * (len(tokens) - 2)]),
            u32("tokenizer.ggml.eos_token_id", 1),
            u32("tokenizer.ggml.bos_token_id", 0),
            text("tokenizer.chat_template", TEMPLATE),
        ]
        tensors, data = [], bytearray()
        for name, rows in base.tensors.items():
            data += bytes(-len(data) % 32)
            tensors.append((base.gguf_names[name].encode(), rows.shape[::-1], 0, len(data)))
            data += rows.tobytes()
        return cls(values=values, tensors=tensors, data=bytes(data))

    def header(self) -> bytes:
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        value_count = len(self.values) if self.value_count is None else self.value_count
        out = bytearray(b"GGUF" + struct.pack("<IQQ", self.version, tensor_count, value_count))
        for key, kind, raw in self.values:
            out += _string(key) + struct.pack("<I", kind) + raw
        for name, shape, kind, offset in self.tensors:
            out += _string(name) + struct.pack("<I", len(shape))
            out += b"".join(struct.pack("<Q", n) for n in shape)
            out += struct.pack("<IQ", kind, offset)
        return bytes(out)

    def whole(self) -> bytes:
        header = self.header()
        return header + bytes(-len(header) % 32) + self.data


def _string(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def text(key: str, value: str) -> tuple[bytes, int, bytes]:
    return key.encode(), 8, _string(value.encode("utf-8", "surrogatepass"))


def u32(key: str, value: int) -> tuple[bytes, int, bytes]:
    return key.encode(), 4, struct.pack("<I", value)


def strings(key: str, values: list[str]) -> tuple[bytes, int, bytes]:
    raw = struct.pack("<IQ", 8, len(values)) + b"".join(_string(v.encode()) for v in values)
    return key.encode(), 9, raw


def numbers(key: str, kind: int, values: list[int]) -> tuple[bytes, int, bytes]:
    code = {0: "B", 4: "I", 5: "i", 10: "Q"}[kind]
    return key.encode(), 9, struct.pack(f"<IQ{len(values)}{code}", kind, len(values), *values)


def good_folder(base: Base, folder: Path) -> Path:
    """The good folder."""
    path = folder / "model"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "model.safetensors").write_bytes(base.safetensors)
    (path / "tokenizer.json").write_text(json.dumps(base.tokenizer))
    special = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE}
    (path / "tokenizer_config.json").write_text(json.dumps(special))
    return path
