"""What is promised of plans, measured: time, gap, followed flips, a second model, plain HiGHS.

    python benchmarks/plan_promises.py [--plans 30] [--models 120] [--seeds 5] [--seconds 60]

prints one table. Times are by the clock, with every core that may be used; the peers are
measured in the same run: CBC through PuLP on a model written apart from ours
(tests/costs/independent_plan.py), and ``scipy.optimize.milp`` asked for the same gap on the same
program.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "costs"))

from allocate import instance, with_milp, with_tpubench
from independent_plan import Model
from random_plans import random_plan

from tpubench.costs.allocation.answer import PlanAnswer, answer
from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.flips import PlanFlip, find_flips
from tpubench.costs.allocation.highs import relaxed
from tpubench.costs.allocation.inputs import Setting, apply
from tpubench.costs.allocation.money import next_dollar, side_of
from tpubench.costs.allocation.plan import Plan, plan_of, read_plan
from tpubench.costs.allocation.resolve import resolve
from tpubench.devices.prices import prices, today

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "capex-65b.toml"
GAP = 1e-3
LARGE = (8, 12, 12)
SMALL = (5, 7, 6)
EXAMPLE_S, LARGE_S = 20.0, 60.0
AGREES = 1e-4
"""Relative difference of two models' costs that counts as agreement; CBC proves 1e-6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row of the table."""

    promise: str
    measured: str
    held: bool


def timed(plan: Plan) -> tuple[PlanAnswer, float]:
    """The whole answer of a plan, and its seconds by the clock."""
    started = time.perf_counter()
    outcome = answer(plan, [])
    return outcome, time.perf_counter() - started


def speeds(example: Plan) -> Iterator[tuple[Line, PlanAnswer]]:
    """The example and a large plan, with their whole verdicts."""
    for name, plan, most_s in (
        ("example", example, EXAMPLE_S),
        ("8 × 12 × 12, 20 scenarios", instance(*LARGE), LARGE_S),
    ):
        outcome, took_s = timed(plan)
        gap = np.inf if outcome.gap is None else outcome.gap
        verdict = outcome.verdict
        inputs = len(verdict.flips) + len(verdict.flips_left_out)
        yield (
            Line(
                promise=f"{name}: verdict, {plan.doubt.samples} samples, flips in {most_s:g} s",
                measured=f"{took_s:.1f} s, gap {gap:.3%}, {len(verdict.flips)} of {inputs} inputs",
                held=took_s <= most_s and gap <= GAP,
            ),
            outcome,
        )


def followed(plan: Plan, flips: Sequence[PlanFlip]) -> tuple[int, int]:
    """How many of the flips turn the plan within 1 % of their way, and how many there are."""
    turning = [flip for flip in flips if flip.at is not None]
    good = 0
    for flip in turning:
        sides = []
        for part in (0.99, 1.01):
            value = flip.now + part * ((flip.at or 0.0) - flip.now)
            moved = apply(plan, [Setting(path=flip.path, value=value, times=flip.several)])
            program = build(moved)
            optimum = relaxed(program)
            side = None if optimum is None else side_of(program, optimum.x)
            sides.append(None if side is None else side[0])
        good += sides == [flip.answer_before, flip.answer_after]
    return good, len(turning)


def random_flips(count: int) -> tuple[int, int]:
    """The flips of random plans, followed."""
    good = every = 0
    for seed in range(count):
        plan = plan_of(random_plan(seed, most_years=2), f"plan {seed}")
        program = build(plan)
        optimum = relaxed(program)
        first = None if optimum is None else next_dollar(program, optimum.x)
        if optimum is None or first is None:
            continue
        flips, _ = find_flips(plan, first.side, optimum.basis, time.process_time() + 300)
        right, there = followed(plan, flips)
        good, every = good + right, every + there
    return good, every


def second_model(count: int) -> Line:
    """Costs of random plans by CBC from a model of their own, against ours."""
    worst, solved, apart = 0.0, 0, 0
    for seed in range(count):
        content = random_plan(seed)
        program = build(plan_of(content, f"plan {seed}"))
        ours, theirs = relaxed(program), Model(content).solve()
        if ours is None or theirs is None:
            apart += (ours is None) != (theirs is None)
            continue
        solved += 1
        worst = max(worst, abs(program.total_usd(ours.x) - theirs) / max(abs(theirs), 1.0))
    return Line(
        promise="PuLP and CBC find the same cost of ≥ 100 random plans",
        measured=f"{solved} solved, at most {worst:.1e} apart, {apart} disagree on possible",
        held=solved >= 100 and worst <= AGREES and not apart,
    )


def solvers(seeds: int, seconds: float) -> Iterator[Line]:
    """This solver and plain HiGHS, each until it has proved the same gap."""
    for size in (SMALL, LARGE):
        ours: list[float] = []
        plain: list[float] = []
        reached = theirs = 0
        for seed in range(seeds):
            program = build(instance(*size, seed=seed))
            fixed = program.fixed_usd / program.unit_usd
            for spent, solve in ((ours, with_tpubench), (plain, with_milp)):
                started = time.process_time()
                value, bound = solve(program, seconds, GAP)
                spent.append(time.process_time() - started)
                good = value is not None and value - bound <= GAP * abs(value + fixed) * 1.0001
                if spent is ours:
                    reached += good
                else:
                    theirs += good
        name = " × ".join(map(str, size))
        yield Line(
            promise=f"{name}, 20 scenarios: gap ≤ 0.1 % in {seconds:g} s",
            measured=f"{reached} of {seeds}, median {np.median(ours):.1f} s of computing;"
            f" scipy.milp {theirs} of {seeds}, {np.median(plain):.1f} s",
            held=reached == seeds,
        )


def lines(asked: argparse.Namespace) -> Iterator[Line]:
    example, _ = resolve(read_plan(EXAMPLE), prices(), Path("nowhere"), today())
    outcomes = []
    for line, outcome in speeds(example):
        outcomes.append(outcome)
        yield line
    for name, (good, every) in (
        ("example", followed(example, outcomes[0].verdict.flips)),
        (f"{asked.plans} random plans", random_flips(asked.plans)),
    ):
        yield Line(
            promise=f"flips of the {name}: stand 1 % short, turn 1 % beyond",
            measured=f"{good} of {every}",
            held=good == every > 0,
        )
    yield second_model(asked.models)
    yield from solvers(asked.seeds, asked.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plans", type=int, default=30)
    parser.add_argument("--models", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    print("| promise | measured | held |\n|---|---|---|")
    for line in lines(asked):
        print(f"| {line.promise} | {line.measured} | {'yes' if line.held else 'NO'} |", flush=True)


if __name__ == "__main__":
    main()
