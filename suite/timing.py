"""The clock: warm-up under load until the times settle, then windows in which nothing else happens.

A device may run ahead of the host. So a throughput window has real barriers at its two ends alone;
it lasts so long that they cost under a hundredth of it; and its marks (see :mod:`.marks`) must add
up to the wall time between its ends. A latency window times each pass alone, from an idle device to
the result on the host. What a read brought during a window is read again once it has closed.

Pure logic over a few callables, so the whole of it is tested with a scripted clock.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tpubench.errors import RunFailedError
from tpubench.results.statistics import median
from tpubench.suite.marks import Marks, alike
from tpubench.suite.workload import Mark, Timed, Window

if TYPE_CHECKING:
    from torch import Tensor

Steadiness = Literal["steady", "slowing", "quickening", "erratic"]

STEADY_TOLERANCE = 0.10
"""Change of the median pass, from one third of the passes to the next, still called steady."""
OTHER_TOLERANCE = 0.25
"""Change from the end of the warm-up to the mean of the main window that is still called steady."""
ERRATIC_RATIO = 2.0
"""Passes are erratic where the slowest tenth takes more than so many times the quickest tenth, or
the mean pass more than so many times the median one."""
BARRIERS_A_WINDOW = 100
"""A window lasts at least so many idle barriers: the two at its ends are then under 2 % of it, of
which the first is over before it begins."""
BARRIERS_A_STRETCH = 20
"""A stretch of the warm-up that is shorter tells more of its barrier than of the program."""
MARKS_TOLERANCE = 0.02
"""How far the marks of a window may add up to more or less than its wall time."""
MOST_LAPS = 1000
"""Marks of a window whose passes have one each: more passes are put together to one lap."""
IDLE_BARRIERS = 20
LEAST_LATENCIES = 5
STRETCHES = 10
"""Parts into which the warm-up is divided, each timed as a window of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long to warm up and to measure, in seconds: at least so much, however short a pass is.

    warm_up_s: least time under load after the first pass, for clocks, power and heat to settle.
    most_warm_up_s: when to give up waiting for the times to settle. latency_s: least time of a
    latency window, beside LEAST_LATENCIES passes.
    """

    warm_up_s: float = 3.0
    window_s: float = 2.0
    most_warm_up_s: float = 15.0
    latency_s: float = 0.5
    min_passes: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """The first pass alone, then the mean seconds of a pass in each stretch of the warm-up."""

    passes_s: list[float]
    steadiness: Steadiness
    """Of the warm-up; the window that follows is judged by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clockwork:
    """What the clock needs of a backend. marks: makes room for so many marks of a window."""

    barrier: Callable[[], None]
    clock_ns: Callable[[], int]
    recompiles: Callable[[], int]
    marks: Callable[[int], Marks]
    read: Callable[[Tensor], object]
    """Fetches a tensor to the host, returning when it is there."""
    copy: Callable[[Tensor], Tensor]
    """A copy of a part of a tensor, made on the device in the order of submission."""
    flush: Callable[[], None] = lambda: None
    idle_barrier_s: float = 0.0
    """What a barrier costs when nothing is pending."""
    slack_s: float = 0.0
    """What may pass between the last mark and the end of the window beside that."""
    agreed: Callable[[float], float] = float
    """Rank 0's value of what every rank measured: all ranks must take the same decisions."""


def idle_barrier_s(barrier: Callable[[], None], clock_ns: Callable[[], int]) -> float:
    """Seconds of a barrier with nothing pending: the median of IDLE_BARRIERS."""
    barrier()
    took_ns = []
    for _ in range(IDLE_BARRIERS):
        began_ns = clock_ns()
        barrier()
        took_ns.append(clock_ns() - began_ns)
    return median(took_ns) / 1e9


