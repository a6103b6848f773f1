"""Time inside a plan: years cut where porting ends, and how long something runs in each piece.

Demand, prices and limits are by year. Where a workload becomes ready on a chip within a year, that
chip's year is cut there, so that a chip's delivery and the porting to it overlap instead of
multiplying, and rent begins when there is work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[Any]
"""Of either kind, as NumPy's arithmetic leaves them."""

MOMENT = 1e-9
"""Years below which two times are one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Pieces of time, sorted by accelerator, scenario and start. Times in years of the plan."""

    a: Ints
    s: Ints
    y: Ints
    start: Floats
    end: Floats
    of_a: list[Ints]
    """The pieces of each accelerator."""

    @property
    def length(self) -> Floats:
        return self.end - self.start


def cut(years: int, scenarios: int, ready: Sequence[Sequence[Sequence[float]]]) -> Timeline:
    """The pieces, where ``ready[a][s]`` holds the times at which porting to a chip ends."""
    whole = np.arange(years + 1.0)
    a, s, starts, ends = [], [], [], []
    for i, of_chip in enumerate(ready):
        for j in range(scenarios):
            within = {round(t, 9) for t in of_chip[j] if 0 < t < years}
            extra = [t for t in within if abs(t - round(t)) > MOMENT]
            edges = np.sort(np.concatenate([whole, extra])) if extra else whole
            n = len(edges) - 1
            a.append(np.full(n, i))
            s.append(np.full(n, j))
            starts.append(edges[:-1])
            ends.append(edges[1:])
    of = np.concatenate(a)
    start = np.concatenate(starts)
    return Timeline(
        a=of,
        s=np.concatenate(s),
        y=np.floor(start + MOMENT).astype(np.int64),
        start=start,
        end=np.concatenate(ends),
        of_a=[np.flatnonzero(of == i) for i in range(len(ready))],
    )


def overlap(start: Floats, end: Floats, low: Floats, high: Floats) -> Floats:
    """Years that each span [start, end] has inside each piece [low, high]; shapes broadcast."""
    return np.asarray(np.maximum(np.minimum(end, high) - np.maximum(start, low), 0.0))


def by_year(start: Floats, end: Floats, years: int) -> Floats:
    """Share of each year of the plan that the spans take; one more axis than ``start``."""
    year = np.arange(float(years))
    return overlap(start[..., None], end[..., None], year, year + 1)
