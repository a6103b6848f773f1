"""Whether a pass takes as long on inputs that no pass has seen.

Passes of a window all have the same inputs. Whatever remembers results, merges equal work, keeps
what it has of a prompt, or leaves work out where much is waiting would make a window quick that is
not: so a few passes are timed again, with other inputs before each, and held against passes without
and against the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tpubench.suite.timing import BARRIERS_A_STRETCH, Clockwork
from tpubench.suite.workload import Mark, Step, Timed

_MOST_PASSES = 1000
_ROUNDS = 10
"""More rounds follow while the times disagree: what others do to a machine goes away with them, and
a chip that idled while outputs were checked is back at its clocks."""
_MORE = 1.25
"""How much longer passes on other inputs may take on a chip of its own."""
_MORE_ON_A_HOST = 4.0
"""The same where other programs share the cores; what is remembered whole takes no time at all."""
_NOISE = 0.2
"""Share of that which changing the inputs, a much simpler thing, may take longer among passes."""


@dataclass(slots=True, kw_only=True)
class _Least:
    """The least seconds of each of three laps, over all rounds: passes, changes of the inputs, and
    both in turn."""

    passes: float = math.inf
    changes: float = math.inf
    both: float = math.inf


def fault(works: Clockwork, step: Step, timed: Timed | None, least_s: float) -> str | None:
    """Why times are not to be believed; None where they are, or where inputs cannot be changed.

    timed: the main window; None where only passes without other inputs are to be held against.
    least_s: how long passes are timed together at least, besides twenty barriers. Called when
    nothing else is needed of the step: its inputs are then as before, what passes left is not.
    """
    if not step.vary(1):
        return None
    changes = 1
    window, first_s = step.excerpt(), math.inf
    submit = _submitting(works)
    more = _MORE_ON_A_HOST if works.slack_s else _MORE
    least = _Least()
    barrier_s = works.agreed(works.idle_barrier_s)
    passes = 1
    usual_s: float | None = None
    said: str | None = None
    if timed is not None and not works.slack_s:
        usual_s = works.agreed(_mean_s(timed, len(window.marks)))

    def some(*bodies: Callable[[], object]) -> float:
        def lap() -> None:
            for _ in range(passes):
                for body in bodies:
                    body()

        return works.agreed(_lap_s(works, lap)) / passes

    def run() -> None:
        window.run(submit)

    def vary() -> None:
        nonlocal changes
        step.vary(1)
        works.flush()  # a library that records would make one of many changes
        changes += 1

    for _ in range(2):  # the first may compile
        vary()
        first_s = min(first_s, some(run))
    wanted_s = max(least_s, BARRIERS_A_STRETCH * barrier_s)
    passes = min(_MOST_PASSES, max(1, math.ceil(wanted_s / max(first_s, 1e-9))))
    # Each round begins with inputs that the pass before has had.
    for _ in range(_ROUNDS):
        least.passes = min(least.passes, some(run))
        least.changes = min(least.changes, some(vary))
        least.both = min(least.both, some(vary, run))
        said = _disagreement(least, usual_s, more, barrier_s / passes)
        if said is None:
            break
    step.vary(-changes)
    works.barrier()
    return said


def _disagreement(
    least: _Least, usual_s: float | None, more: float, barrier_s: float
) -> str | None:
    if usual_s is not None and least.passes > more * usual_s + barrier_s:
        return (
            f"a few passes took {least.passes:.4g} s each, those of the window {usual_s:.4g} s:"
            " work was left out, or the device has slowed down since"
        )
    changes_s = least.changes * (1 + _NOISE * (more - 1))
    # A window is longer than a few passes, and so knows better what one takes.
    known_s = least.passes if usual_s is None else min(usual_s, least.passes)
    if least.both > more * known_s + changes_s + barrier_s:
        new_s = least.both - least.changes
        return (
            f"a pass took {new_s:.4g} s on inputs that none had seen, and {known_s:.4g} s"
            " on those of the pass before: what is remembered is not work"
        )
    return None


def _mean_s(timed: Timed, marks: int) -> float:
    """Mean seconds of the first marks of a pass of the window."""
    return math.fsum(sum(laps[:marks]) for laps in timed.laps_s) / len(timed.laps_s)


def _lap_s(works: Clockwork, lap: Callable[[], object]) -> float:
    works.barrier()
    began_ns = works.clock_ns()
    lap()
    works.barrier()
    return (works.clock_ns() - began_ns) / 1e9


def _submitting(works: Clockwork) -> Mark:
    def submit(output: object = None) -> None:
        works.flush()

    return submit
