"""``gemm`` and ``hbm``: every element counts, and float32 is judged as the device computes it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from llama_defects import around, means

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights


def case(name: str, **settings: object) -> Case:
    texts = {key: [str(value)] for key, value in settings.items()}
    preset = "square-512" if name == "gemm" else str(settings.get("kernel"))
    return registry.workload(name).cases(preset, texts)[0]


def judged(
    found: Case, defect: Callable[[Any], None] = lambda step: None, precision: str = "float32"
) -> dict[str, Parity]:
    workload = registry.workload(found.workload)
    step: Any = workload.build(found, Device(torch_device="cpu"), Weights())
    lent = means(workload, defect, ReferenceCache(Path("unused")))
    checks = workload.checks(found, step, replace(lent, float32_precision=precision))
    defect(step)
    step.run(lambda *_: None)
    return {check.name: check for check in checks()}


def product(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    return lambda step: around(step.layer, "forward", lambda plain, x: change(plain(x).clone()))


def rounded(bits: int) -> Callable[[Any], None]:
    """Operands with so many bits after the point, as TF32 (10) and bfloat16 (7) have."""

    def round_(tensor: Tensor) -> Tensor:
        scale = 2.0 ** (torch.frexp(tensor).exponent - 1 - bits).float()
        return (tensor / scale).round() * scale

    def defect(step: Any) -> None:
        with torch.no_grad():
            step.a_MK.copy_(round_(step.a_MK))
            (weight,) = step.layer.parameters()
            weight.copy_(round_(weight))

    return defect


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [{}, {"m": 3, "n": 70, "k": 1000}])
def test_a_right_product_passes(dtype: str, shape: dict[str, int]) -> None:
    assert all(check.ok for check in judged(case("gemm", dtype=dtype, **shape)).values())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_one_wrong_element_is_caught(dtype: str) -> None:
    def change(c_MN: Tensor) -> Tensor:
        c_MN[301, 77] *= 1.5
        return c_MN

    assert not judged(case("gemm", dtype=dtype), product(change))["every element"].ok


def test_a_row_that_is_not_computed_is_caught() -> None:
    def change(c_MN: Tensor) -> Tensor:
        c_MN[-1] = 0
        return c_MN

    assert not judged(case("gemm"), product(change))["every element"].ok


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
    checks = judged(case("gemm", dtype="float32"), rounded(bits), stated)
    print({check.name: (check.error, check.tolerance) for check in checks.values()})
    assert all(check.ok for check in checks.values()) == passes


KERNELS = ("read", "copy", "triad")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_right_traffic_passes(kernel: str, dtype: str) -> None:
    assert all(c.ok for c in judged(case("hbm", kernel=kernel, mib=1, dtype=dtype)).values())


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_that_does_nothing_the_second_time_is_caught(kernel: str) -> None:
    """What it left is right, since nothing changes between passes: other values show it."""

    def defect(step: Any) -> None:
        step.run(lambda *_: None)
        around(step, "_kernel", lambda plain: None)

    checks = judged(case("hbm", kernel=kernel, mib=1), defect)
    assert checks["window"].ok
    assert not checks["other values"].ok


@pytest.mark.parametrize("kernel", ["copy", "triad"])
def test_one_element_that_was_not_written_is_caught(kernel: str) -> None:
    def kernel_(plain: Callable[[], None], step: Any) -> None:
        plain()
        step.target[-3] += 1

    def defect(step: Any) -> None:
        around(step, "_kernel", lambda plain: kernel_(plain, step))

    assert not any(c.ok for c in judged(case("hbm", kernel=kernel, mib=1), defect).values())


def test_half_an_array_read_is_caught() -> None:
    def defect(step: Any) -> None:
        def kernel(plain: Callable[[], None]) -> None:
            step.total = step.source[: len(step.source) // 2].sum(dtype=torch.float32)

        around(step, "_kernel", kernel)

    assert not any(c.ok for c in judged(case("hbm", kernel="read", mib=1), defect).values())
