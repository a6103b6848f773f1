"""A solved plan as facts: what to buy, commit and rent, when, for how much, and why.

Everything here is plain numbers and text, so that tables and ``--json`` show the same thing.
Amounts decided per scenario are given as their mean, lowest and highest.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tpubench.costs.allocation.compile import Compiled, compile_plan
from tpubench.costs.allocation.evidence import find_speeds
from tpubench.costs.allocation.infeasible import InfeasibleError, explain
from tpubench.costs.allocation.plan import read_plan
from tpubench.costs.allocation.problem import Floats, Ints
from tpubench.costs.allocation.shadow import ShadowPrice, shadow_prices
from tpubench.costs.allocation.solve import Solved, solve
from tpubench.costs.allocation.verdict import Verdict, weigh
from tpubench.costs.allocation.worth import CashYear, TokenCost, cash_flow, token_costs
from tpubench.costs.owned import HOURS_PER_YEAR
from tpubench.devices.prices import Price

NOTHING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Chips of one option in one year: started now, and working for the plan."""

    year: int
    accelerator: str
    option: str
    chips: float
    """Bought or committed to in this year, or rented for it (mean of the scenarios)."""
    low: float
    high: float
    """Over the scenarios; equal to ``chips`` where it is decided beforehand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A workload that is ported to an accelerator."""

    accelerator: str
    workload: str
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The plan's outcome. Money is US dollars; present values are of the first year's start."""

    name: str
    objective: str
    objective_usd: float
    """Present value: cost, or margin when it is maximised."""
    gap: float | None
    """Proved distance from the best possible; None when time ran out before any bound."""
    method: str
    tried_usd: dict[str, float]
    seconds: float
    amounts: list[Amount]
    ports: list[Port]
    cash: list[CashYear]
    tokens: list[TokenCost]
    shadow_prices: list[ShadowPrice]
    verdict: Verdict | None
    verdict_missing: str | None
    evidence: dict[str, int]
    assumptions: list[str]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        return asdict(self)


def allocate(path: Path, table: dict[str, Price], folder: Path, today: dt.date) -> Answer:
    """Solve the plan in ``path`` with the price ``table`` and the facts stored in ``folder``.

    UsageError for a bad file; InfeasibleError naming the limits that clash.
    """
    plan = read_plan(path)
    speeds, notes = find_speeds(plan, folder)
    compiled = compile_plan(plan, table, speeds, today)
    started = time.monotonic()
    solved = solve(compiled.problem, plan.plan.seconds, plan.plan.gap)
    if solved is None:
        raise explain(compiled.problem, plan.plan.seconds)
    if not np.isfinite(solved.objective):
        raise InfeasibleError("the plan has no finite cost")
    verdict = weigh(compiled)
    margin = plan.plan.objective == "max_margin"
    total = solved.objective + compiled.problem.fixed_usd
    return Answer(
        name=plan.plan.name,
        objective=plan.plan.objective,
        objective_usd=-total if margin else total,
        gap=solved.gap if math.isfinite(solved.gap) else None,
        method=solved.method,
        tried_usd=solved.tried,
        seconds=time.monotonic() - started,
        amounts=_amounts(compiled, solved),
        ports=_ports(solved),
        cash=cash_flow(compiled, solved),
        tokens=token_costs(compiled, solved),
        shadow_prices=shadow_prices(compiled, solved),
        verdict=verdict if isinstance(verdict, Verdict) else None,
        verdict_missing=verdict if isinstance(verdict, str) else None,
        evidence=_evidence(compiled),
        assumptions=[*assumptions(compiled, solved), *notes, *compiled.notes],
    )


def assumptions(compiled: Compiled, solved: Solved) -> list[str]:
    """What the answer rests on, in words, with the plan's own figures."""
    plan, problem = compiled.plan, compiled.problem
    general, site = plan.plan, plan.site
    found = [
        f"money: {general.wacc:.1%} a year; purchases at the start of a year, all else at its end",
        f"utilisation: {general.utilisation:.0%} of paid hours serve at the throughput given",
        f"power: {site.usd_per_kwh:g} $/kWh, PUE {site.pue:g}, colocation"
        f" {site.colo_usd_per_kw_month:g} $/kW-month ({site.source}, {site.as_of})",
        "owned chips are worth their straight-line value at the end of the plan",
        "rent is held for whole years; committed chips are paid for whether used or not",
        f"scenarios: {', '.join(problem.scenarios[:6])}"
        + (f" and {len(problem.scenarios) - 6} more" if len(problem.scenarios) > 6 else "")
        + "; purchases, commitments and ports are decided before, rent and use after",
        "shadow prices are those of the relaxed plan, true for a small step",
    ]
    left = _left_after_the_plan(compiled, solved)
    if left > 0:
        found.append(f"commitments still owe ${left:,.0f} after the last year, not counted")
    for chip in plan.accelerator:
        if chip.buy is not None:
            found.append(
                f"{chip.name}: ${chip.buy.capex_usd:,.0f} a chip ({chip.buy.source},"
                f" {chip.buy.as_of}), {chip.kw:g} kW, life {chip.buy.life_years:g} years"
            )
    return found


