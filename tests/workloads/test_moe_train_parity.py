"""A correct training of experts passes every parity check; every defect fails one, by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import none, outcome
from moe_train_defects import DEFECTS, case

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import Experts
from tpubench.workloads.moe_pretrain.step import MoeStep

SIZES = {"batch": 2, "seq_len": 32}
DEPTH, WIDTH = 6, 64
NAMES = {
    "float32 twin",
    "gradient",
    "loss",
    "optimizer",
    "timed loss",
    "timed step",
    "routing",
    "worst route",
}
CAUGHT_BY = {
    "stale loss": "timed loss",
    "idle optimizer": "optimizer",
    "idle optimizer in the window": "optimizer",
    "moments lost": "optimizer",
    "no weight decay": "optimizer",
    "weights kept in bfloat16": "optimizer",
    "router gradient missing when deep": "gradient",
    "experts without an optimizer": "optimizer",
    "next best experts": "routing",
}
KINDS = {
    "Mixtral": Experts(routed=8, top_k=2, d_ffn=0),
    "Qwen3": Experts(routed=32, top_k=8, d_ffn=0),
    "DeepSeek": Experts(routed=32, top_k=6, d_ffn=0, shared=2, normalised=False, dense_layers=1),
}


def judged(
    asked: Case, defect: Callable[[MoeStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    return {p.name: p for p in outcome(registry.workload("moe-pretrain"), asked, defect, cache)}


@pytest.mark.parametrize(
    ("kind", "dtype", "balance"),
    [
        ("Mixtral", "bfloat16", "none"),
        ("Mixtral", "float32", "pooled"),
        ("Qwen3", "bfloat16", "pooled"),
        ("DeepSeek", "bfloat16", "sequence"),
        ("DeepSeek", "float32", "sequence"),
    ],
)
def test_a_correct_program_passes(
    kind: str, dtype: str, balance: str, cache: ReferenceCache
) -> None:
    asked = case(DEPTH, WIDTH, experts=KINDS[kind], dtype=dtype, balance=balance, **SIZES)
    checks = judged(asked, none, cache)
    assert set(checks) == NAMES
    for check in checks.values():
        assert check.ok, check.fault()
    assert checks["float32 twin"].error < 2e-5


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    asked = case(DEPTH, WIDTH, dtype="bfloat16", **SIZES)
    checks = judged(asked, DEFECTS[name], cache)
    caught = {name for name, check in checks.items() if not check.ok}
    assert CAUGHT_BY.get(name, "float32 twin") in caught


@pytest.mark.parametrize("balance", ["pooled", "sequence"])
def test_every_option_together_is_right(balance: str, cache: ReferenceCache) -> None:
    asked = case(
        DEPTH, WIDTH, dtype="bfloat16", balance=balance, batch=4, seq_len=32, accumulate=2,
        clip="0.1", schedule="cosine", warmup=4, recompute="full",
    )  # fmt: skip
    for check in judged(asked, none, cache).values():
        assert check.ok, check.fault()


def test_what_is_remembered_of_sequences_balanced_together_is_not_that_of_parts(
    cache: ReferenceCache,
) -> None:
    for parts in (1, 2):
        sizes = {"batch": 2, "seq_len": 32, "accumulate": parts}
        asked = case(DEPTH, WIDTH, dtype="float32", balance="pooled", **sizes)
        for check in judged(asked, none, cache).values():
            assert check.ok, (parts, check.fault())
