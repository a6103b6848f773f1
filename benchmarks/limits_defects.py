"""Faults that ``gemm`` and ``hbm`` can have, put into a built step on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from llama_defects import around
from torch import Tensor

from tpubench.suite import registry
from tpubench.suite.workload import Case


def case(name: str, **settings: object) -> Case:
    """One case of a workload, by its settings."""
    texts = {key: [str(value)] for key, value in settings.items()}
    preset = "square-512" if name == "gemm" else str(settings.get("kernel"))
    return registry.workload(name).cases(preset, texts)[0]


def none(step: Any) -> None:
    """The program as it is."""


def _product(change: Callable[[Tensor], Tensor]) -> Callable[[Any], None]:
    return lambda step: around(step.layer, "forward", lambda plain, x: change(plain(x).clone()))


def operands_rounded(bits: int) -> Callable[[Any], None]:
    """Operands with so many bits after the point, as TF32 (10), bfloat16 (7) and fp8 (3) have."""

    def rounded(tensor: Tensor) -> Tensor:
        scale = 2.0 ** (torch.frexp(tensor).exponent - 1 - bits).float()
        return ((tensor / scale).round() * scale).to(tensor.dtype)

    def defect(step: Any) -> None:
        def inside(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
            return plain(rounded(x))

        with torch.no_grad():
            (weight,) = step.layer.parameters()
            weight.copy_(rounded(weight))
        around(step.layer, "forward", inside)

    return defect


def _element(c_MN: Tensor) -> Tensor:
    c_MN[-3, -2] *= 1.5
    return c_MN


def _last_row(c_MN: Tensor) -> Tensor:
    c_MN[-1] = 0
    return c_MN


def half_of_k(step: Any) -> None:
    """Products summed over half of the columns, and doubled."""

    def inside(plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        half = x.clone()
        half[:, half.shape[1] // 2 :] = 0
        return 2 * plain(half)

    around(step.layer, "forward", inside)


def last_product_again(step: Any) -> None:
    """Right at first, and never computed again: only other operands show it."""
    step.run(lambda *_: None)
    kept = step.c_MN.clone()
    around(step.layer, "forward", lambda plain, x: kept)


def nothing_the_second_time(step: Any) -> None:
    """What it left is right, since nothing changes between passes: only other values show it."""
    step.run(lambda *_: None)
    around(step, "_kernel", lambda plain: None)


def one_element_wrong(step: Any) -> None:
    """Of what is written; a sum is one number anyway."""

    def kernel(plain: Callable[[], None]) -> None:
        plain()
        step.target[-3] += 1

    around(step, "_kernel", kernel)


def half_an_array(step: Any) -> None:
    """The second half is neither read nor written."""

    def kernel(plain: Callable[[], None]) -> None:
        target = step.target.clone()
        plain()
        half = len(target) // 2
        step.target[half:] = target[half:]
        step.total = step.source[:half].sum(dtype=torch.float32)

    around(step, "_kernel", kernel)


def read_too_early(step: Any) -> None:
    """What the memory held before the device came to it."""

    def poison(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        for name in ("c_MN", "target", "total"):
            if hasattr(step, name):
                setattr(step, name, torch.full_like(getattr(step, name), float("nan")))

    around(step, "run", poison)


Defects = Mapping[str, Callable[[Any], None]]

GEMM: Defects = {
    "one wrong element": _product(_element),
    "last row not computed": _product(_last_row),
    "half of k": half_of_k,
    "operands with 3 bits (fp8)": operands_rounded(3),
    "last product again": last_product_again,
    "read too early": read_too_early,
}
FLOAT32_GEMM: Defects = {
    **GEMM,
    "operands with 10 bits (TF32)": operands_rounded(10),
    "operands with 7 bits (bfloat16)": operands_rounded(7),
}
"""Where the device says that its float32 products are float32."""
READ: Defects = {
    "half an array": half_an_array,
    "nothing the second time": nothing_the_second_time,
    "read too early": read_too_early,
}
WRITE: Defects = {"one element wrong": one_element_wrong, **READ}
BENCH: tuple[tuple[Case, Defects], ...] = (
    (case("gemm", dtype="bfloat16"), GEMM),
    (case("gemm", dtype="float32"), FLOAT32_GEMM),
    (case("hbm", kernel="read", mib=1), READ),
    (case("hbm", kernel="copy", mib=1), WRITE),
    (case("hbm", kernel="triad", mib=1), WRITE),
)
"""Cases, and the defects that each is held to."""
