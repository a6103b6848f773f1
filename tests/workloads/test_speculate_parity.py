"""A correct speculating program passes every parity check; every defect fails one, by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import none, outcome
from speculate_defects import DEFECTS, Defect, case

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache

SIZES = {"batch": 2, "input_len": 12, "output_len": 16}
DEPTH, WIDTH = 5, 64
CAUGHT_BY = {
    "missing layer when deep": "logits",
    "draft with fp8 weights": "draft logits",
    "drafted one position late": "draft logits",
    "draft never takes its last proposal": "poisoned cache",
    "refused proposals not verified": "logits",
    "refused proposals counted": "acceptance",
    "keeps less than pinned": "acceptance",
    "proposals all the last": "draft regret",
}


def judged(defect: Defect, cache: ReferenceCache, **settings: int | str) -> dict[str, Parity]:
    small_case = case(DEPTH, WIDTH, **{**SIZES, **settings})
    workload = registry.workload("llama-speculate")
    return {check.name: check for check in outcome(workload, small_case, defect, cache)}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("draft", ["tiny-draft", "none"])
def test_a_correct_program_passes(dtype: str, draft: str, cache: ReferenceCache) -> None:
    checks = judged(none, cache, dtype=dtype, draft=draft)
    for check in checks.values():
        assert check.ok, check.fault()
    assert checks["float32 twin"].error < 1e-5
    assert checks["poisoned cache"].error == checks["acceptance"].error == 0
    assert ("draft logits" in checks) == (draft != "none")


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    checks = judged(DEFECTS[name], cache, dtype="bfloat16")
    caught = {name for name, check in checks.items() if not check.ok}
    assert CAUGHT_BY.get(name, "float32 twin") in caught


@pytest.mark.parametrize(
    "settings",
    [{"output_len": 2}, {"acceptance_percent": 100}, {"acceptance_percent": 0}, {"batch": 10}],
    ids=str,
)
def test_a_correct_program_passes_at_the_ends(
    settings: dict[str, int | str], cache: ReferenceCache
) -> None:
    checks = judged(none, cache, dtype="bfloat16", **settings)
    for check in checks.values():
        assert check.ok, check.fault()
