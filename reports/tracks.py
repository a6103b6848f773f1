"""Places on a shared axis, in percent of its width: what the page's row charts are drawn from.

A row of a chart is a line of text and a strip beside it. Percentages make the strip as wide as the
screen without a script, and marks keep their size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tpubench.reports.figure import Axis, log_ticks, tick_text

_MARGIN = 1.15
"""Factor by which a logarithmic axis goes beyond its outermost mark."""
_LINEAR_TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis in percent. ``ticks`` are places and texts."""

    axis: Axis
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Percent from the left; what lies beyond an end stands at it."""
        low, high = self.axis.low, self.axis.high
        if self.axis.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
        share = (value - low) / (high - low) if high > low else 0.5
        return round(100 * min(max(share, 0.0), 1.0), 3)


def log_scale(title: str, values: Iterable[float]) -> Scale:
    """A logarithmic axis that shows every one of the positive values."""
    numbers = list(values)
    axis = Axis(title=title, low=min(numbers) / _MARGIN, high=max(numbers) * _MARGIN, log=True)
    return _ticked(axis, log_ticks(axis))


def scale(axis: Axis) -> Scale:
    """Any axis with its ticks."""
    return _ticked(axis, log_ticks(axis) if axis.log else _linear_ticks(axis))


def _ticked(axis: Axis, ticks: list[tuple[float, str]]) -> Scale:
    bare = Scale(axis=axis, ticks=())
    placed = tuple((bare.place(value), text) for value, text in ticks)
    return Scale(axis=axis, ticks=placed)


def _linear_ticks(axis: Axis) -> list[tuple[float, str]]:
    step = _round_step((axis.high - axis.low) / _LINEAR_TICKS)
    first = math.ceil(axis.low / step)
    count = math.floor(axis.high / step) - first + 1
    return [((first + i) * step, tick_text((first + i) * step)) for i in range(count)]


def _round_step(least: float) -> float:
    """The next of 1, 2, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least)) if least > 0 else 1.0
    return next(lead * power for lead in (1, 2, 5, 10) if lead * power >= least)
