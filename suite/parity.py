"""Whether a program computes what it should: named checks, and what they may use.

A simple workload gives ``Step.reference`` and ``Step.probe``, and has one check: the relative L2
error between the two. One that is deep, or whose output says little about its inside, gives
several (``Workload.checks``), each with a name, an error and the most that is allowed;
docs/parity.md says which fault each of them catches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpubench.suite.reference_cache import ReferenceCache

if TYPE_CHECKING:
    from torch import Tensor

    from tpubench.suite.workload import Case, Device, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Outcome of one check: an error, and the most that is allowed.

    name: short and fixed, under which it is stored. what: the error in words. With an infinite
    tolerance it judges nothing: its name is that of a metric, and the error is stored as its value.
    """

    error: float
    tolerance: float
    what: str
    name: str = "reference"

    @property
    def judges(self) -> bool:
        return self.tolerance != math.inf  # one that is no number lets nothing pass

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # False for NaN too

    @property
    def share(self) -> float:
        """Error as a share of the tolerance; infinite for an error that is no number."""
        if math.isnan(self.error):
            return math.inf
        if not self.tolerance:
            return math.inf if self.error else 0.0
        return self.error / self.tolerance

    def fault(self) -> str | None:
        """Why the program must not be believed; None when it passes."""
        if self.ok:
            return None
        return (
            f"parity check failed: {self.name}: {self.what} is {self.error:.3g},"
            f" at most {self.tolerance:.3g} is allowed"
        )


Checks = Callable[[], Iterable[Parity]]
"""Called once the timed window has closed."""


def worst(checks: Iterable[Parity]) -> Parity | None:
    """The check that is nearest to its tolerance, or furthest beyond it; None without any."""
    judging = (check for check in checks if check.judges)
    return max(judging, key=lambda check: check.share, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the checks of one program may use.

    build: another case of the same workload, with random weights, built, spread over the chips and
    compiled as the program under test is. exact_float32: inside it, float32 products are float32
    throughout. float32_precision: what they are computed in outside (``float32``, ``tf32`` or
    ``bfloat16``). barrier: waits for the device; nothing is read back before. flush: submits what
    was recorded so far. references: what was computed before.
    """

    device: Device
    accelerator: bool
    build: Callable[[Case], Step]
    exact_float32: Callable[[], AbstractContextManager[object]]
    float32_precision: str
    barrier: Callable[[], None]
    flush: Callable[[], None]
    references: ReferenceCache


def largest(errors: Iterable[float]) -> float:
    """The largest error; one that is no number counts as such."""
    return max(errors, key=lambda error: (math.isnan(error), error))


def move_error(start: Tensor, given: Tensor, wanted: Tensor, steps: int) -> float:
    """Relative L2 error of a move, less what float32 explains: each step rounds what is kept by
    half a unit in the last place. Of a batch that was learnt by heart, a step may be no larger."""
    rounding = 2 * 2.0**-24 * steps * wanted.norm()
    moved = (wanted - start).norm().clamp_min(1e-300)
    return float(((given - wanted).norm() - rounding).clamp_min(0.0) / moved)


def relative_l2(expected: Tensor, actual: Tensor) -> float:
    """‖actual − expected‖₂ / ‖expected‖₂ over all elements, in float64 on the CPU."""
    wanted, given = expected.double().cpu(), actual.double().cpu()
    return float((given - wanted).norm() / wanted.norm().clamp_min(1e-300))
