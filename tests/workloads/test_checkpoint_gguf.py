"""A GGUF file that is damaged, lies or holds another model is refused in one line."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoints import (
    SMALL,
    llama3_factors,
    random_model,
    refusal,
    truncate,
    write_gguf,
)

BAD_GGUF: dict[str, tuple[dict[str, Any], str]] = {
    "experts": ({"keys": {"expert_count": 8}}, "llama.expert_count = 8"),
    "soft capping": ({"keys": {"attn_logit_softcapping": 30.0}}, "attn_logit_softcapping"),
    "sliding window": ({"keys": {"attention.sliding_window": -4}}, "sliding_window = -4"),
    "yarn": ({"keys": {"rope.scaling.type": "yarn"}}, "rope.scaling.factor is missing"),
    "longrope": ({"keys": {"rope.scaling.type": "longrope"}}, "rope.scaling.type = 'longrope'"),
    "partial rotary": ({"keys": {"rope.dimension_count": 8}}, "partial rotary"),
    "narrower values": ({"keys": {"attention.value_length": 8}}, "keys are 16 wide"),
    "heads a layer": ({"keys": {"attention.head_count": [2, 2]}}, "not a whole number"),
    "no heads": ({"keys": {"attention.head_count": 0}}, "attention.head_count = 0"),
    "negative width": ({"keys": {"embedding_length": -32}}, "embedding_length = -32"),
    "huge width": ({"keys": {"feed_forward_length": 2**26}}, "but its header asks for"),
    "epsilon NaN": ({"keys": {"attention.layer_norm_rms_epsilon": float("nan")}}, "= nan"),
    "base zero": ({"keys": {"rope.freq_base": 0.0}}, "rope.freq_base = 0.0"),
    "width a text": ({"keys": {"embedding_length": "32"}}, "embedding_length = '32'"),
    "one of several parts": ({"keys": {"split.count": 3}}, "one of 3 parts"),
    "vocabulary": ({"keys": {"vocab_size": 18}}, "but its header asks for [18, 32]"),
    "foreign architecture": ({"architecture": "gemma3"}, "general.architecture = 'gemma3'"),
    "tensor missing": ({"omit": ("blk.0.ffn_up.weight",)}, "'blk.0.ffn_up.weight' is missing"),
    "embedding missing": ({"omit": ("token_embd.weight",)}, "'token_embd.weight' is missing"),
    "tensor unknown": (
        {"extra": {"blk.0.attn_q_norm.weight": np.ones(16, np.float32)}},
        "'blk.0.attn_q_norm.weight' has no place",
    ),
    "tensor of another shape": (
        {"omit": ("output_norm.weight",), "extra": {"output_norm.weight": np.ones(31, np.float32)}},
        "has shape [31]",
    ),
    "tensor of integers": (
        {"omit": ("output_norm.weight",), "extra": {"output_norm.weight": np.ones(32, np.int32)}},
        "'output_norm.weight' has unsupported type",
    ),
    "other rotary factors": (
        {"extra": {"rope_freqs.weight": np.linspace(1, 3, 8, dtype=np.float32)}},
        "not Llama 3.1's scaling",
    ),
    "rotary factors NaN": (
        {"extra": {"rope_freqs.weight": np.full(8, np.nan, dtype=np.float32)}},
        "impossible factors",
    ),
    "rotary factors infinite": (
        {"extra": {"rope_freqs.weight": np.full(8, np.inf, dtype=np.float32)}},
        "impossible factors",
    ),
    "too few rotary factors": (
        {"extra": {"rope_freqs.weight": np.ones(4, np.float32)}},
        "not one factor a frequency",
    ),
    "two rotary scalings": (
        {
            "keys": {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0},
            "extra": {"rope_freqs.weight": llama3_factors(16, 8.0)},
        },
        "not Llama 3.1's scaling",
    ),
}


@pytest.mark.parametrize("name", BAD_GGUF)
def test_a_bad_gguf_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    arguments, message = BAD_GGUF[name]
    path = tmp_path / "bad.gguf"
    write_gguf(path, random_model(**SMALL), **arguments)
    assert message in refusal(path)


HUGE = 2**60

RAW_GGUF = {
    "text": (b"once upon a time", "not a GGUF file"),
    "empty": (b"", "the file is empty"),
    "magic only": (b"GGUF", "truncated"),
    "version 1": (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little endian"),
    "endless values": (b"GGUF" + struct.pack("<IQQ", 3, 0, HUGE), "more than"),
    "endless tensors": (b"GGUF" + struct.pack("<IQQ", 3, HUGE, 0), "more than"),
    "endless key": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, HUGE), "truncated"),
    "endless numbers": (
        b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 0, HUGE),
        "more than",
    ),
    "endless texts": (
        b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, HUGE),
        "more than",
    ),
    "nested arrays": (
        b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 9, 1),
        "array of unknown type 9",
    ),
    "unknown type": (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 77), "unknown type 77"),
    "no text": (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"\xff", 0), "not UTF-8"),
}


@pytest.mark.parametrize("name", RAW_GGUF)
def test_bytes_that_are_no_gguf(name: str, tmp_path: Path) -> None:
    data, message = RAW_GGUF[name]
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    assert message in refusal(path)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
def test_a_truncated_gguf(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    write_gguf(path, random_model(**SMALL))
    truncate(path, keep)
    assert "truncated" in refusal(path)