def _amounts(compiled: Compiled, solved: Solved) -> list[Amount]:
    problem, columns, x = compiled.problem, solved.model.columns, solved.x
    found: list[Amount] = []

    def add(year: int, accelerator: str, option: str, chips: Floats) -> None:
        if chips.max(initial=0.0) > NOTHING:
            mean = float(chips @ problem.probability_s) if len(chips) > 1 else float(chips[0])
            found.append(
                Amount(
                    year=problem.first_year + year,
                    accelerator=accelerator,
                    option=option,
                    chips=mean,
                    low=float(chips.min()),
                    high=float(chips.max()),
                )
            )

    for y in range(problem.years):
        for a, chip in enumerate(compiled.plan.accelerator):
            if chip.buy is not None:
                lots = _value(x, columns.buy_ay[a, y])
                add(y, chip.name, "buy", np.array([lots * chip.buy.lot]))
            for k, option in _commitments(compiled, a):
                lots = _value(x, columns.commit_ky[k, y])
                add(y, chip.name, option.name, np.array([lots * option.lot]))
            if chip.rent is not None:
                rented = [_value(x, i) * chip.rent.lot for i in columns.rent_ays[a, y]]
                add(y, chip.name, "rent", np.array(rented))
    return found


def _commitments(compiled: Compiled, a: int) -> list[tuple[int, Any]]:
    first = sum(len(chip.commit) for chip in compiled.plan.accelerator[:a])
    return [(first + i, o) for i, o in enumerate(compiled.plan.accelerator[a].commit)]


def _ports(solved: Solved) -> list[Port]:
    problem, columns = solved.model.problem, solved.model.columns
    return [
        Port(
            accelerator=problem.accelerators[problem.pair_a[p]],
            workload=problem.workloads[problem.pair_w[p]],
            usd=float(problem.port_usd_p[p]),
        )
        for position, p in enumerate(solved.model.pairs)
        if _value(solved.x, columns.port_p[position]) > 0.5
        and _used(solved, columns.use_pys[position])
    ]


def _used(solved: Solved, use: Ints) -> bool:
    return bool((np.where(use >= 0, solved.x[use], 0.0) > NOTHING).any())


def _evidence(compiled: Compiled) -> dict[str, int]:
    """How many throughputs are known in which way; they are never mixed without saying so."""
    counts: dict[str, int] = {}
    for speed in compiled.speeds.values():
        counts[speed.evidence] = counts.get(speed.evidence, 0) + 1
    return counts


def _left_after_the_plan(compiled: Compiled, solved: Solved) -> float:
    problem = compiled.problem
    left = 0.0
    for a, chip in enumerate(compiled.plan.accelerator):
        for k, option in _commitments(compiled, a):
            for y in range(problem.years):
                over = max(0, y + option.term_years - problem.years)
                lots = _value(solved.x, solved.model.columns.commit_ky[k, y])
                rate = compiled.rate_usd_hour[chip.name, option.name]
                left += over * lots * option.lot * rate * HOURS_PER_YEAR
    return left


def _value(x: Floats, column: int) -> float:
    return float(x[column]) if column >= 0 else 0.0
