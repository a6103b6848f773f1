"""A correct mixture passes every parity check; every defect of one fails a check, by name.

The table of all of them at full depth is made by ``benchmarks/parity_defects.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import none, outcome
from moe_defects import DEFECTS, case

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import Experts
from tpubench.workloads.llama.step import LlamaStep

SIZES = {"batch": 3, "input_len": 16, "output_len": 8}
DEPTH, WIDTH = 6, 64
NAMES = (
    "float32 twin",
    "poisoned cache",
    "logits",
    "regret",
    "routing",
    "worst route",
    "worst token",
)
KINDS = {
    "Mixtral": Experts(routed=8, top_k=2, d_ffn=0),
    "Qwen3": Experts(routed=32, top_k=8, d_ffn=0),
    "DeepSeek": Experts(routed=32, top_k=6, d_ffn=0, shared=2, normalised=False, dense_layers=1),
}


def judged(
    asked: Case, defect: Callable[[LlamaStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    return {p.name: p for p in outcome(registry.workload("moe-infer"), asked, defect, cache)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_correct_program_passes(kind: str, dtype: str, cache: ReferenceCache) -> None:
    asked = case(DEPTH, WIDTH, experts=KINDS[kind], dtype=dtype, **SIZES)
    checks = judged(asked, none, cache)
    assert set(checks) == set(NAMES)
    for check in checks.values():
        assert check.ok, check.fault()
    assert checks["float32 twin"].error < 1e-5
    assert checks["poisoned cache"].error == 0


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, dtype="bfloat16", **SIZES), DEFECTS[name], cache)
    assert "float32 twin" in {name for name, check in checks.items() if not check.ok}


@pytest.mark.parametrize("name", ["next best experts", "one expert twice"])
def test_a_wrong_route_that_is_noted_fails_by_its_own_name(
    name: str, cache: ReferenceCache
) -> None:
    checks = judged(case(DEPTH, WIDTH, dtype="bfloat16", **SIZES), DEFECTS[name], cache)
    assert not checks["routing"].ok and not checks["worst route"].ok


def test_the_route_of_every_sequence_is_judged(cache: ReferenceCache) -> None:
    asked = case(DEPTH, WIDTH, dtype="bfloat16", **{**SIZES, "batch": 12})
    checks = judged(asked, none, cache)
    assert all(check.ok for check in checks.values())
    assert str(12 * 23 * 5) in checks["routing"].what, "sequences, tokens fed, layers with experts"
