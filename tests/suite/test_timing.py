"""The clock, under a scripted one: what is inside the window, and what is not."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable

import pytest

from tpubench.suite import timing
from tpubench.suite.timing import Clockwork, Pace, WarmUp
from tpubench.suite.workload import Mark


class Scripted:
    """A step of one mark whose passes take the scripted seconds, and a log of what happened."""

    def __init__(self, passes_s: Iterable[float], compiles: Iterable[int] = (0,)) -> None:
        self.now_ns = 0
        self.passes_s = iter(passes_s)
        self.compiles = itertools.chain(compiles, itertools.repeat(0))
        self.compiled = 0
        self.log: list[str] = []

    def run(self, mark: Mark) -> None:
        self.log.append("run")
        self.now_ns += round(next(self.passes_s) * 1e9)
        self.compiled += next(self.compiles)
        mark()

    def barrier(self) -> None:
        self.log.append("barrier")

    def clock_ns(self) -> int:
        self.log.append("clock")
        return self.now_ns

    def works(self, run: Callable[[Mark], None] | None = None) -> Clockwork:
        return Clockwork(
            run=run or self.run,
            barrier=self.barrier,
            clock_ns=self.clock_ns,
            recompiles=lambda: self.compiled,
        )


def test_every_stamp_is_taken_after_the_barrier() -> None:
    scripted = Scripted([1.0, 2.0])
    stamps = timing.window(scripted.works(), passes=2, marks=1)
    assert stamps == [0, 1_000_000_000, 3_000_000_000]
    assert scripted.log == [
        "barrier",
        "clock",
        "run",
        "barrier",
        "clock",
        "run",
        "barrier",
        "clock",
    ]


def test_the_collector_is_off_inside_and_back_on_after() -> None:
    seen: list[bool] = []

    def run(mark: Mark) -> None:
        seen.append(gc.isenabled())
        mark()

    assert gc.isenabled()
    timing.window(Scripted([]).works(run), passes=1, marks=1)
    assert seen == [False]
    assert gc.isenabled()


def test_the_collector_comes_back_after_a_failure() -> None:
    def run(mark: Mark) -> None:
        raise RuntimeError("lost the device")

    with pytest.raises(RuntimeError, match="lost"):
        timing.window(Scripted([]).works(run), passes=1, marks=1)
    assert gc.isenabled()


def test_a_step_that_marks_too_often_or_too_seldom_is_refused() -> None:
    with pytest.raises(RuntimeError, match="marked 0 times, not 1"):
        timing.window(Scripted([]).works(lambda mark: None), passes=1, marks=1)
    with pytest.raises(IndexError):
        timing.window(Scripted([]).works(lambda mark: [mark(), mark()][0]), passes=1, marks=1)


def test_laps_are_the_gaps_between_stamps_by_pass() -> None:
    assert timing.laps_s([0, 1e9, 3e9, 4e9, 8e9], 2) == [[1.0, 2.0], [1.0, 4.0]]


@pytest.mark.parametrize(
    ("passes_s", "steadiness"),
    [
        ([5.0, 1.0, 1.0], "steady"),
        ([1.0, 1.05], "steady"),
        ([1.0, 1.2], "slowing"),
        ([2.0, 1.0], "quickening"),
        ([9, 9, 2, 2, 1, 1], "quickening"),
        ([9, 9, 1, 1, 1, 1], "steady"),
    ],
)
def test_steadiness_compares_the_last_two_thirds(passes_s: list[float], steadiness: str) -> None:
    assert timing.steadiness(passes_s) == steadiness


def test_warm_up_ends_when_times_settle() -> None:
    warm = timing.warm_up(Scripted([5.0, 2.0, 1.0, 1.0]).works(), 1, Pace(warm_up_s=100))
    assert warm == WarmUp(passes_s=[5.0, 2.0, 1.0, 1.0], steadiness="steady")


def test_warm_up_goes_on_while_anything_compiles() -> None:
    scripted = Scripted(itertools.repeat(1.0), compiles=[1, 1, 1])
    assert len(timing.warm_up(scripted.works(), 1, Pace(warm_up_s=100)).passes_s) == 4


def test_a_series_that_never_settles_is_labelled_and_bounded() -> None:
    slower = (1.5**n for n in itertools.count())
    warm = timing.warm_up(Scripted(slower).works(), 1, Pace(warm_up_s=20))
    assert warm.steadiness == "slowing"
    assert 20 <= sum(warm.passes_s[1:]) < 40


def test_a_first_pass_that_compiles_for_long_does_not_end_the_warm_up() -> None:
    warm = timing.warm_up(Scripted([60.0, 1.0, 1.0]).works(), 1, Pace(warm_up_s=15))
    assert warm.passes_s == [60.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("typical_s", "passes"), [(1.0, 4), (0.001, 1000), (100.0, 3), (0.1, 40), (0.0, 1000)]
)
def test_the_window_is_filled_within_bounds(typical_s: float, passes: int) -> None:
    warm = WarmUp(passes_s=[9.0, typical_s, typical_s], steadiness="steady")
    assert timing.passes_for(warm, Pace(window_s=4.0, min_passes=3, max_passes=1000)) == passes
