"""A solved plan in chips and tokens: what to get when, what to port, what a token costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.serving import work_of
from tpubench.costs.allocation.supply import megawatts, running_usd_year, yearly
from tpubench.costs.allocation.timeline import MOMENT, Floats
from tpubench.costs.owned import MONTHS_PER_YEAR

NOTHING = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Chips of one option in one year: started now, and working for the plan."""

    year: int
    accelerator: str
    option: str
    chips: float
    """Bought or signed for in this year, or rented or drawn through it (mean of the scenarios)."""
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
class PowerYear:
    """Megawatts at the meter of all chips at the site in one year, and what the plan may draw."""

    year: int
    mw: float
    limit_mw: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCost:
    """A workload's expected tokens and what they cost.

    An accelerator's present cost is shared by the chip-years that each workload takes of it, idle
    chips included, so the workloads' costs add up to the plan's.
    """

    workload: str
    mtok: float
    served_share: float
    usd_per_mtok: float | None
    """Present cost ÷ present tokens; None when nothing is served."""
    by_accelerator: dict[str, float]
    """Share of its tokens that each accelerator serves."""


def chip_amounts(program: LinearProgram, x: Floats) -> list[Amount]:
    """What is bought and signed in each year, and what is rented and drawn through it."""
    plan, time = program.plan, program.timeline
    years, futures = plan.plan.years, len(plan.futures)
    chance = np.array([s.probability for s in plan.futures])
    listed: list[Amount] = []

    def add(accelerator: str, option: str, chips_ys: Floats) -> None:
        for y in range(years):
            row = chips_ys[y]
            if row.max(initial=0.0) > NOTHING:
                listed.append(
                    Amount(
                        year=plan.plan.first_year + y,
                        accelerator=accelerator,
                        option=option,
                        chips=float(row @ chance) if len(row) > 1 else float(row[0]),
                        low=float(row.min()),
                        high=float(row.max()),
                    )
                )

    for a, chip in enumerate(plan.accelerator):
        if chip.buy is not None:
            add(chip.name, "buy", x[program.at["buy"][a]][:, None] * chip.buy.lot)
        for k, deal in enumerate(chip.commit):
            lots = x[program.at[f"commit {a} {k}"]]
            if deal.min_chips > 0:
                lots = lots + x[program.at[f"signed {a} {k}"]]
            add(chip.name, deal.name, lots[:, None] * deal.lot)
        for k, contract in enumerate(chip.contract):
            draws = program.at.get(f"draw {a} {k}")
            if draws is None:
                continue
            pieces = program.at[f"draw {a} {k} piece"]
            held = np.zeros((years, futures))
            at = (time.y[pieces], time.s[pieces])
            np.add.at(held, at, x[draws] * program.scale_a[a])
            add(chip.name, contract.name, held)
        if chip.rent is not None:
            pieces = time.of_a[a]
            held = np.zeros((years, futures))
            at = (time.y[pieces], time.s[pieces])
            rented = x[program.at["rent"][pieces]] * chip.rent.lot * time.length[pieces]
            np.add.at(held, at, rented)
            add(chip.name, "rent", held)
    return listed


