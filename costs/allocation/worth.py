"""What the plan costs, by year and by token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.compile import Compiled, capex_usd, resale_usd, working
from tpubench.costs.allocation.problem import Floats, Ints
from tpubench.costs.allocation.solve import Solved
from tpubench.costs.owned import HOURS_PER_YEAR, MONTHS_PER_YEAR


@dataclass(frozen=True, slots=True, kw_only=True)
class CashYear:
    """Cash of one year as expected over the scenarios, US dollars of that year, spent above 0."""

    year: int
    capex: float
    porting: float
    running: float
    commitments: float
    rent: float
    shortfall: float
    revenue: float
    resale: float
    """Chips that retire, and in the last year what the others are still worth."""

    @property
    def net(self) -> float:
        spent = self.capex + self.porting + self.running + self.commitments + self.rent
        return spent + self.shortfall - self.revenue - self.resale


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


def cash_flow(compiled: Compiled, solved: Solved) -> list[CashYear]:
    """Expected cash by year, owned chips' running cost and resale included."""
    plan, problem = compiled.plan, compiled.problem
    years, model, x = problem.years, solved.model, solved.x
    grow = (1 + plan.plan.wacc) ** np.arange(1, years + 1)
    capex, running, resale = np.zeros(years), np.zeros(years), np.zeros(years)
    for a, chip in enumerate(plan.accelerator):
        run = compiled.running_usd_year[chip.name]
        running += problem.held_chips_ay[a] * run
        buy = chip.buy
        if buy is None:
            continue
        for e in range(years):
            bought = _at(x, model.columns.buy_ay[a, e]) * buy.lot
            price, start = capex_usd(buy, e), e + buy.lead_months / MONTHS_PER_YEAR
            capex[e] += bought * price
            running += bought * run * working(years, start, buy.life_years)
            last = min(years, int(np.ceil(start + buy.life_years - 1e-9))) - 1
            resale[last] += bought * resale_usd(buy, price, years, start)
    commit = np.zeros(years)
    for k, a in enumerate(problem.commit_a):
        chip = plan.accelerator[int(a)]
        name = problem.commit_names[k].removeprefix(f"{chip.name} ")
        for e in range(years):
            chips = _at(x, model.columns.commit_ky[k, e]) * problem.commit_chips_key[k, e]
            commit += chips * compiled.rate_usd_hour[chip.name, name] * HOURS_PER_YEAR
    expected = problem.probability_s
    rent = _mean(x, model.columns.rent_ays, problem.rent_usd_ays, expected) * grow
    gains = (problem.revenue_wys * problem.demand_wys)[problem.pair_w[model.pairs]]
    revenue = _mean(x, model.columns.use_pys, gains, expected) * grow
    short = np.zeros(years)
    if problem.shortfall_wy is not None:
        penalty = problem.shortfall_wy[:, :, None] * problem.demand_wys
        short = _mean(x, model.columns.short_wys, penalty, expected) * grow
    ports = sum(
        float(problem.port_usd_p[p]) * _at(x, model.columns.port_p[i])
        for i, p in enumerate(model.pairs)
    )
    return [
        CashYear(
            year=problem.first_year + y,
            capex=float(capex[y]),
            porting=ports if y == 0 else 0.0,
            running=float(running[y]),
            commitments=float(commit[y]),
            rent=float(rent[y]),
            shortfall=float(short[y]),
            revenue=float(revenue[y]),
            resale=float(resale[y]),
        )
        for y in range(years)
    ]


def token_costs(compiled: Compiled, solved: Solved) -> list[TokenCost]:
    """Each workload's cost per million tokens over the plan."""
    problem, model, x = compiled.problem, solved.model, solved.x
    discount = (1 + compiled.plan.plan.wacc) ** -np.arange(1.0, problem.years + 1)
    a, w = problem.pair_a[model.pairs], problem.pair_w[model.pairs]
    mtok = problem.mtok_pys[model.pairs]
    use = np.where(model.columns.use_pys >= 0, x[model.columns.use_pys], 0.0)
    tokens_pys = use * problem.demand_wys[w]
    chips_pys = np.divide(tokens_pys, mtok, out=np.zeros_like(mtok), where=mtok > 0)
    weight = discount[None, :, None] * problem.probability_s
    tokens_p, chips_p = (tokens_pys * weight).sum((1, 2)), (chips_pys * weight).sum((1, 2))
    plain_p = (tokens_pys * problem.probability_s).sum((1, 2))
    cost_a = _cost_by_accelerator(compiled, solved)
    chips_a = np.zeros(len(problem.accelerators))
    np.add.at(chips_a, a, chips_p)
    found = []
    for i, name in enumerate(problem.workloads):
        mine = w == i
        usd = sum(
            cost_a[a[p]] * chips_p[p] / chips_a[a[p]]
            + problem.port_usd_p[model.pairs[p]] * _at(x, model.columns.port_p[p])
            for p in np.flatnonzero(mine)
            if chips_p[p] > 0
        )
        tokens = float(tokens_p[mine].sum())
        asked = float((problem.demand_wys[i] * problem.probability_s).sum())
        served = float(plain_p[mine].sum())
        shares: dict[str, float] = {}
        for p in np.flatnonzero(mine & (plain_p > 1e-9 * max(served, 1.0))):
            chip = problem.accelerators[a[p]]
            shares[chip] = shares.get(chip, 0.0) + float(plain_p[p]) / served
        found.append(
            TokenCost(
                workload=name,
                mtok=served,
                served_share=served / asked if asked > 0 else 1.0,
                usd_per_mtok=float(usd) / tokens if tokens > 0 else None,
                by_accelerator=shares,
            )
        )
    return found


def _cost_by_accelerator(compiled: Compiled, solved: Solved) -> Floats:
    problem, model, x = compiled.problem, solved.model, solved.x
    discount = (1 + compiled.plan.plan.wacc) ** -np.arange(1.0, problem.years + 1)
    buy, commit = model.columns.buy_ay, model.columns.commit_ky
    cost = np.where(buy >= 0, x[buy] * problem.buy_usd_ay, 0.0).sum(axis=1)
    np.add.at(
        cost,
        problem.commit_a,
        np.where(commit >= 0, x[commit] * problem.commit_usd_ky, 0.0).sum(axis=1),
    )
    rent = model.columns.rent_ays
    rented = np.where(rent >= 0, x[rent], 0.0) * problem.rent_usd_ays * problem.probability_s
    held = [
        float(problem.held_chips_ay[a] @ discount) * compiled.running_usd_year[chip.name]
        for a, chip in enumerate(compiled.plan.accelerator)
    ]
    return np.asarray(cost + rented.sum(axis=(1, 2)) + np.array(held))


def _mean(x: Floats, columns: Ints, usd: Floats, expected: Floats) -> Floats:
    amount = np.where(columns >= 0, x[columns], 0.0)
    return np.asarray((amount * usd * expected).sum(axis=(0, 2)))


def _at(x: Floats, column: int) -> float:
    return float(x[column]) if column >= 0 else 0.0
