"""Chips: buying, committing by the chip, drawing on a dollar contract, renting.

Purchases and prepayments are paid when they are signed, at the start of their year; running cost,
rent and instalments at the end of the year in which they fall, for the part of it that they run.
"""

from __future__ import annotations

import numpy as np

from tpubench.costs.allocation.options import Accelerator, Buy
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import Builder, Option
from tpubench.costs.allocation.serving import factor, scenario_delays
from tpubench.costs.allocation.timeline import Floats, Ints, by_year, overlap
from tpubench.costs.owned import HOURS_PER_YEAR, MONTHS_PER_YEAR


def yearly(value: float | list[float], years: int) -> Floats:
    """One value a year of the plan."""
    return np.broadcast_to(np.asarray(value, float), (years,))


def lots(value: float | list[float], lot: int, years: int) -> Floats:
    """Whole lots within ``value`` chips, by year."""
    return np.floor(yearly(value, years) / lot + 1e-9)


def running_usd_year(plan: Plan, chip: Accelerator) -> float:
    """Upkeep, power and building of a chip at the site for a year."""
    upkeep = chip.buy.opex_rate * chip.buy.capex_usd if chip.buy else 0.0
    return upkeep + site_usd_year(plan, chip)


def site_usd_year(plan: Plan, chip: Accelerator) -> float:
    """Power and building alone: what a leased chip costs beside its rate."""
    site, u = plan.site, plan.plan.utilisation
    load = site.idle_power_share + (1 - site.idle_power_share) * u
    power = chip.kw * load * site.pue * site.usd_per_kwh * HOURS_PER_YEAR
    return power + MONTHS_PER_YEAR * chip.kw * site.colo_usd_per_kw_month


def megawatts(plan: Plan, chip: Accelerator) -> float:
    """Power of one chip at the meter."""
    return chip.kw * plan.site.pue / 1000


def worth_share(buy: Buy, age: Floats) -> Floats:
    """What is left of a chip's price at that age in years, before ``plan.resale_factor``."""
    if buy.residual_curve is not None:
        ages = np.arange(len(buy.residual_curve) + 1.0)
        return np.interp(age, ages, [1.0, *buy.residual_curve])
    gone = np.clip(age / buy.life_years, 0, 1)
    return np.asarray(1 - (1 - buy.residual_share) * gone)


def add_purchases(builder: Builder, a: int, capacity: Ints, scale: float, power: Ints) -> None:
    """Chips bought in each year: price, running cost, resale, depreciation."""
    plan, chip = builder.plan, builder.plan.accelerator[a]
    buy = chip.buy
    if buy is None:
        return
    years, time = plan.plan.years, builder.timeline
    option = Option(
        accelerator=chip.name, vendor=chip.vendor, side=chip.side, how="buy", name="buy"
    )
    column = builder.columns(lots(buy.max_chips, buy.lot, years), whole=True, option=option)
    builder.at["buy"][a] = column
    delay = scenario_delays(plan, chip, "delay_months")
    part = np.array([min(1.0, factor(s.supply, chip)) for s in plan.futures])
    order = np.arange(float(years))
    mine = time.of_a[a]
    start = order[:, None] + (buy.lead_months + delay[time.s[mine]]) / MONTHS_PER_YEAR
    works = overlap(start, start + buy.life_years, time.start[mine], time.end[mine])
    chips = buy.lot * buy.availability * works * part[time.s[mine]]
    builder.put(capacity[mine][None, :], column[:, None], -chips / scale)
    nominal = order + buy.lead_months / MONTHS_PER_YEAR
    present = by_year(nominal, nominal + buy.life_years, years) > 0
    builder.put(power[None, :], column[:, None], buy.lot * megawatts(plan, chip) * present)
    kinds, scenarios = alike(delay, part)
    late = order + (buy.lead_months + delay[kinds, None]) / MONTHS_PER_YEAR
    _pay_for_purchases(builder, chip, buy, column, late, part[kinds], scenarios)


def alike(*by_scenario: Floats) -> tuple[Ints, Ints]:
    """Which scenarios to look at and how the ledger calls them: all, or the first as −1 where
    none differs."""
    if all((values == values[0]).all() for values in by_scenario):
        return np.zeros(1, dtype=np.int64), np.full(1, -1)
    every = np.arange(len(by_scenario[0]))
    return every, every


def _pay_for_purchases(
    builder: Builder,
    chip: Accelerator,
    buy: Buy,
    column: Ints,
    start_se: Floats,
    part_s: Floats,
    scenario_s: Ints,
) -> None:
    """Of chips ordered in year e and delivered at ``start_se`` in each scenario."""
    plan = builder.plan
    years = plan.plan.years
    order = np.arange(years)
    growth = (1 + buy.capex_change_per_year) ** order
    price_se = buy.lot * buy.capex_usd * part_s[:, None] * growth
    works = by_year(start_se, start_se + buy.life_years, years)
    scenario, each = scenario_s[:, None], scenario_s[:, None, None]
    grid, columns = order[None, None, :], column[None, :, None]
    builder.pay("capex", column, price_se, order, time=order, scenario=scenario)
    running = buy.lot * part_s[:, None, None] * running_usd_year(plan, chip)
    builder.pay("running", columns, running * works, grid, scenario=each)
    end = np.minimum(float(years), start_se + buy.life_years)
    last = np.clip(np.ceil(end - 1e-9).astype(np.int64) - 1, 0, years - 1)
    age = np.maximum(end - start_se, 0.0)
    worth = price_se * worth_share(buy, age) * plan.plan.resale_factor
    builder.pay("resale", column, worth, last, time=end, scenario=scenario)
    life = buy.depreciation_years or buy.life_years
    written = by_year(start_se, np.minimum(start_se + life, end), years) / life
    builder.pay("depreciation", columns, price_se[:, :, None] * written, grid, scenario=each)
    book = price_se * np.maximum(1 - age / life, 0.0)
    builder.pay("book", column, book, last, scenario=scenario)


def add_rent(builder: Builder, a: int, capacity: Ints, scale: float) -> None:
    """Chips rented for a piece of a year, paid for that piece."""
    plan, chip, time = builder.plan, builder.plan.accelerator[a], builder.timeline
    rent = chip.rent
    if rent is None:
        return
    years, mine = plan.plan.years, time.of_a[a]
    option = Option(
        accelerator=chip.name, vendor=chip.vendor, side=chip.side, how="rent", name="rent"
    )
    y, s, length = time.y[mine], time.s[mine], time.length[mine]
    most = lots(rent.max_chips, rent.lot, years)[y]
    column = builder.columns(most, whole=True, option=option)
    builder.at["rent"][mine] = column
    builder.put(capacity[mine], column, -rent.lot * length / scale)
    asked = np.array([factor(f.rent_price, chip) for f in plan.futures])[s]
    rate = (rent.usd_per_chip_hour or 0.0) * (1 + rent.change_per_year) ** y * asked
    builder.pay("rent", column, rate * HOURS_PER_YEAR * rent.lot * length, y, scenario=s)


def add_held(builder: Builder, a: int) -> Floats:
    """Chips held already: their running cost; returns how many there are by year."""
    plan, chip = builder.plan, builder.plan.accelerator[a]
    years = plan.plan.years
    held = yearly(chip.held_chips if chip.held_chips is not None else 0.0, years)
    builder.pay("running", -1, held * running_usd_year(plan, chip), np.arange(years))
    return held
