"""A solved plan in money: cash by year and scenario, profit and tax, and the whole as a venture.

Everything is read from the program's ledger, so it adds up to the objective.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.program import CASH, CATEGORIES, PROFIT, LinearProgram
from tpubench.costs.allocation.timeline import Floats
from tpubench.costs.investment import Flow, irr, payback_years_linear

EXPECTED = "expected"
OPERATING = ("running", "rent", "commitments", "fees", "porting")
SPENT = ("capex", "porting", "running", "commitments", "fees", "rent", "shortfall")


@dataclass(frozen=True, slots=True, kw_only=True)
class CashYear:
    """Cash of one year, US dollars of that year, spent above 0."""

    scenario: str
    """``expected`` over all, or one of them."""
    year: int
    capex: float
    porting: float
    running: float
    commitments: float
    fees: float
    """For giving committed chips back early."""
    rent: float
    shortfall: float
    revenue: float
    resale: float
    """Chips that retire, and in the last year what the others are still worth."""
    tax: float
    net: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfitYear:
    """Profit and loss of one year, US dollars of that year."""

    scenario: str
    """``expected`` over all, or one of them."""
    year: int
    revenue: float
    operating: float
    """Running, rent, commitments, fees and porting."""
    depreciation: float
    disposal: float
    """Resale less what the chips still stood in the books at."""
    before_tax: float
    tax: float
    after_tax: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The plan as one venture; what needs revenue is None where no workload has a price."""

    cost_usd: float
    """Present value of everything spent, less resale, after tax."""
    revenue_usd: float
    """Present value of revenue, before tax."""
    npv_usd: float | None
    margin: float | None
    """Present value ÷ present revenue."""
    payback_years: float | None
    irr: float | None
    irr_missing: str | None


def amounts(program: LinearProgram, x: Floats) -> Floats:
    """Dollars by category, year and scenario."""
    ledger = program.ledger
    futures = len(program.plan.futures)
    usd = ledger.usd * np.where(ledger.column >= 0, x[np.maximum(ledger.column, 0)], 1.0)
    table = np.zeros((len(CATEGORIES), program.plan.plan.years, futures))
    own = ledger.scenario >= 0
    at = (ledger.category[own], ledger.year[own], ledger.scenario[own])
    np.add.at(table, at, usd[own])
    shared = np.zeros(table.shape[:2])
    np.add.at(shared, (ledger.category[~own], ledger.year[~own]), usd[~own])
    return np.asarray(table + shared[:, :, None])


def cash_years(program: LinearProgram, x: Floats) -> list[CashYear]:
    """Cash by year: expected, then of every scenario where there are several."""
    plan = program.plan
    years = []
    for name, view in _views(program, x):
        tax = plan.plan.tax_rate * (PROFIT @ view)
        net = CASH @ view + tax
        for y in range(plan.plan.years):
            parts = {c: float(view[i, y]) for i, c in enumerate(CATEGORIES) if CASH[i]}
            years.append(
                CashYear(
                    scenario=name,
                    year=plan.plan.first_year + y,
                    tax=float(tax[y]),
                    net=float(net[y]),
                    **parts,
                )
            )
    return years


def _views(program: LinearProgram, x: Floats) -> Iterator[tuple[str, Floats]]:
    """Dollars by category and year: expected, then of every scenario where there are several."""
    table, futures = amounts(program, x), program.plan.futures
    yield EXPECTED, table @ np.array([s.probability for s in futures])
    if len(futures) > 1:
        yield from ((s.name, table[:, :, i]) for i, s in enumerate(futures))


def profit_years(program: LinearProgram, x: Floats) -> list[ProfitYear]:
    """Profit and loss by year: expected, then of every scenario where there are several."""
    plan = program.plan
    years = []
    for name, view in _views(program, x):
        usd = dict(zip(CATEGORIES, view, strict=True))
        operating = np.sum([usd[c] for c in OPERATING], axis=0)
        disposal = usd["resale"] - usd["book"]
        before = usd["revenue"] - operating - usd["depreciation"] + disposal
        tax = plan.plan.tax_rate * before
        years += [
            ProfitYear(
                scenario=name,
                year=plan.plan.first_year + y,
                revenue=float(usd["revenue"][y]),
                operating=float(operating[y]),
                depreciation=float(usd["depreciation"][y]),
                disposal=float(disposal[y]),
                before_tax=float(before[y]),
                tax=float(tax[y]),
                after_tax=float(before[y] - tax[y]),
            )
            for y in range(plan.plan.years)
        ]
    return years


def flows(program: LinearProgram, x: Floats) -> list[Flow]:
    """Expected cash after tax at every time at which some is paid, received above 0."""
    plan, ledger = program.plan, program.ledger
    chance = np.array([s.probability for s in plan.futures])
    weight = np.where(ledger.scenario >= 0, chance[np.maximum(ledger.scenario, 0)], 1.0)
    usd = ledger.usd * weight * np.where(ledger.column >= 0, x[np.maximum(ledger.column, 0)], 1.0)
    by_time: dict[float, float] = {}
    cash = -CASH[ledger.category] * usd
    tax = -plan.plan.tax_rate * PROFIT[ledger.category] * usd
    for times, amount in ((ledger.time, cash), (ledger.year + 1.0, tax)):
        moments, inverse = np.unique(np.round(times, 9), return_inverse=True)
        sums = np.bincount(inverse, weights=amount, minlength=len(moments))
        for moment, total in zip(moments, sums, strict=True):
            by_time[float(moment)] = by_time.get(float(moment), 0.0) + float(total)
    return [Flow(years=time, usd=usd) for time, usd in sorted(by_time.items())]


def whole(program: LinearProgram, x: Floats) -> Whole:
    """Present value, margin, payback and internal rate of return of the whole plan."""
    plan, ledger = program.plan, program.ledger
    chance = np.array([s.probability for s in plan.futures])
    weight = np.where(ledger.scenario >= 0, chance[np.maximum(ledger.scenario, 0)], 1.0)
    earned = ledger.category == CATEGORIES.index("revenue")
    at = np.where(ledger.column >= 0, x[np.maximum(ledger.column, 0)], 1.0)
    present = ledger.usd * weight * at * (1 + plan.plan.wacc) ** -ledger.time
    revenue = float(present[earned].sum())
    cash = flows(program, x)
    value = sum(flow.usd * (1 + plan.plan.wacc) ** -flow.years for flow in cash)
    cost = revenue * (1 - plan.plan.tax_rate) - value
    if revenue <= 0:
        return Whole(
            cost_usd=cost, revenue_usd=0.0, npv_usd=None, margin=None, payback_years=None,
            irr=None, irr_missing="no workload has a price",
        )  # fmt: skip
    rate = irr(cash)
    return Whole(
        cost_usd=cost,
        revenue_usd=revenue,
        npv_usd=value,
        margin=value / revenue,
        payback_years=payback_years_linear(cash),
        irr=rate.rate,
        irr_missing=rate.reason,
    )
