"""``gemm`` and ``hbm``: every element counts, and float32 is judged as the device computes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from limits_defects import BENCH, case, none, operands_rounded
from llama_defects import means

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights


def judged(
    case: Case, defect: Callable[[Any], None] = none, precision: str = "float32"
) -> dict[str, Parity]:
    workload = registry.workload(case.workload)
    step: Any = workload.build(case, Device(torch_device="cpu"), Weights())
    lent = means(workload, defect, ReferenceCache(Path("unused")))
    checks = workload.checks(case, step, replace(lent, float32_precision=precision))
    defect(step)
    step.run(lambda *_: None)
    return {check.name: check for check in checks()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [{}, {"m": 3, "n": 70, "k": 1000}])
def test_a_right_product_passes(dtype: str, shape: dict[str, int]) -> None:
    assert all(check.ok for check in judged(case("gemm", dtype=dtype, **shape)).values())


@pytest.mark.parametrize(
    ("limit_case", "name"),
    [
        pytest.param(limit_case, name, id=f"{limit_case.workload}: {limit_case.label()}: {name}")
        for limit_case, defects in BENCH
        for name in defects
    ],
)
def test_a_defect_is_caught(limit_case: Case, name: str) -> None:
    defects = next(defects for case, defects in BENCH if case is limit_case)
    caught = {check.name for check in judged(limit_case, defects[name]).values() if not check.ok}
    assert caught
    if name in {"last product again", "nothing the second time"}:
        assert caught == {"other values"}, "what it left is right"


@pytest.mark.parametrize(
    ("bits", "stated", "passes"),
    [
        (10, "tf32", True),
        (10, "float32", False),
        (7, "bfloat16", True),
        (7, "tf32", False),
        (7, "float32", False),
        (4, "bfloat16", False),
    ],
)
def test_float32_is_judged_by_the_precision_that_the_device_states(
    bits: int, stated: str, passes: bool
) -> None:
    checks = judged(case("gemm", dtype="float32"), operands_rounded(bits), stated)
    assert all(check.ok for check in checks.values()) == passes


KERNELS = ("read", "copy", "triad")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_right_traffic_passes(kernel: str, dtype: str) -> None:
    assert all(c.ok for c in judged(case("hbm", kernel=kernel, mib=1, dtype=dtype)).values())