def steadiness(passes_s: Sequence[float]) -> Steadiness:
    """Whether the last third of the passes took as long as the third before it, and all alike.

    One slow pass among very many is noise, unless the window is mostly that pass.
    """
    third = max(1, len(passes_s) // 3)
    late = median(passes_s[-third:])
    earlier = median(passes_s[-2 * third : -third] or passes_s[-third:])
    if late > earlier * (1 + STEADY_TOLERANCE):
        return "slowing"
    if late < earlier * (1 - STEADY_TOLERANCE):
        return "quickening"
    ordered = sorted(passes_s)
    tenth = len(ordered) // 10
    if ordered[-1 - tenth] > ERRATIC_RATIO * ordered[tenth]:
        return "erratic"
    if math.fsum(ordered) > ERRATIC_RATIO * len(ordered) * median(ordered):
        return "erratic"
    return "steady"


def first_pass_s(works: Clockwork, window: Window) -> float:
    """Seconds of the first pass of all, in which most compilers do their work."""
    return _one_stretch(works, window, 1)


def warm_up(works: Clockwork, window: Window, pace: Pace, first_s: float | None = None) -> WarmUp:
    """Run passes until nothing compiles, the load has lasted and the times have settled.

    first_s: what the first pass took, where there was one already.
    """
    passes_s = [first_pass_s(works, window) if first_s is None else first_s]
    settled_s: list[float] = []
    """Mean passes of the stretches in which nothing was compiled, since the last that did."""
    load_s = 0.0
    passes = 1
    while True:
        compiled = works.recompiles()
        mean_s = _one_stretch(works, window, passes)
        passes_s.append(mean_s)
        load_s += mean_s * passes
        if works.agreed(works.recompiles() - compiled):
            settled_s = []
        elif mean_s * passes >= BARRIERS_A_STRETCH * works.idle_barrier_s:
            settled_s.append(mean_s)
        # A pass as long as the whole warm-up need not be repeated to be warm.
        least = 1 if mean_s >= pace.warm_up_s else 2
        long_enough = load_s >= pace.warm_up_s and len(settled_s) >= least
        if long_enough and steadiness(settled_s[-3:]) == "steady":
            break
        # The first pass may compile for a minute; what settles comes after it.
        if load_s >= pace.most_warm_up_s and settled_s:
            break
        stretch_s = max(pace.warm_up_s / STRETCHES, BARRIERS_A_WINDOW * works.idle_barrier_s)
        passes = _times(stretch_s, mean_s)
    return WarmUp(passes_s=passes_s, steadiness=steadiness(settled_s[-3:]))


def overall(warm: WarmUp, windows: Iterable[Timed], *, alone: bool = True) -> Steadiness:
    """Of a warm-up and every window after it: all must be steady, else the first word against it
    is said, that of the windows before that of the warm-up, and last of what changed between them.

    windows: the main one first. alone: whether no other program has a part of the device; between
    warm-up and window others come and go.
    """
    windows = list(windows)
    words = (
        *(steadiness(timed.passes_s) for timed in windows),
        warm.steadiness,
        _since(warm, windows[0]) if windows and alone else "steady",
    )
    return next((word for word in words if word != "steady"), "steady")


def _since(warm: WarmUp, main: Timed) -> Steadiness:
    """Whether the passes of the main window take as long as those at the end of the warm-up."""
    before_s, now_s = median(warm.passes_s[-3:]), main.wall_s / main.passes
    if now_s > before_s * (1 + OTHER_TOLERANCE):
        return "slowing"
    return "quickening" if now_s < before_s / (1 + OTHER_TOLERANCE) else "steady"


def _one_stretch(works: Clockwork, window: Window, passes: int) -> float:
    """Mean seconds of a pass, agreed among ranks."""
    wall_s = throughput(works, window, passes=passes, tidy=False).wall_s
    return works.agreed(wall_s / passes)


def _times(wanted_s: float, one_s: float) -> int:
    """How often something that takes ``one_s`` goes into ``wanted_s``; at least once."""
    return max(1, math.ceil(wanted_s / max(one_s, 1e-9)))


def passes_for(works: Clockwork, warm: WarmUp, pace: Pace) -> int:
    """How many passes fill a window, going by the quickest half of the warm-up."""
    after_the_first = warm.passes_s[1:] or warm.passes_s
    typical_s = median(sorted(after_the_first)[: max(1, len(after_the_first) // 2)])
    least_s = max(pace.window_s, BARRIERS_A_WINDOW * works.idle_barrier_s)
    return max(pace.min_passes, _times(least_s, typical_s))


def inner_for(works: Clockwork, window: Window, passes: int, wall_s: float) -> int:
    """Passes to a lap: so many that a lap is long beside a barrier, and laps are not too many."""
    if len(window.marks) > 1 or passes == 1:
        return 1
    short = _times(BARRIERS_A_WINDOW * works.idle_barrier_s, wall_s / passes)
    return min(passes, max(short, math.ceil(passes / MOST_LAPS)))


def throughput(
    works: Clockwork, window: Window, *, passes: int, inner: int = 1, tidy: bool = True
) -> Timed:
    """Time passes back to back, with barriers at the two ends alone.

    inner: passes to a lap; a lap's seconds are divided by it. Passes are rounded up to whole laps.
    tidy: collect garbage first. The fault says when the marks do not add up to the wall time.
    """
    marks, run = len(window.marks), window.run
    assert inner == 1 or marks == 1
    laps = math.ceil(passes / inner)
    taken = works.marks(laps * marks)
    barrier, clock_ns = works.barrier, works.clock_ns
    mark, submit = taken.mark, _submit(works)
    with _collector_off(tidy=tidy):
        barrier()
        began_ns = clock_ns()
        taken.start()
        for lap in range(1, laps + 1):
            for _ in range(inner - 1):
                run(submit)
            run(mark)
            if taken.taken != lap * marks:
                break
        taken.finish()
        barrier()
        wall_s = (clock_ns() - began_ns) / 1e9
    if wall_s < 0:
        raise RunFailedError(f"the host's clock went back by {-wall_s:.3g} s within a window")
    if taken.taken != lap * marks:
        raise RuntimeError(f"the step marked {taken.taken} times, not {lap * marks}")
    stale = taken.stale()
    left_s = _left_over_s(works, taken)
    gaps_s = taken.gaps_s()
    added_s = sum(gaps_s)
    # The closing barrier itself is not part of the last gap.
    off_s = abs(added_s - wall_s) - works.idle_barrier_s - works.slack_s
    allowed_s = MARKS_TOLERANCE * wall_s
    fault, again = None, True
    if stale or math.isinf(left_s):
        fault, again = STALE, False
    elif off_s > allowed_s:
        fault = f"the marks add up to {added_s:.4g} s, the window lasted {wall_s:.4g} s"
    elif left_s > allowed_s + 2 * works.idle_barrier_s + works.slack_s:
        fault = f"the barrier did not wait: {left_s:.4g} s of work were left after {wall_s:.4g} s"
    elif min(gaps_s) <= 0:
        fault, again = "a mark was passed no later than the one before it", False
    scale = wall_s / added_s / inner if added_s > 0 else 0.0
    scaled = [gap * scale for gap in gaps_s]
    return Timed(
        marks=window.marks,
        laps_s=[scaled[i : i + marks] for i in range(0, len(scaled), marks)],
        wall_s=wall_s,
        passes=laps * inner,
        how=taken.how,
        fault=fault,
        marks_off=fault is not None and again,
    )


STALE = "a read returned before the value was there: it brought another than a later one"


def _left_over_s(works: Clockwork, taken: Marks) -> float:
    """How long the last result still takes to reach the host once the window has closed.

    Infinite where it comes at once and is wrong.
    """
    if taken.last is None:
        return 0.0
    began_ns = works.clock_ns()
    value = works.read(works.copy(taken.last))
    left_s = (works.clock_ns() - began_ns) / 1e9
    works.barrier()
    return left_s if alike(value, works.read(works.copy(taken.last))) else math.inf


def latency(
    works: Clockwork, window: Window, *, passes: int, vary: Callable[[], object] = lambda: None
) -> Timed:
    """Time each pass alone: from an idle device until what it marked last is on the host.

    vary: called before each pass, outside of what is timed, to give it other inputs.
    """
    barrier, clock_ns, read = works.barrier, works.clock_ns, works.read
    brought: list[tuple[Tensor, object]] = []

    def mark(output: Tensor | None = None) -> None:
        if output is None:
            barrier()
        else:
            brought.append((output, read(output)))

    laps_s: list[list[float]] = []
    stale = False
    with _collector_off(tidy=True):
        for _ in range(passes):
            vary()
            barrier()
            began_ns = clock_ns()
            window.run(mark)
            laps_s.append([(clock_ns() - began_ns) / 1e9])
            barrier()
            stale |= not all(alike(value, read(output)) for output, value in brought)
            brought.clear()
    return Timed(
        marks=window.marks,
        laps_s=laps_s,
        wall_s=sum(laps[0] for laps in laps_s),
        passes=passes,
        how="latency",
        fault=STALE if stale else None,
    )


def latencies_for(one_s: float, pace: Pace) -> int:
    """Passes of a latency window, of which one takes about ``one_s``."""
    return max(LEAST_LATENCIES, _times(pace.latency_s, one_s))


def _submit(works: Clockwork) -> Mark:
    """What stands in for a mark inside a lap: the work is submitted, nothing is noted."""
    flush = works.flush

    def submit(output: Any = None) -> None:
        flush()

    return submit


@contextmanager
def _collector_off(*, tidy: bool) -> Iterator[None]:
    if tidy:
        gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
