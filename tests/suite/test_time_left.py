"""How long a run still takes: what a first round compiled is not awaited again, and time passes."""

from __future__ import annotations

from tpubench.suite.time_left import TimeLeft


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(left: TimeLeft, clock: Clock, key: str, seconds: float, compiling: float = 0.0) -> None:
    left.begin(key)
    clock.now += seconds
    left.end(key)
    left.compiled(key, compiling)


def test_nothing_is_said_before_the_first_case_has_ended() -> None:
    clock = Clock()
    left = TimeLeft(keys=["a"], repeats=3, clock=clock)
    assert left.left_s() is None
    taken(left, clock, "calibration", 5.0)
    left.begin("a")
    assert left.left_s() is None


def test_the_compiling_of_the_first_round_is_not_awaited_again() -> None:
    clock = Clock()
    left = TimeLeft(keys=["a", "b"], repeats=3, clock=clock)
    taken(left, clock, "a", 60.0, compiling=40.0)
    # Two rounds of 20 s; and of the other a first one like this one's, and two of 20 s.
    assert left.left_s() == 2 * 20.0 + (60.0 + 2 * 20.0)
    taken(left, clock, "b", 30.0, compiling=10.0)
    assert left.left_s() == 2 * 20.0 + 2 * 20.0
    assert left.round_s() == 40.0


def test_later_rounds_are_judged_by_later_rounds() -> None:
    clock = Clock()
    left = TimeLeft(keys=["a"], repeats=4, clock=clock)
    for seconds in (90.0, 10.0, 20.0):
        taken(left, clock, "a", seconds)
    assert left.left_s() == 15.0


def test_time_passes_within_a_case_and_never_runs_below_what_the_others_take() -> None:
    clock = Clock()
    left = TimeLeft(keys=["a", "b"], repeats=2, clock=clock)
    taken(left, clock, "a", 10.0)
    taken(left, clock, "b", 10.0)
    left.begin("a")
    for passed_s, expected_s in ((0.0, 20.0), (4.0, 16.0), (40.0, 10.0)):
        clock.now = 20.0 + passed_s
        assert left.left_s() == expected_s
    left.end("a")
    left.begin("b")
    clock.now += 10.0
    assert left.left_s() == 0.0


def test_a_case_not_yet_run_counts_down_too() -> None:
    clock = Clock()
    left = TimeLeft(keys=["a", "b"], repeats=1, clock=clock)
    taken(left, clock, "a", 10.0)
    left.begin("b")
    clock.now += 4.0
    assert left.left_s() == 6.0
