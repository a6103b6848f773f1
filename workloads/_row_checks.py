"""What products of matrices are judged by: their rows, every element, and other values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpubench.suite.workload import Case, Means, Parity

if TYPE_CHECKING:
    from torch import Tensor


def precision(case: Case, means: Means) -> str:
    """What the case is multiplied in: a key of a table of tolerances."""
    stated = means.float32_precision if case.dtype == "float32" else case.dtype
    products = case.dtype == "float32" and stated == "bfloat16"
    return "bfloat16 products" if products else stated


def worst(errors: Tensor) -> float:
    return float(errors.max())  # NaN, where there is one


def judged(
    *,
    row: float,
    element: float,
    other: float,
    tolerance: tuple[float, float],
    rows: str,
    stated: str,
) -> list[Parity]:
    """The three checks.

    row: relative L2 error of the worst of ``rows``. element, other: errors of the worst element, of
    the window and with other values, as shares of its row's root mean square. tolerance: of a row,
    and of an element.
    """
    what = f"error of the worst element as a share of its row's root mean square ({stated})"
    of_a_row, of_an_element = tolerance
    return [
        Parity(
            name="rows",
            error=row,
            tolerance=of_a_row,
            what=f"relative L2 error of the worst of {rows} ({stated})",
        ),
        Parity(name="every element", error=element, tolerance=of_an_element, what=what),
        Parity(name="other values", error=other, tolerance=of_an_element, what=what),
    ]