def ports(program: LinearProgram, x: Floats) -> list[Port]:
    """The ports that are paid for."""
    plan = program.plan
    used = np.zeros(len(plan.throughput), dtype=bool)
    np.logical_or.at(used, program.at["use_pair"], x[program.at["use"]] > NOTHING)
    return [
        Port(accelerator=pair.accelerator, workload=pair.workload, usd=pair.porting_usd)
        for p, pair in enumerate(plan.throughput)
        if program.at["port"][p] >= 0 and x[program.at["port"][p]] > 0.5 and used[p]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetYear:
    """Bought chips of one kind in one year, delivered as planned: no scenario's delays."""

    year: int
    accelerator: str
    owned: float
    """At the year's end."""
    retired: float
    """At the end of their life within the year."""


def fleet(program: LinearProgram, x: Floats) -> list[FleetYear]:
    """What is owned and what retires, by year; chips held before the plan stand apart."""
    plan = program.plan
    years = plan.plan.years
    listed = []
    for a, chip in enumerate(plan.accelerator):
        if chip.buy is None:
            continue
        chips = x[program.at["buy"][a]] * chip.buy.lot
        start = np.arange(years) + chip.buy.lead_months / MONTHS_PER_YEAR
        end = start + chip.buy.life_years
        for y in range(years):
            there = (start < y + 1 - MOMENT) & (end > y + 1 + MOMENT)
            gone = (end > y + MOMENT) & (end <= y + 1 + MOMENT)
            owned, retired = float(chips[there].sum()), float(chips[gone].sum())
            if owned > NOTHING or retired > NOTHING:
                year = plan.plan.first_year + y
                listed.append(
                    FleetYear(year=year, accelerator=chip.name, owned=owned, retired=retired)
                )
    return listed


def power_years(program: LinearProgram, x: Floats) -> list[PowerYear]:
    """What the plan's chips at the site draw, held ones included."""
    plan = program.plan
    drawn = program.matrix @ x
    at = {name[1]: i for i, name in enumerate(program.row_names) if name[0] == "power"}
    years, limits = plan.plan.years, plan.limits.megawatts
    held = np.zeros(years)
    for chip in plan.accelerator:
        if chip.held_chips is not None:
            held += yearly(chip.held_chips, years) * megawatts(plan, chip)
    allowed = None if limits is None else yearly(limits, years)
    return [
        PowerYear(
            year=plan.plan.first_year + y,
            mw=float(drawn[at[y]] + held[y]),
            limit_mw=None if allowed is None else float(allowed[y]),
        )
        for y in range(years)
    ]


def token_costs(program: LinearProgram, x: Floats) -> list[TokenCost]:
    """Each workload's cost per million tokens over the plan."""
    plan, time = program.plan, program.timeline
    work = work_of(plan)
    chance = np.array([s.probability for s in plan.futures])
    discount = (1 + plan.plan.wacc) ** -np.arange(1.0, plan.plan.years + 1)
    pair, piece = program.at["use_pair"], program.at["use_piece"]
    a, w, y, s = work.pair_a[pair], work.pair_w[pair], time.y[piece], time.s[piece]
    tokens = x[program.at["use"]] * work.demand_wys[w, y, s] * chance[s]
    present = tokens * discount[y]
    chip_years = present / work.mtok_pys[pair, y, s]
    cost_a = _cost_by_accelerator(program, x)
    all_a = np.bincount(a, weights=chip_years, minlength=len(cost_a))
    share = np.divide(chip_years, all_a[a], out=np.zeros_like(chip_years), where=all_a[a] > 0)
    usd = np.bincount(w, weights=share * cost_a[a], minlength=len(plan.workload))
    port, each = program.at["port"], program.present_usd()
    for p in np.flatnonzero(port >= 0):
        usd[work.pair_w[p]] += float(x[port[p]] * each[port[p]])
    costs = []
    for i, name in enumerate(work_.name for work_ in plan.workload):
        mine = w == i
        served, now = float(tokens[mine].sum()), float(present[mine].sum())
        asked = float((work.demand_wys[i] @ chance).sum())
        shares: dict[str, float] = {}
        for chip in np.unique(a[mine]):
            part = float(tokens[mine & (a == chip)].sum())
            if part > 1e-9 * max(served, 1.0):
                shares[plan.accelerator[int(chip)].name] = part / served
        costs.append(
            TokenCost(
                workload=name,
                mtok=served,
                served_share=served / asked if asked > 0 else 1.0,
                usd_per_mtok=float(usd[i]) / now if now > 0 else None,
                by_accelerator=shares,
            )
        )
    return costs


def _cost_by_accelerator(program: LinearProgram, x: Floats) -> Floats:
    """Present cost of each accelerator's chips, before what a token earns."""
    plan = program.plan
    names = [chip.name for chip in plan.accelerator]
    cost = np.zeros(len(names))
    of = np.array([names.index(o.accelerator) for o in program.options] + [-1])
    mine = program.option >= 0
    usd = program.present_usd() * x
    np.add.at(cost, of[program.option[mine]], usd[mine])
    discount = (1 + plan.plan.wacc) ** -np.arange(1.0, plan.plan.years + 1)
    for a, chip in enumerate(plan.accelerator):
        held = yearly(chip.held_chips if chip.held_chips is not None else 0.0, plan.plan.years)
        running = running_usd_year(plan, chip) * (1 - plan.plan.tax_rate)
        cost[a] += float(held @ discount) * running
    return cost
