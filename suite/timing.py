"""The clock: warm-up until the times settle, then a window in which nothing else happens.

Pure logic over three callables (run one pass, wait for the device, read the clock), so the whole
of it is tested with a scripted clock.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tpubench.results.statistics import median
from tpubench.suite.workload import Mark

Steadiness = Literal["steady", "slowing", "quickening"]

STEADY_TOLERANCE = 0.10
"""Change of the median pass, from one third of the warm-up to the next, still called steady."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long to warm up and to measure. Seconds are targets, passes are bounds."""

    warm_up_s: float = 15.0
    window_s: float = 3.0
    min_passes: int = 2
    max_passes: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """Seconds of each warm-up pass, the first included, and whether they settled."""

    passes_s: list[float]
    steadiness: Steadiness


@dataclass(frozen=True, slots=True, kw_only=True)
class Clockwork:
    """What the clock needs of a backend and a step."""

    run: Callable[[Mark], None]
    barrier: Callable[[], None]
    clock_ns: Callable[[], int]
    recompiles: Callable[[], int]
    agreed: Callable[[float], float] = float
    """Rank 0's value of what every rank measured: all ranks must take the same decisions."""


def steadiness(passes_s: Sequence[float]) -> Steadiness:
    """Whether the last third of the passes took as long as the third before it."""
    third = max(1, len(passes_s) // 3)
    late = median(passes_s[-third:])
    earlier = median(passes_s[-2 * third : -third] or passes_s[-third:])
    if late > earlier * (1 + STEADY_TOLERANCE):
        return "slowing"
    if late < earlier * (1 - STEADY_TOLERANCE):
        return "quickening"
    return "steady"


def warm_up(works: Clockwork, marks: int, pace: Pace) -> WarmUp:
    """Run passes until their times settle and nothing compiles, or the warm-up budget is spent."""
    passes_s: list[float] = []
    while True:
        compiled = works.recompiles()
        stamps = window(works, passes=1, marks=marks)
        passes_s.append(works.agreed((stamps[-1] - stamps[0]) / 1e9))
        compiling = works.agreed(works.recompiles() - compiled)
        settled = len(passes_s) >= 2 and not compiling
        if settled and steadiness(passes_s) == "steady":
            break
        # The first pass may compile for a minute; what settles comes after it.
        if sum(passes_s[1:]) >= pace.warm_up_s or len(passes_s) >= pace.max_passes:
            break
    return WarmUp(passes_s=passes_s, steadiness=steadiness(passes_s))


def passes_for(warm: WarmUp, pace: Pace) -> int:
    """How many passes fill the window, going by the quickest half of the warm-up."""
    typical = median(sorted(warm.passes_s)[: max(1, len(warm.passes_s) // 2)])
    wanted = pace.max_passes if typical <= 0 else math.ceil(pace.window_s / typical)
    return min(pace.max_passes, max(pace.min_passes, wanted))


def window(works: Clockwork, *, passes: int, marks: int) -> list[int]:
    """Time stamps in nanoseconds: the start, then one at each mark of each pass.

    Stamps go into a list allocated beforehand, the garbage collector is off, and each is taken
    only after the device's barrier.
    """
    stamps = [0] * (passes * marks + 1)
    barrier, clock_ns, run = works.barrier, works.clock_ns, works.run
    taken = 0

    def mark() -> None:
        nonlocal taken
        barrier()
        taken += 1
        stamps[taken] = clock_ns()

    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        barrier()
        stamps[0] = clock_ns()
        for _ in range(passes):
            run(mark)
    finally:
        if was_enabled:
            gc.enable()
    if taken != passes * marks:
        raise RuntimeError(f"the step marked {taken} times, not {passes * marks}")
    return stamps


def laps_s(stamps: Sequence[int], marks: int) -> list[list[float]]:
    """Seconds from each stamp to the next, by pass: shape [passes][marks]."""
    gaps = [(b - a) / 1e9 for a, b in itertools.pairwise(stamps)]
    return [gaps[i : i + marks] for i in range(0, len(gaps), marks)]
