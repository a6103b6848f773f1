"""The Llama program computes what transformers computes from the same checkpoint.

Error: the largest over 64 greedy steps of ‖ours − theirs‖₂ / ‖theirs‖₂ of the step's logits, both
in float32 on the CPU.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_checkpoints import (
    edit_json,
    greedy,
    llama3_factors,
    random_model,
    reference_greedy,
    save,
    write_gguf,
)

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.workload import Case
from tpubench.workloads._checkpoint import load, read_config
from tpubench.workloads._tokenizer import read_tokenizer
from tpubench.workloads.llama.config import PRESETS, LlamaConfig
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.rope import RopeScaling

STEPS = 64
TOLERANCE = 1e-3

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

YARN = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 8.0,
    "original_max_position_embeddings": 32,
}

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0, 2.5],
    "long_factor": [2.0, 3.0, 4.0, 6.0, 8.0, 9.0],
    "partial_rotary_factor": 0.75,
}

CASES: dict[str, dict[str, Any]] = {
    "plain, grouped queries": {},
    "every query head its own keys": {"num_key_value_heads": 4},
    "one key head": {"num_key_value_heads": 1},
    "three query heads a key head": {"hidden_size": 96, "num_attention_heads": 6},
    "wide heads": {"head_dim": 32},
    "narrow heads": {"head_dim": 8},
    "tied head": {"tie_word_embeddings": True},
    "attention biases": {"attention_bias": True},
    "another rotary base": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "linear scaling": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    },
    "llama3 scaling": {"rope_parameters": LLAMA3},
    "yarn scaling": {"rope_parameters": YARN},
    "yarn, every setting": {
        "head_dim": 32,
        "rope_parameters": {
            **YARN,
            "beta_fast": 20.0,
            "beta_slow": 2.0,
            "attention_factor": 1.3,
            "truncate": False,
        },
    },
    "yarn, two scales": {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}},
    "feed-forward biases": {"mlp_bias": True},
    "everything at once": {
        "rope_parameters": LLAMA3,
        "head_dim": 24,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "vocab_size": 131,
        "rms_norm_eps": 1e-3,
    },
    "shards": {"shard": "60KB"},
    "Mistral": {"kind": "Mistral", "sliding_window": None, "head_dim": 16},
    "Mistral within its window": {"kind": "Mistral", "sliding_window": 200, "head_dim": 16},
    "Qwen2": {"kind": "Qwen2"},
    "Qwen2, its last layer within its window": {
        "kind": "Qwen2",
        "use_sliding_window": True,
        "sliding_window": 200,
        "max_window_layers": 1,
    },
    "Phi-3": {"kind": "Phi3", "pad_token_id": 0},
    "Phi-3, three quarters of a head, tied": {
        "kind": "Phi3",
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 0.75,
        },
    },
    "Phi-3, longrope within its original context": {
        "kind": "Phi3",
        "pad_token_id": 0,
        "original_max_position_embeddings": 200,
        "rope_parameters": LONGROPE,
    },
    "Llama, longrope": {
        "original_max_position_embeddings": 200,
        "rope_parameters": {
            **{key: value for key, value in LONGROPE.items() if key != "partial_rotary_factor"},
            "short_factor": [*LONGROPE["short_factor"], 2.6, 2.7],
            "long_factor": [*LONGROPE["long_factor"], 9.0, 9.0],
            "attention_factor": 1.3,
        },
    },
    "GLM, half of a head, pairs side by side": {"kind": "Glm", "head_dim": 16, "pad_token_id": 0},
    "GLM, whole heads, no biases": {
        "kind": "Glm",
        "head_dim": 24,
        "pad_token_id": 0,
        "attention_bias": False,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "partial_rotary_factor": 1.0,
        },
    },
    "GLM, a quarter of a head, linear scaling": {
        "kind": "Glm",
        "head_dim": 32,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "linear",
            "rope_theta": 1e4,
            "factor": 4.0,
            "partial_rotary_factor": 0.25,
        },
    },
    "Qwen3": {"kind": "Qwen3", "head_dim": 24},
    "Qwen3, tied, biases": {
        "kind": "Qwen3",
        "head_dim": 16,
        "tie_word_embeddings": True,
        "attention_bias": True,
    },
}


def built(path: Path) -> Llama:
    model = Llama(read_config(path), 256, torch.float32)
    load(path, model)
    return model


def assert_parity(ours: Llama, theirs: Any, prompt: list[int]) -> list[int]:
    """Same logits and same greedy tokens; returns the tokens."""
    tokens, logits = greedy(ours, prompt, STEPS)
    expected_tokens, expected = reference_greedy(theirs, prompt, STEPS)
    error = ((logits - expected).norm(dim=1) / expected.norm(dim=1)).max()
    print(f"relative L2 error {error:.2e}, {STEPS} tokens")
    assert error <= TOLERANCE
    assert tokens == expected_tokens
    return tokens


def prompt_for(model: Any) -> list[int]:
    """Longer than the original context of the scaled cases, so that scaling matters."""
    torch.manual_seed(1)
    return torch.randint(0, model.config.vocab_size, (100,)).tolist()


@pytest.mark.parametrize("case", CASES)
def test_matches_transformers_on_a_folder_it_saved(case: str, tmp_path: Path) -> None:
    theirs = save(tmp_path, **CASES[case])
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or case != "shards"
    assert_parity(built(tmp_path), theirs, prompt_for(theirs))


@pytest.mark.parametrize("form", ["rope_type", "type"])
def test_reads_the_older_form_of_rotary_scaling(form: str, tmp_path: Path) -> None:
    theirs = save(tmp_path, rope_parameters=LLAMA3)
    old = {k: v for k, v in LLAMA3.items() if k not in ("rope_type", "rope_theta")}
    edit_json(
        tmp_path / "config.json",
        remove=("rope_parameters",),
        rope_theta=LLAMA3["rope_theta"],
        rope_scaling={**old, form: "llama3"},
    )
    assert_parity(built(tmp_path), theirs, prompt_for(theirs))


@pytest.mark.parametrize("name", ["longrope", "su", "yarn"])
def test_reads_phi_as_it_was_published(name: str, tmp_path: Path) -> None:
    """Its scaling under three names, everything else beside it, and a word of its own code."""
    theirs = save(tmp_path, **CASES["Phi-3, longrope within its original context"])
    edit_json(
        tmp_path / "config.json",
        remove=("rope_parameters",),
        rope_theta=1e4,
        partial_rotary_factor=0.75,
        rope_scaling={"type": name, **{k: LONGROPE[k] for k in ("short_factor", "long_factor")}},
        auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
    )
    assert_parity(built(tmp_path), theirs, prompt_for(theirs))
    config = read_config(tmp_path)
    assert LlamaConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("kind", "architecture", "changes"),
    [
        ("Llama", "llama", {"num_key_value_heads": 1, "head_dim": 24}),
        ("Llama", "llama", {"attention_bias": True, "tie_word_embeddings": True}),
        ("Qwen2", "qwen2", {}),
        ("Qwen3", "qwen3", {"head_dim": 24}),
    ],
)
def test_matches_transformers_on_a_gguf(
    kind: str, architecture: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    theirs = random_model(kind, **changes)
    theirs.config.head_dim = theirs.model.layers[0].self_attn.head_dim
    write_gguf(tmp_path / "tiny.gguf", theirs, architecture=architecture)
    assert_parity(built(tmp_path / "tiny.gguf"), theirs, prompt_for(theirs))


def test_linear_scaling_of_a_gguf(tmp_path: Path) -> None:
    theirs = random_model(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0})
    keys = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
    write_gguf(tmp_path / "tiny.gguf", theirs, keys=keys)
    assert_parity(built(tmp_path / "tiny.gguf"), theirs, prompt_for(theirs))


def test_yarn_scaling_of_a_gguf(tmp_path: Path) -> None:
    theirs = random_model(rope_parameters=YARN)
    keys = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": 8.0,
        "rope.scaling.original_context_length": 32,
    }
    write_gguf(tmp_path / "tiny.gguf", theirs, keys=keys)
    assert_parity(built(tmp_path / "tiny.gguf"), theirs, prompt_for(theirs))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Mistral within its window", "sliding window of 200 tokens"),
        ("Phi-3, longrope within its original context", "200 tokens of x's original context"),
    ],
)
def test_a_context_beyond_what_is_computed_is_refused(name: str, why: str, tmp_path: Path) -> None:
    save(tmp_path, **CASES[name])
    workload = registry.workload("llama-infer")
    for output_len, fits in ((100, True), (101, False)):
        case = Case(
            workload="llama-infer", workload_version=workload.version, preset="x",
            params={"input_len": 100, "output_len": output_len, "batch": 1, "dtype": "float32"},
            shape=read_config(tmp_path).to_json(),
        )  # fmt: skip
        if fits:
            workload.validate(case)
        else:
            with pytest.raises(UsageError, match=why):
                workload.validate(case)


def test_llama3_scaling_of_a_gguf_is_recognised_by_its_factors(tmp_path: Path) -> None:
    # A GGUF keeps only the factors; those of the published models' 8192 tokens are recognised.
    rope = {**LLAMA3, "original_max_position_embeddings": 8192}
    theirs = random_model(rope_parameters=rope, head_dim=64, max_position_embeddings=16384)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, theirs, extra={"rope_freqs.weight": llama3_factors(64, 8.0)})
    assert read_config(path).rope_scaling == RopeScaling(kind="llama3", factor=8.0)
    assert_parity(built(path), theirs, prompt_for(theirs))


@pytest.fixture(scope="module")
def smollm2(smollm2_gguf: Path) -> Any:
    """transformers' reading of the real checkpoint."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        smollm2_gguf.parent, gguf_file=smollm2_gguf.name, dtype=torch.float32
    )
    model.generation_config.eos_token_id = None  # answers run to their full length
    return model


def test_smollm2_is_the_preset_of_that_name(smollm2_gguf: Path) -> None:
    assert read_config(smollm2_gguf) == PRESETS["smollm2-135m"]


def test_smollm2_answers_as_in_transformers(smollm2_gguf: Path, smollm2: Any) -> None:
    tokenizer = read_tokenizer(smollm2_gguf)
    prompt = tokenizer.encode_chat("What is the capital of France?")
    tokens = assert_parity(built(smollm2_gguf), smollm2, prompt)
    assert tokenizer.decode(tokens) == "The capital of France is Paris."
