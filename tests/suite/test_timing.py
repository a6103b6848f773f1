"""The clock, under a scripted one: what is inside a window, and what is not."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterable

import pytest
import torch

from tpubench.suite import timing
from tpubench.suite.marks import HostMarks
from tpubench.suite.timing import Clockwork, Pace, WarmUp
from tpubench.suite.workload import Mark, Timed, Window


class Scripted:
    """A program of one mark whose passes take the scripted seconds, and a log of what happened."""

    def __init__(
        self, passes_s: Iterable[float], compiles: Iterable[int] = (0,), barrier_s: float = 0.0
    ) -> None:
        self.now_ns = 0
        self.passes_s = iter(passes_s)
        self.compiles = itertools.chain(compiles, itertools.repeat(0))
        self.compiled = 0
        self.barrier_s = barrier_s
        self.log: list[str] = []

    def run(self, mark: Mark) -> None:
        self.log.append("run")
        self.now_ns += round(next(self.passes_s) * 1e9)
        self.compiled += next(self.compiles)
        mark()

    def barrier(self) -> None:
        self.log.append("barrier")
        self.now_ns += round(self.barrier_s * 1e9)

    def clock_ns(self) -> int:
        self.log.append("clock")
        return self.now_ns

    def window(self, run: Callable[[Mark], None] | None = None) -> Window:
        return Window(run=run or self.run)

    def works(self) -> Clockwork:
        return Clockwork(
            barrier=self.barrier,
            clock_ns=self.clock_ns,
            recompiles=lambda: self.compiled,
            marks=lambda count: HostMarks(lambda: self.now_ns, count),
            read=lambda tensor: tensor,
            copy=lambda tensor: tensor,
            idle_barrier_s=self.barrier_s,
        )


def throughput(scripted: Scripted, run: Callable[[Mark], None] | None = None, **more: int):  # type: ignore[no-untyped-def]
    return timing.throughput(scripted.works(), scripted.window(run), **more)


def test_barriers_stand_at_the_ends_of_a_window_alone() -> None:
    scripted = Scripted([1.0, 2.0])
    timed = throughput(scripted, passes=2)
    assert scripted.log == ["barrier", "clock", "run", "run", "barrier", "clock"]
    assert timed.laps_s == [[1.0], [2.0]]
    assert (timed.wall_s, timed.passes, timed.fault) == (3.0, 2, None)


def test_laps_add_up_to_the_wall_time_closing_barrier_included() -> None:
    scripted = Scripted([1.0] * 4, barrier_s=0.02)
    timed = throughput(scripted, passes=4)
    assert timed.fault is None
    assert timed.wall_s == pytest.approx(4.02)
    assert sum(timed.passes_s) == pytest.approx(timed.wall_s)


def test_marks_that_do_not_add_up_void_the_window() -> None:
    scripted = Scripted([1.0])

    def late(mark: Mark) -> None:
        mark()
        scripted.now_ns += 10**9

    timed = throughput(scripted, late, passes=1)
    assert timed.fault is not None and "the marks add up to 0 s, the window lasted 1 s" in (
        timed.fault
    )


def test_short_passes_share_a_lap_and_give_its_mean() -> None:
    scripted = Scripted(itertools.cycle([1.0, 3.0]))
    timed = throughput(scripted, passes=6, inner=2)
    assert timed.laps_s == [[2.0]] * 3
    assert timed.passes == 6 and timed.wall_s == 12.0


def test_passes_are_rounded_up_to_whole_laps() -> None:
    assert throughput(Scripted(itertools.repeat(1.0)), passes=5, inner=2).passes == 6


def test_a_latency_is_from_an_idle_device_to_the_value_on_the_host() -> None:
    scripted = Scripted([1.0, 2.0])
    reads: list[object] = []

    token = torch.tensor([7])

    def run(mark: Mark) -> None:
        scripted.run(lambda output=None: None)
        mark(token)

    def read(tensor: object) -> object:
        reads.append(tensor)
        scripted.now_ns += 10**8
        return tensor

    works = Clockwork(
        barrier=scripted.barrier,
        clock_ns=scripted.clock_ns,
        recompiles=lambda: 0,
        marks=lambda count: HostMarks(scripted.clock_ns, count),
        read=read,
        copy=lambda tensor: tensor,
    )
    timed = timing.latency(works, Window(run=run, kind="latency"), passes=2)
    assert timed.laps_s == [[1.1], [2.1]]
    assert reads == [token] * 4  # each is read again once it must be there
    assert scripted.log == ["barrier", "clock", "run", "clock", "barrier"] * 2


def test_the_collector_is_off_inside_and_back_on_after() -> None:
    seen: list[bool] = []

    def run(mark: Mark) -> None:
        seen.append(gc.isenabled())
        mark()

    assert gc.isenabled()
    throughput(Scripted([]), run, passes=1)
    assert seen == [False]
    assert gc.isenabled()


def test_the_collector_comes_back_after_a_failure() -> None:
    def run(mark: Mark) -> None:
        raise RuntimeError("lost the device")

    with pytest.raises(RuntimeError, match="lost"):
        throughput(Scripted([]), run, passes=1)
    assert gc.isenabled()


def test_a_step_that_marks_too_often_or_too_seldom_is_refused() -> None:
    turn = itertools.cycle([2, 0])
    with pytest.raises(RuntimeError, match="marked 2 times, not 1"):
        throughput(
            Scripted([]), lambda mark: [mark() for _ in range(next(turn))] and None, passes=2
        )
    with pytest.raises(RuntimeError, match="marked 0 times, not 1"):
        throughput(Scripted([]), lambda mark: None, passes=1)
    with pytest.raises(IndexError):
        throughput(Scripted([]), lambda mark: [mark(), mark()][0], passes=1)


@pytest.mark.parametrize(
    ("passes_s", "steadiness"),
    [
        ([5.0, 1.0, 1.0], "steady"),
        ([1.0, 1.05], "steady"),
        ([1.0, 1.2], "slowing"),
        ([2.0, 1.0], "quickening"),
        ([9, 9, 2, 2, 1, 1], "quickening"),
        ([9, 9, 1, 1, 1, 1], "erratic"),
        ([0.14, 0.00022], "quickening"),
        ([1.0, 0.1] * 10, "erratic"),
        ([1.0, 1.4] * 10, "steady"),
        ([*[1.0] * 19, 9.0], "steady"),
        ([0.14, *[0.00022] * 30], "erratic"),
        ([*[0.00022] * 99, 0.14], "erratic"),
    ],
)
def test_steadiness_compares_thirds_and_tenths(passes_s: list[float], steadiness: str) -> None:
    if len(passes_s) == 3:
        passes_s = passes_s[1:]
    assert timing.steadiness(passes_s) == steadiness


def test_every_window_of_a_run_must_be_steady_before_the_run_is() -> None:
    def window(*passes_s: float) -> Timed:
        return Timed(
            marks=("pass",),
            laps_s=[[pass_s] for pass_s in passes_s],
            wall_s=sum(passes_s),
            passes=len(passes_s),
            how="latency",
        )

    settled = WarmUp(passes_s=[1.0], steadiness="steady")
    even, first_slow = window(1.0, 1.0, 1.0), window(0.0878, 0.0008, 0.0005, 0.0004, 0.0006)
    assert timing.overall(settled, [even]) == "steady"
    assert timing.overall(settled, [even, first_slow]) != "steady"
    assert timing.overall(WarmUp(passes_s=[1.0], steadiness="slowing"), [even]) == "slowing"


def warm(scripted: Scripted, **pace: float) -> WarmUp:
    return timing.warm_up(scripted.works(), scripted.window(), Pace(**pace))  # type: ignore[arg-type]


def test_warm_up_lasts_under_load_even_when_times_settle_at_once() -> None:
    scripted = Scripted(itertools.repeat(0.5))
    assert warm(scripted, warm_up_s=10, most_warm_up_s=100).steadiness == "steady"
    assert scripted.log.count("run") >= 1 + 10 / 0.5


def test_warm_up_goes_on_until_times_settle() -> None:
    passes_s = [5.0, 4.0, 3.0, 2.0, 1.0, 1.0]
    warmed = warm(Scripted(passes_s), warm_up_s=6.0, most_warm_up_s=100)
    assert warmed == WarmUp(passes_s=passes_s, steadiness="steady")


def test_warm_up_goes_on_while_anything_compiles() -> None:
    scripted = Scripted(itertools.repeat(1.0), compiles=[1, 1, 1, 0, 0])
    assert len(warm(scripted, warm_up_s=1, most_warm_up_s=100).passes_s) == 4


def test_a_pass_as_long_as_the_warm_up_is_not_repeated() -> None:
    warmed = warm(Scripted([60.0, 9.0, 9.0]), warm_up_s=3, most_warm_up_s=15)
    assert warmed.passes_s == [60.0, 9.0]


def test_a_series_that_never_settles_is_labelled_and_bounded() -> None:
    slower = (1.5**n for n in itertools.count())
    warmed = warm(Scripted(slower), warm_up_s=10, most_warm_up_s=20)
    assert warmed.steadiness == "slowing"
    assert 20 <= sum(warmed.passes_s[1:]) < 60


def test_a_first_pass_that_compiles_for_long_does_not_end_the_warm_up() -> None:
    warmed = warm(Scripted([60.0, 1.0, 1.0]), warm_up_s=1.5, most_warm_up_s=15)
    assert warmed.passes_s == [60.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("typical_s", "passes"), [(1.0, 4), (0.001, 4000), (100.0, 3), (0.1, 40), (1e-6, 4_000_000)]
)
def test_a_window_is_filled_however_short_a_pass_is(typical_s: float, passes: int) -> None:
    works = Scripted([]).works()
    warmed = WarmUp(passes_s=[9.0, typical_s, typical_s], steadiness="steady")
    assert timing.passes_for(works, warmed, Pace(window_s=4.0, min_passes=3)) == passes


def test_a_window_lasts_a_hundred_barriers() -> None:
    works = Scripted([], barrier_s=0.1).works()
    warmed = WarmUp(passes_s=[1.0, 1.0], steadiness="steady")
    assert timing.passes_for(works, warmed, Pace(window_s=0.5)) == 10


def test_a_kernel_shorter_than_a_hundred_barriers_is_repeated_inside_a_lap() -> None:
    works, window = Scripted([], barrier_s=50e-6).works(), Window(run=lambda mark: None)
    assert timing.inner_for(works, window, passes=10_000, wall_s=1.0) == 50
    assert timing.inner_for(works, window, passes=20, wall_s=1.0) == 1
    no_barrier = Scripted([]).works()
    assert timing.inner_for(no_barrier, window, passes=1_000_000, wall_s=1.0) == 1000
    two = Window(run=lambda mark: None, marks=("a", "b"))
    assert timing.inner_for(works, two, passes=10_000, wall_s=1.0) == 1
