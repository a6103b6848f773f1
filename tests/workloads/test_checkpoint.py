"""Loading a checkpoint gives exactly its weights, or one line that says what is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from safetensors.torch import load_file, save_file
from tiny_checkpoints import (
    SMALL,
    edit_json,
    gguf_name,
    interleave,
    loaded,
    random_model,
    refusal,
    save,
    truncate,
    write_gguf,
)

from tpubench.errors import UsageError
from tpubench.workloads._checkpoint import load, read_config
from tpubench.workloads.llama.model import Llama


def assert_weights(model: Llama, expected: dict[str, torch.Tensor]) -> None:
    """The fused parameters hold the expected tensors, in order."""
    for layer in range(model.config.n_layers):
        block, prefix = model.blocks[layer], f"model.layers.{layer}."
        projections = [expected[f"{prefix}self_attn.{p}_proj.weight"] for p in "qkv"]
        mlp = [expected[f"{prefix}mlp.{p}_proj.weight"] for p in ("gate", "up")]
        torch.testing.assert_close(
            block.attention.qkv.weight, torch.cat(projections), rtol=0, atol=0
        )
        torch.testing.assert_close(block.ffn.gate_up.weight, torch.cat(mlp), rtol=0, atol=0)
    torch.testing.assert_close(
        model.embedding.weight, expected["model.embed_tokens.weight"], rtol=0, atol=0
    )


# What is loaded


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_gguf_weights_are_the_dequantised_values(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    expected = write_gguf(path, random_model(), kind)
    assert_weights(loaded(path), {n: torch.tensor(w) for n, w in expected.items()})


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_gguf_k_quants(kind: str, tmp_path: Path) -> None:
    # The gguf package reads these but cannot write them: any bytes below 64 hold finite scales.
    theirs = random_model(hidden_size=256, intermediate_size=256, num_hidden_layers=1)
    quantization = GGMLQuantizationType[kind]
    block, block_bytes = gguf.GGML_QUANT_SIZES[quantization]
    generator, rows, expected = np.random.default_rng(0), {}, {}
    for name, tensor in theirs.state_dict().items():
        if tensor.dim() == 2:
            shape = (len(tensor), tensor.shape[1] // block * block_bytes)
            rows[name] = generator.integers(0, 64, shape, dtype=np.uint8)
            expected[name] = torch.tensor(gguf.dequantize(rows[name], quantization))
    path = tmp_path / "tiny.gguf"
    heads = {"q_proj": 4, "k_proj": 2}
    stored = {
        gguf_name(name): interleave(raw, heads[name.split(".")[-2]])
        if name.split(".")[-2] in heads
        else raw
        for name, raw in rows.items()
    }
    write_gguf(
        path, theirs, omit=tuple(stored), raw={n: (r, quantization) for n, r in stored.items()}
    )
    assert_weights(loaded(path), expected)


def test_weights_are_cast_to_the_precision_of_the_model(tmp_path: Path) -> None:
    theirs = save(tmp_path, **SMALL)
    expected = {n: w.to(torch.bfloat16) for n, w in theirs.state_dict().items()}
    assert_weights(loaded(tmp_path, torch.bfloat16), expected)


def test_folder_in_half_precision(tmp_path: Path) -> None:
    theirs = random_model(**SMALL).half()
    theirs.save_pretrained(tmp_path)
    assert_weights(loaded(tmp_path), {n: w.float() for n, w in theirs.state_dict().items()})


def test_stored_rotary_frequencies_are_ignored(tmp_path: Path) -> None:
    save(tmp_path, **SMALL)
    rewrite(tmp_path, add={"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    loaded(tmp_path)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path: Path) -> None:
    theirs = save(tmp_path, tie_word_embeddings=True, **SMALL)
    head = theirs.lm_head.weight.detach()
    rewrite(tmp_path, add={"lm_head.weight": head.clone()})
    loaded(tmp_path)
    rewrite(tmp_path, add={"lm_head.weight": head + 1})
    assert "ties them" in refusal(tmp_path)


def test_reading_a_configuration_imports_no_torch(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", save(tmp_path, **SMALL))
    program = (
        "import sys; from pathlib import Path; from tpubench.workloads._checkpoint import *\n"
        "for path in sys.argv[1:]: read_config(Path(path))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), str(tmp_path / "tiny.gguf")], check=True
    )


def test_a_model_built_for_another_shape_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "one", **SMALL)
    save(tmp_path / "two", **{**SMALL, "num_hidden_layers": 2})
    model = Llama(read_config(tmp_path / "one"), 8, torch.float32)
    with pytest.raises(UsageError, match="another model"):
        load(tmp_path / "two", model)


# Folders that are refused


def rewrite(
    folder: Path,
    add: dict[str, torch.Tensor] | None = None,
    remove: tuple[str, ...] = (),
) -> None:
    """Adds, replaces and removes tensors of a folder's one file."""
    file = folder / "model.safetensors"
    tensors = {**load_file(file), **(add or {})}
    save_file({n: t.contiguous() for n, t in tensors.items() if n not in remove}, file)


