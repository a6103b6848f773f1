"""The plan's verdict: where the next dollar goes, how sure that is, and what turns it.

Every statement is a re-solve of the same plan under its own limits, trends, scenarios and doubts.
Side, probability and flips are the relaxed plan's (milliseconds a solve, with a fixed secondary
objective among equal optima); the whole plan's own share stands beside it. One builder makes the
numbers; a terminal, ``--json`` and a page render them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.flips import PlanFlip, find_flips
from tpubench.costs.allocation.futures import Doubted, Futures, doubts, look_ahead
from tpubench.costs.allocation.highs import Basis, Optimum, relaxed
from tpubench.costs.allocation.in_force import LimitInForce, limits_in_force
from tpubench.costs.allocation.limits import LimitWorth, limit_worths
from tpubench.costs.allocation.money import SIDES, NextDollar, next_dollar, side_money
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.solve import Solved
from tpubench.costs.allocation.timeline import Floats
from tpubench.costs.allocation.tornado import Swing, swings
from tpubench.costs.allocation.worth import OptionWorth, Signature, option_worths, signatures

TIE = 1e-3
"""Of the best cost: a side that changes within it is a tie."""
FLAT = 5e-3
"""Of the best cost: the room in which the range of a side's share is given."""
ROUNDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanVerdict:
    """The answer and what it rests on. Money is present US dollars."""

    next_dollar: NextDollar | None
    missing: str | None
    """Why there is no answer."""
    whole_shares: dict[str, float]
    """Shares by side of the plan in whole lots."""
    tie: bool
    tie_reasons: list[str]
    share_range: dict[str, tuple[float, float]]
    """Lowest and highest share of each side in plans within 0.5 % of the best cost."""
    options: list[OptionWorth]
    signed: list[Signature]
    limits_in_force: list[LimitInForce]
    limits: list[LimitWorth]
    probability: dict[str, float] | None
    """Share of the sampled futures in which each side is the next dollar."""
    probability_how: dict[str, float] | None
    regret_usd: float | None
    futures: Futures | None
    flips: list[PlanFlip]
    flips_left_out: list[str]
    """Inputs that were not looked at before time ran out."""
    doubts: list[Doubted]
    tornado: list[Swing]


def judge(
    plan: Plan,
    program: LinearProgram,
    optimum: Optimum,
    solved: Solved,
    *,
    answer_only: bool,
    seconds: float,
) -> PlanVerdict:
    """The verdict on a plan that has been solved; with ``answer_only`` no samples, no flips."""
    deadline = time.process_time() + seconds
    answer = next_dollar(program, optimum.x)
    whole = next_dollar(program, solved.x)
    reasons: list[str] = []
    shares: dict[str, tuple[float, float]] = {}
    if answer is not None:
        reasons = _ties(program, optimum, answer, whole)
        shares = share_ranges(program, optimum, FLAT)
    doubtful = doubts(plan)
    futures: Futures | None = None
    flips: list[PlanFlip] = []
    left: list[str] = []
    swung: list[Swing] = []
    if not answer_only:
        futures = look_ahead(plan, program, optimum.x, doubtful)
        swung = swings(plan, doubtful, optimum.basis)
    options = option_worths(
        program, optimum, lambda labels: futures.chance_of(labels) if futures else None
    )
    signed = signatures(plan, program, optimum)
    in_force = limits_in_force(plan, program, optimum)
    limits = limit_worths(plan, program, optimum)
    if answer is not None and not answer_only:
        # Last, since of a large plan not every input may be looked at in time.
        flips, left = find_flips(plan, answer.side, optimum.basis, deadline)
    return PlanVerdict(
        next_dollar=answer,
        missing=None if answer is not None else "the plan spends no new money: nothing to decide",
        whole_shares={} if whole is None else whole.shares,
        tie=bool(reasons),
        tie_reasons=reasons,
        share_range=shares,
        options=options,
        signed=signed,
        limits_in_force=in_force,
        limits=limits,
        probability=None if futures is None else futures.probability,
        probability_how=None if futures is None else futures.probability_how,
        regret_usd=None if futures is None else futures.regret_usd,
        futures=futures,
        flips=flips,
        flips_left_out=left,
        doubts=doubtful,
        tornado=swung,
    )


def _ties(
    program: LinearProgram, optimum: Optimum, answer: NextDollar, whole: NextDollar | None
) -> list[str]:
    """Why the answer is a tie, if it is one."""
    reasons = []
    if whole is not None and whole.side != answer.side:
        reasons.append(f"in whole lots the next dollar is {whole.side}")
    mine = side_money(program, answer.side)
    for side in SIDES:
        if side == answer.side or not any(o.side == side for o in program.options):
            continue
        lead = mine - side_money(program, side)
        least = _least(program, optimum, lead, TIE, optimum.basis)
        if least is not None and float(lead @ least.x) <= 0:
            reasons.append(f"{side} leads in a plan that costs at most {TIE:.1%} more")
    return reasons


def _least(
    program: LinearProgram, optimum: Optimum, goal: Floats, room: float, start: Basis
) -> Optimum | None:
    """The plan that minimises ``goal``, at no more than ``room`` above the best cost."""
    best = float(program.cost @ optimum.x)
    total = abs(best + program.fixed_usd / program.unit_usd)
    scale = max(float(np.abs(goal).max(initial=0.0)), 1.0)
    row = (program.cost, best + room * total)
    return relaxed(program, cost=goal / scale, row=row, start=start)


def share_ranges(
    program: LinearProgram, optimum: Optimum, room: float
) -> dict[str, tuple[float, float]]:
    """Lowest and highest share of each side's new money within ``room`` of the best cost.

    A share is a ratio of two sums: its extreme is found by minimising numerator − share ×
    denominator until that is zero (Dinkelbach, Management Science 13(7), 1967).
    """
    money = {side: side_money(program, side) for side in SIDES}
    every = sum(money.values(), np.zeros(len(program.cost)))
    ranges = {}
    for side in SIDES:
        if not money[side].any():
            continue
        ends = []
        for sign in (1.0, -1.0):
            start = optimum.basis
            share = float(money[side] @ optimum.x) / float(every @ optimum.x)
            for _ in range(ROUNDS):
                goal = sign * (money[side] - share * every)
                least = _least(program, optimum, goal, room, start)
                if least is None or float(every @ least.x) <= 0:
                    break
                start = least.basis
                better = float(money[side] @ least.x) / float(every @ least.x)
                if sign * (share - better) <= 1e-6:
                    break
                share = better
            ends.append(min(max(share, 0.0), 1.0))
        ranges[side] = (ends[0], ends[1])
    return ranges
