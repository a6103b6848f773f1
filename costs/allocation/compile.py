"""From a plan to numbers: present values, lots, and the chips that each option has working.

Purchases are paid at the start of their year; running cost, rent, commitments and revenue at its
end. A chip bought in year e works from e + lead to e + lead + life, by the share of each year;
what it is worth at the end of the plan falls linearly from its price to its resale share.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.plan import Accelerator, Buy, Plan, Rate, Scenario
from tpubench.costs.allocation.problem import Floats, Problem
from tpubench.costs.owned import HOURS_PER_YEAR, MONTHS_PER_YEAR
from tpubench.costs.token_cost import SECONDS_PER_HOUR
from tpubench.devices.prices import Price
from tpubench.errors import UsageError

MTOK_PER_TOK_S_YEAR = SECONDS_PER_HOUR * HOURS_PER_YEAR / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Throughput of a pair as used, with how it is known."""

    tok_s: float
    evidence: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The problem, and what had to be assumed to make it."""

    plan: Plan
    problem: Problem
    rate_usd_hour: Mapping[tuple[str, str], float]
    """$/chip-hour by accelerator and option ("rent" or a commitment's name)."""
    running_usd_year: Mapping[str, float]
    """Upkeep, power and building of one owned chip for a year."""
    speeds: Mapping[tuple[str, str], Speed]
    notes: list[str]


def compile_plan(
    plan: Plan,
    table: Mapping[str, Price],
    speeds: Mapping[tuple[str, str], Speed],
    today: dt.date,
) -> Compiled:
    """The numbers of ``plan``. ``speeds`` holds the pairs that meet their SLO.

    UsageError when a price id is unknown, is of another accelerator or no pair is left.
    """
    general = plan.plan
    years, chips = general.years, plan.accelerator
    scenarios = plan.scenario or [Scenario(name="as planned", probability=1.0)]
    discount = (1 + general.wacc) ** -np.arange(years + 1.0)
    notes: list[str] = []
    rates = {
        (chip.name, name): _rate(chip, option, table, today, notes)
        for chip in chips
        for name, option in _rated(chip)
    }
    running = {chip.name: _running(plan, chip) for chip in chips}

    a_of = {chip.name: a for a, chip in enumerate(chips)}
    w_of = {work.name: w for w, work in enumerate(plan.workload)}
    pairs = [t for t in plan.throughput if (t.accelerator, t.workload) in speeds]
    if not pairs:
        raise UsageError("throughput: no pair of accelerator and workload meets its SLO")
    demand = np.array([work.demand(years) for work in plan.workload])
    factor = np.array([[_factor(s.demand, w.name) for s in scenarios] for w in plan.workload])
    demand_wys = demand[:, :, None] * factor[:, None, :]
    mtok = np.zeros((len(pairs), years, len(scenarios)))
    for p, pair in enumerate(pairs):
        chip = chips[a_of[pair.accelerator]]
        speed = speeds[pair.accelerator, pair.workload].tok_s * general.utilisation
        ready = np.broadcast_to(np.asarray(pair.readiness, float), (years,))
        for s, scenario in enumerate(scenarios):
            late = pair.porting_months + _delay(scenario, chip)
            started = np.clip(np.arange(1, years + 1) - late / MONTHS_PER_YEAR, 0, 1)
            software = np.minimum(1, ready * _chip_factor(scenario.readiness, chip))
            mtok[p, :, s] = speed * MTOK_PER_TOK_S_YEAR * software * started

    buys = [_bought(plan, chip, scenarios, discount, running[chip.name]) for chip in chips]
    commits = [(a, option) for a, chip in enumerate(chips) for option in chip.commit]
    starts = np.zeros((len(commits), years, years))
    commit_usd = np.zeros((len(commits), years))
    for k, (a, option) in enumerate(commits):
        for e in range(years):
            run = slice(e, min(years, e + option.term_years))
            starts[k, e, run] = option.lot
            paid = rates[chips[a].name, option.name] * HOURS_PER_YEAR * option.lot
            commit_usd[k, e] = paid * discount[1:][run].sum()
    rent_usd = np.zeros((len(chips), years, len(scenarios)))
    for a, chip in enumerate(chips):
        if chip.rent is not None:
            yearly = rates[chip.name, "rent"] * HOURS_PER_YEAR * chip.rent.lot
            change = (1 + chip.rent.change_per_year) ** np.arange(years)
            asked = [_chip_factor(s.rent_price, chip) for s in scenarios]
            rent_usd[a] = yearly * (change * discount[1:])[:, None] * np.array(asked)
    held = np.array([chip.held_chips or [0.0] * years for chip in chips])
    prices = np.array([work.price_usd_per_mtok or 0.0 for work in plan.workload])
    margin = general.objective == "max_margin"
    shortfall = general.shortfall_usd_per_mtok
    power = np.array([chip.kw * plan.site.pue / 1000 for chip in chips])
    problem = Problem(
        objective=general.objective,
        first_year=general.first_year,
        accelerators=tuple(chip.name for chip in chips),
        vendors=tuple(chip.vendor for chip in chips),
        workloads=tuple(work.name for work in plan.workload),
        scenarios=tuple(s.name for s in scenarios),
        probability_s=np.array([s.probability for s in scenarios]),
        demand_wys=demand_wys,
        pair_a=np.array([a_of[t.accelerator] for t in pairs], dtype=np.int64),
        pair_w=np.array([w_of[t.workload] for t in pairs], dtype=np.int64),
        mtok_pys=mtok,
        port_usd_p=np.array([t.porting_usd for t in pairs]),
        buy_lots_ay=np.array([buy.lots for buy in buys]),
        buy_usd_ay=np.array([buy.usd for buy in buys]),
        buy_capex_cash_ay=np.array([buy.capex for buy in buys]),
        buy_chips_aeys=np.array([buy.chips for buy in buys]),
        buy_mw_aey=np.array([buy.megawatts for buy in buys]),
        commit_names=tuple(f"{chips[a].name} {option.name}" for a, option in commits),
        commit_a=np.array([a for a, _ in commits], dtype=np.int64),
        commit_lots_ky=_lots([(o.max_chips, o.lot) for _, o in commits], years),
        commit_min_lots_k=np.array([np.ceil(o.min_chips / o.lot) for _, o in commits]),
        commit_usd_ky=commit_usd,
        commit_chips_key=starts,
        rent_lots_ay=_lots(
            [(c.rent.max_chips, c.rent.lot) if c.rent else (0.0, 1) for c in chips], years
        ),
        rent_chips_a=np.array([float(c.rent.lot) if c.rent else 0.0 for c in chips]),
        rent_usd_ays=rent_usd,
        held_chips_ay=held,
        held_mw_y=power @ held,
        capex_cash=plan.limits.capex_usd,
        capex_cash_y=_array(plan.limits.capex_usd_by_year),
        megawatts_y=_array(plan.limits.megawatts),
        vendor_share=dict(plan.limits.vendor_share),
        revenue_wys=np.broadcast_to(
            (prices[:, None] * discount[1:] * margin)[:, :, None], demand_wys.shape
        ).copy(),
        shortfall_wy=None
        if shortfall is None or margin
        else np.broadcast_to(shortfall * discount[1:], demand.shape).copy(),
        fixed_usd=float(
            sum((held[a] * running[chip.name]) @ discount[1:] for a, chip in enumerate(chips))
        ),
        cvar_level=general.cvar_level,
        cvar_weight=general.cvar_weight,
    )
    return Compiled(
        plan=plan,
        problem=problem,
        rate_usd_hour=rates,
        running_usd_year=running,
        speeds=dict(speeds),
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bought:
    lots: Floats
    usd: Floats
    capex: Floats
    chips: Floats
    megawatts: Floats


def _bought(
    plan: Plan, chip: Accelerator, scenarios: list[Scenario], discount: Floats, running: float
) -> _Bought:
    years = plan.plan.years
    lots, usd, capex = np.zeros(years), np.zeros(years), np.zeros(years)
    chips = np.zeros((years, years, len(scenarios)))
    megawatts = np.zeros((years, years))
    buy = chip.buy
    if buy is not None:
        lots = _lots([(buy.max_chips, buy.lot)], years)[0]
        for e in range(years):
            price = capex_usd(buy, e)
            lead = buy.lead_months / MONTHS_PER_YEAR
            works = working(years, e + lead, buy.life_years)
            capex[e] = buy.lot * price
            megawatts[e] = buy.lot * chip.kw * plan.site.pue / 1000 * (works > 0)
            worth = resale_usd(buy, price, years, e + lead)
            end = min(float(years), e + lead + buy.life_years)
            back = worth * (1 + plan.plan.wacc) ** -end
            cost = price * discount[e] + running * (works @ discount[1:]) - back
            usd[e] = buy.lot * cost
            for s, scenario in enumerate(scenarios):
                late = lead + _delay(scenario, chip) / MONTHS_PER_YEAR
                share = working(years, e + late, buy.life_years)
                chips[e, :, s] = buy.lot * buy.availability * share
    return _Bought(lots=lots, usd=usd, capex=capex, chips=chips, megawatts=megawatts)


def capex_usd(buy: Buy, year: int) -> float:
    """Price of a chip bought in that year of the plan."""
    return float(buy.capex_usd * (1 + buy.capex_change_per_year) ** year)


def working(years: int, start: float, life: float) -> Floats:
    """Share of each year of the plan in which a chip that starts at ``start`` works."""
    begin, end = np.arange(years), np.arange(1, years + 1)
    return np.asarray(np.clip(np.minimum(end, start + life) - np.maximum(begin, start), 0, 1))


def resale_usd(buy: Buy, price: float, years: int, start: float) -> float:
    """What a chip is worth when it retires, or at the end of the plan if that is earlier."""
    age = float(np.clip((years - start) / buy.life_years, 0, 1))
    return price * (1 - (1 - buy.residual_share) * age)


def _running(plan: Plan, chip: Accelerator) -> float:
    """Upkeep, power and building of an owned chip for a year."""
    site, u = plan.site, plan.plan.utilisation
    load = site.idle_power_share + (1 - site.idle_power_share) * u
    power = chip.kw * load * site.pue * site.usd_per_kwh * HOURS_PER_YEAR
    upkeep = chip.buy.opex_rate * chip.buy.capex_usd if chip.buy else 0.0
    return upkeep + power + MONTHS_PER_YEAR * chip.kw * site.colo_usd_per_kw_month


def _rated(chip: Accelerator) -> list[tuple[str, Rate]]:
    options: list[tuple[str, Rate]] = [(option.name, option) for option in chip.commit]
    if chip.rent is not None:
        options.append(("rent", chip.rent))
    return options


def _rate(
    chip: Accelerator, option: Rate, table: Mapping[str, Price], today: dt.date, notes: list[str]
) -> float:
    if option.usd_per_chip_hour is not None:
        if option.as_of is not None and (today - option.as_of).days > 90:
            notes.append(f"{chip.name}: rate of {option.as_of} ({option.source}) is stale")
        return option.usd_per_chip_hour
    found = table.get(option.price or "")
    if found is None:
        raise UsageError(f"accelerator {chip.name}: unknown price {option.price!r}")
    if found.accelerator not in {chip.name, "any"}:
        raise UsageError(f"accelerator {chip.name}: price {found.id!r} is for {found.accelerator}")
    doubts = [
        text
        for text, holds in (
            (f"stale (as of {found.as_of})", found.stale(today)),
            ("without its host", not found.includes_host),
            (found.note, found.suspect),
        )
        if holds
    ]
    if doubts:
        notes.append(f"{chip.name}: price {found.id} is {', '.join(doubts)}")
    return found.usd_per_chip_hour


def _lots(options: list[tuple[float | list[float], int]], years: int) -> Floats:
    rows = [np.broadcast_to(np.asarray(m, float), (years,)) / lot for m, lot in options]
    return np.floor(np.array(rows).reshape(len(options), years) + 1e-9)


def _array(values: list[float] | None) -> Floats | None:
    return None if values is None else np.array(values, dtype=float)


def _factor(factors: Mapping[str, float], name: str) -> float:
    return factors.get("all", 1.0) * factors.get(name, 1.0)


def _chip_factor(factors: Mapping[str, float], chip: Accelerator) -> float:
    return _factor(factors, chip.name) * factors.get(chip.vendor, 1.0)


def _delay(scenario: Scenario, chip: Accelerator) -> float:
    late = scenario.delay_months
    return sum(late.get(name, 0.0) for name in ("all", chip.name, chip.vendor))