def config(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", **changes)


def rope(**values: Any) -> Callable[[Path], None]:
    return config(rope_parameters={"rope_theta": 1e4, **values})


def pickled_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def index(**files: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        text = json.dumps({"weight_map": files})
        (folder / "model.safetensors.index.json").write_text(text)

    return write


BAD_FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "config cut off": (lambda f: truncate(f / "config.json", 0.5), "not valid JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
    "config nested without end": (
        lambda f: (f / "config.json").write_text("[" * 100_000),
        "not valid JSON",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no *.safetensors"),
    "pickled": (pickled_only, "convert to safetensors"),
    "weights cut off": (lambda f: truncate(f / "model.safetensors", 0.9), "truncated"),
    "header cut off": (lambda f: truncate(f / "model.safetensors", 0.01), "truncated"),
    "weights empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "truncated"),
    "tensor missing": (
        lambda f: rewrite(f, remove=("model.norm.weight",)),
        "'model.norm.weight' is missing",
    ),
    "tensor unknown": (
        lambda f: rewrite(f, add={"model.layers.0.mlp.gate_proj.bias": torch.ones(32)}),
        "'model.layers.0.mlp.gate_proj.bias' has no place",
    ),
    "tensor of another shape": (
        lambda f: rewrite(f, add={"model.norm.weight": torch.ones(31)}),
        "'model.norm.weight' has shape [31], but its header asks for [32]",
    ),
    "tensor transposed": (
        lambda f: rewrite(f, add={"model.layers.0.self_attn.k_proj.weight": torch.ones(32, 16)}),
        "has shape [32, 16]",
    ),
    "tensor of integers": (
        lambda f: rewrite(f, add={"model.norm.weight": torch.ones(32, dtype=torch.int8)}),
        "stored as I8",
    ),
    "shard missing": (index(x="model-00001-of-00002.safetensors"), "is not in the folder"),
    "shard elsewhere": (index(x="../model.safetensors"), "is not in the folder"),
    "index without a map": (
        lambda f: (f / "model.safetensors.index.json").write_text("{}"),
        "no weight_map",
    ),
    "several files, no index": (
        lambda f: (
            [shutil.copy(f / "model.safetensors", f / f"{n}.safetensors") for n in ("a", "b")]
            and (f / "model.safetensors").unlink()
        ),
        "several *.safetensors",
    ),
    "foreign architecture": (config(model_type="gemma3"), "model_type = 'gemma3'"),
    "no architecture": (config(model_type=None), "model_type is missing"),
    "other head": (
        config(architectures=["LlamaForSequenceClassification"]),
        "supported: LlamaForCausalLM",
    ),
    "experts": (config(num_local_experts=8), "mixture of experts"),
    "mixtral": (config(model_type="mixtral"), "model_type = 'mixtral'"),
    "feed-forward biases that are not there": (
        config(mlp_bias=True),
        "gate_proj.bias' is missing",
    ),
    "own code": (config(auto_map={"AutoModelForCausalLM": "x.Y"}), "auto_map"),
    "gelu": (config(hidden_act="gelu"), "only silu"),
    "sliding window a text": (config(sliding_window="4096"), "sliding_window = '4096'"),
    "sliding window negative": (config(sliding_window=-1), "sliding_window = -1"),
    "sliding layers without a window": (
        config(layer_types=["sliding_attention"]),
        "no sliding_window is in use",
    ),
    "layers of another kind": (config(layer_types=["linear_attention"]), "full_attention"),
    "soft capping": (config(final_logit_softcapping=30.0), "soft-capped"),
    "fp8": (config(quantization_config={"quant_method": "fp8"}), "'fp8' quantisation"),
    "gptq": (config(quantization_config={"quant_method": "gptq"}), "'gptq' quantisation"),
    "yarn without a factor": (rope(rope_type="yarn"), "rope_parameters.factor is missing"),
    "yarn with a base of one": (
        rope(rope_type="yarn", factor=4.0, rope_theta=1.0),
        "a rotary base above 1",
    ),
    "yarn, its band turned over": (
        rope(rope_type="yarn", factor=4.0, beta_fast=1.0, beta_slow=8.0),
        "beta_fast is below beta_slow",
    ),
    "yarn, flag a number": (rope(rope_type="yarn", factor=4.0, truncate=3), "truncate = 3"),
    "dynamic": (rope(rope_type="dynamic", factor=4.0), "supported rotary scalings"),
    "longrope without factors": (
        config(rope_parameters=None, rope_scaling={"type": "longrope"}),
        "rope_scaling.short_factor = None: not a list of 8 numbers",
    ),
    "longrope, too few factors": (
        rope(rope_type="longrope", short_factor=[1.0] * 7, long_factor=[1.0] * 8),
        "short_factor = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]: not a list of 8 numbers",
    ),
    "longrope, a factor of nothing": (
        rope(rope_type="longrope", short_factor=[1.0] * 7 + [0.0], long_factor=[1.0] * 8),
        "short_factor = 0.0: not a number above zero",
    ),
    "longrope, factors of text": (
        rope(rope_type="longrope", short_factor=[1.0] * 8, long_factor=["1.0"] * 8),
        "long_factor = '1.0': not a number",
    ),
    "a share of a head that is no number of pairs": (
        config(model_type="phi3", architectures=None, partial_rotary_factor=0.2),
        "0.2 of 16 is no even number of values",
    ),
    "more than a head": (
        config(model_type="phi3", architectures=None, partial_rotary_factor=1.5),
        "1.5 of 16 is no even number of values",
    ),
    "two shares of a head": (
        lambda f: edit_json(
            f / "config.json",
            model_type="phi3",
            architectures=None,
            partial_rotary_factor=0.5,
            rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 0.75},
        ),
        "partial_rotary_factor = 0.5: 0.75 of 16",
    ),
    "GLM without a number of key heads": (
        config(model_type="glm", architectures=None, num_key_value_heads=None),
        "num_key_value_heads is missing",
    ),
    "Phi-3 with projections apart": (
        config(model_type="phi3", architectures=None),
        "'model.layers.0.self_attn.qkv_proj.weight' is missing",
    ),
    "StableLM": (config(model_type="stablelm"), "model_type = 'stablelm': supported: llama"),
    "Phi-2": (config(model_type="phi"), "model_type = 'phi': supported: llama"),
    "Nemotron": (config(model_type="nemotron"), "model_type = 'nemotron': supported: llama"),
    "GLM-4-0414, norms after its branches": (config(model_type="glm4"), "model_type = 'glm4'"),
    "two rotary scalings": (
        config(rope_scaling={"type": "linear", "factor": 2.0}),
        "says something else",
    ),
    "rotary scaling a text": (config(rope_parameters="linear"), "not a JSON object"),
    "rotary bases a layer type": (
        rope(full_attention={"rope_theta": 1e4}),
        "rope_parameters.full_attention",
    ),
    "linear without a factor": (rope(rope_type="linear"), "rope_parameters.factor is missing"),
    "llama3 without a band": (
        rope(rope_type="llama3", factor=8.0, low_freq_factor=4.0, high_freq_factor=4.0),
        "not above low_freq_factor",
    ),
    "partial rotary": (config(partial_rotary_factor=0.5), "not supported in this family"),
    "partial rotary, newer form": (
        rope(partial_rotary_factor=0.5),
        "partial rotary positions: not supported in this family",
    ),
    "width missing": (config(hidden_size=None), "hidden_size is missing"),
    "width negative": (config(hidden_size=-32), "hidden_size = -32"),
    "width huge": (config(hidden_size=10**30), "not a whole number from 1"),
    "width beyond the file": (config(hidden_size=2**25, head_dim=16), "but its header asks for"),
    "width a text": (config(hidden_size="32"), "hidden_size = '32'"),
    "width a flag": (config(hidden_size=True), "hidden_size = True"),
    "width a fraction": (config(hidden_size=32.0), "hidden_size = 32.0"),
    "no heads": (config(num_attention_heads=0), "num_attention_heads = 0"),
    "uneven heads": (config(num_attention_heads=3, num_key_value_heads=2), "cannot share"),
    "odd head width": (config(head_dim=15), "is odd"),
    "width no multiple": (config(num_attention_heads=5, head_dim=None), "is not a multiple"),
    "a million layers": (config(num_hidden_layers=10**6), "num_hidden_layers = 1000000"),
    "more layers than stored": (config(num_hidden_layers=2), "is missing"),
    "epsilon NaN": (config(rms_norm_eps=float("nan")), "rms_norm_eps = nan"),
    "epsilon negative": (config(rms_norm_eps=-1e-5), "rms_norm_eps = -1e-05"),
    "base infinite": (rope(rope_theta=float("inf")), "rope_theta = inf"),
    "tied a text": (config(tie_word_embeddings="no"), "neither true nor false"),
}


@pytest.fixture(scope="module")
def good_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good")
    save(path, **SMALL)
    return path


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_bad_folder_is_refused_in_one_line(name: str, good_folder: Path, tmp_path: Path) -> None:
    damage, message = BAD_FOLDERS[name]
    path = tmp_path / "model"
    shutil.copytree(good_folder, path)
    damage(path)
    assert message in refusal(path)


def test_paths_that_hold_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "model.pt").write_bytes(b"\x80\x04N.")
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refusal(tmp_path / "empty")
    assert "neither a folder" in refusal(tmp_path / "notes.txt")
    assert "no such file" in refusal(tmp_path / "missing")
    assert "No such file" in refusal(tmp_path / "missing.gguf")
    assert "convert it to safetensors" in refusal(tmp_path / "model.pt")
