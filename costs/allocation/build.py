"""From a plan to its program: every family of columns in turn."""

from __future__ import annotations

import numpy as np

from tpubench.costs.allocation.agreements import add_commitments, add_contracts
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import Builder, LinearProgram
from tpubench.costs.allocation.serving import add_work, timeline_of, work_of
from tpubench.costs.allocation.supply import (
    add_held,
    add_purchases,
    add_rent,
    megawatts,
    yearly,
)
from tpubench.costs.allocation.timeline import Floats, Ints


def build(plan: Plan, *, elastic: bool = False) -> LinearProgram:
    """The program of a plan whose rates and throughputs are all given.

    With ``elastic``, demand that must be served may be left at a price far above any chip's, so
    that every future has an answer.
    """
    work = work_of(plan)
    timeline = timeline_of(plan, work)
    chips, years = len(plan.accelerator), plan.plan.years
    scale = np.array([_scale(plan, a) for a in range(chips)])
    builder = Builder(plan=plan, timeline=timeline, scale_a=scale)
    builder.at["buy"] = np.full((chips, years), -1, dtype=np.int64)
    builder.at["rent"] = np.full(len(timeline.a), -1, dtype=np.int64)
    held = np.array([add_held(builder, a) for a in range(chips)])
    free = held[timeline.a, timeline.y] * timeline.length / scale[timeline.a]
    names = [("capacity", int(g)) for g in range(len(timeline.a))]
    capacity = builder.rows(names, -np.inf, free)
    builder.at["capacity_row"] = capacity
    power = _power_rows(builder, held)
    for a in range(chips):
        add_purchases(builder, a, capacity, scale[a], power)
    for a in range(chips):
        add_commitments(builder, a, capacity, scale[a], power)
        add_contracts(builder, a, capacity, scale[a])
    for a in range(chips):
        add_rent(builder, a, capacity, scale[a])
    add_work(builder, work, capacity, scale, elastic)
    _budgets(builder)
    return builder.program()


def _scale(plan: Plan, a: int) -> float:
    """Chips that one unit of an accelerator's capacity rows counts, so that numbers stay near
    one."""
    chip = plan.accelerator[a]
    sizes = [o.lot for o in (chip.buy, chip.rent, *chip.commit) if o is not None]
    return float(max(sizes, default=1))


def _power_rows(builder: Builder, held: Floats) -> Ints:
    """Megawatts of chips at the site, by year; without a limit the rows do not bind."""
    plan = builder.plan
    years = plan.plan.years
    each = np.array([megawatts(plan, chip) for chip in plan.accelerator])
    limit: Floats | float = np.inf
    if plan.limits.megawatts is not None:
        limit = yearly(plan.limits.megawatts, years) - each @ held
    return builder.rows([("power", y) for y in range(years)], -np.inf, limit)


def _budgets(builder: Builder) -> None:
    """Capex of all years, and of each."""
    plan = builder.plan
    years, limits = plan.plan.years, plan.limits
    whole = limits.capex_usd is not None
    row = builder.rows([("budget",)], -np.inf, 1.0 if whole else np.inf)
    unit = max(limits.capex_usd or 0.0, 1.0)
    if whole and (limits.capex_usd or 0.0) < 1.0:
        builder.row_high[-1] = np.array([limits.capex_usd or 0.0])
    by_year = limits.capex_usd_by_year
    sizes = np.maximum(yearly(by_year if by_year is not None else 1.0, years), 1.0)
    high: Floats | float = np.inf
    if by_year is not None:
        high = yearly(by_year, years) / sizes
    rows = builder.rows([("yearly budget", y) for y in range(years)], -np.inf, high)
    for a, chip in enumerate(plan.accelerator):
        if chip.buy is None:
            continue
        column = builder.at["buy"][a]
        price = chip.buy.lot * chip.buy.capex_usd
        usd = price * (1 + chip.buy.capex_change_per_year) ** np.arange(years)
        builder.put(row, column, usd / unit)
        builder.put(rows, column, usd / sizes)
