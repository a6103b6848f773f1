"""Commitments: chips for a term, and dollar contracts with a minimum bill."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tpubench.costs.allocation.options import Accelerator, Commit, Contract
from tpubench.costs.allocation.program import Builder, Name, Option
from tpubench.costs.allocation.serving import scenario_delays
from tpubench.costs.allocation.supply import alike, lots, megawatts, site_usd_year
from tpubench.costs.allocation.timeline import MOMENT, Floats, Ints, by_year, overlap
from tpubench.costs.owned import HOURS_PER_YEAR, MONTHS_PER_YEAR


def steps(value: float | list[float] | None, term: int, default: float = 1.0) -> Floats:
    """One value a contract year; the last one given holds for the rest of the term."""
    if value is None:
        return np.full(term, default)
    if isinstance(value, float | int):
        return np.full(term, float(value))
    return np.array([value[min(n, len(value) - 1)] for n in range(term)], float)


def add_commitments(builder: Builder, a: int, capacity: Ints, scale: float, power: Ints) -> None:
    """Every chip commitment of one accelerator, what is signed already apart from what is new."""
    plan, chip = builder.plan, builder.plan.accelerator[a]
    years = plan.plan.years
    for k, deal in enumerate(chip.commit):
        room = lots(deal.max_chips, deal.lot, years)
        new = _add_commitment(builder, a, deal, room, capacity, scale, power, signed=False)
        builder.at[f"commit {a} {k}"] = new
        if deal.min_chips > 0:
            old = _add_commitment(builder, a, deal, room, capacity, scale, power, signed=True)
            builder.at[f"signed {a} {k}"] = old
            least = float(np.ceil(deal.min_chips / deal.lot - 1e-9))
            row = builder.rows([("signed", a, k)], least, least)
            builder.put(row, old, 1.0)
            row = builder.rows([("room", a, k, y) for y in range(years)], -np.inf, room)
            builder.put(row, old, 1.0)
            builder.put(row, new, 1.0)
            # What is signed already is what is delivered first.
            money = (deal.usd_per_chip_hour or 0.0) * HOURS_PER_YEAR * deal.lot
            builder.prefer(old, np.arange(years) * money)


def _add_commitment(
    builder: Builder,
    a: int,
    deal: Commit,
    room: Floats,
    capacity: Ints,
    scale: float,
    power: Ints,
    *,
    signed: bool,
) -> Ints:
    """Lots signed in each year, and given back later where the deal lets one."""
    plan, chip, time = builder.plan, builder.plan.accelerator[a], builder.timeline
    years, term = plan.plan.years, deal.term_years
    option = Option(
        accelerator=chip.name, vendor=chip.vendor, side=chip.side, how="commit",
        name=deal.name, signed=signed,
    )  # fmt: skip
    column = builder.columns(room, whole=True, option=option)
    ramp, step = steps(deal.ramp, term), steps(deal.price_steps, term)
    mine = time.of_a[a]
    delay = scenario_delays(plan, chip, "contract_delay_months")
    signed_in = np.arange(float(years))
    start = signed_in[:, None] + (deal.lead_months + delay[time.s[mine]]) / MONTHS_PER_YEAR
    year_n = np.arange(float(term))
    begin = start[:, None, :] + year_n[None, :, None]
    inside = overlap(begin, begin + 1, time.start[mine], time.end[mine])
    chips_eng = deal.lot * ramp[None, :, None] * inside
    builder.put(capacity[mine][None, :], column[:, None], -chips_eng.sum(axis=1) / scale)
    hourly = (deal.usd_per_chip_hour or 0.0) * HOURS_PER_YEAR * deal.lot
    bill_n = hourly * ramp * step
    nominal = signed_in + deal.lead_months / MONTHS_PER_YEAR
    if deal.on_site:
        present = by_year(nominal, nominal + term, years) > 0
        builder.put(power[None, :], column[:, None], deal.lot * megawatts(plan, chip) * present)
    kinds, scenarios = alike(delay)
    late_se = signed_in + (deal.lead_months + delay[kinds, None]) / MONTHS_PER_YEAR
    begins = late_se[:, :, None] + year_n
    paid_seny = by_year(begins, begins + 1, years)
    due = (paid_seny * bill_n[:, None]).sum(axis=2)
    grid, each, columns = np.arange(years), scenarios[:, None, None], column[None, :, None]
    builder.pay("commitments", columns, due * (1 - deal.prepay_share), grid, scenario=each)
    ahead = due.sum(axis=2) * deal.prepay_share
    order = np.arange(years)
    builder.pay("commitments", column, ahead, order, time=order, scenario=scenarios[:, None])
    if deal.on_site:
        used = (paid_seny * ramp[:, None]).sum(axis=2)
        site = used * deal.lot * site_usd_year(plan, chip)
        builder.pay("running", columns, site, grid, scenario=each)
    if deal.exit_after_years is not None:
        _add_exits(builder, a, deal, column, option, capacity, scale, delay, bill_n)
    return column


def _add_exits(
    builder: Builder,
    a: int,
    deal: Commit,
    column: Ints,
    option: Option,
    capacity: Ints,
    scale: float,
    delay: Floats,
    bill_n: Floats,
) -> None:
    """Lots given back after contract year n, decided when the scenario is known: their chips and
    instalments end, and a share of all that was still to come is due at once."""
    plan, chip, time = builder.plan, builder.plan.accelerator[a], builder.timeline
    years, term = plan.plan.years, deal.term_years
    ramp, mine = steps(deal.ramp, term), time.of_a[a]
    after = deal.exit_after_years or 0
    still = 1 - deal.prepay_share
    for s in range(len(delay)):
        here = mine[time.s[mine] == s]
        row = builder.rows([("exit", a, y, s) for y in range(years)], -np.inf, 0.0)
        builder.put(row, column, -1.0)
        for e in range(years):
            start = e + (deal.lead_months + float(delay[s])) / MONTHS_PER_YEAR
            for n in range(after, term):
                moment = start + n
                if moment >= years - 1e-9:
                    break
                back = builder.columns(np.array([np.inf]), option=option)
                builder.put(row[e : e + 1], back, 1.0)
                for m in range(n, term):
                    gone = overlap(
                        np.array(start + m), np.array(start + m + 1), time.start[here],
                        time.end[here],
                    )  # fmt: skip
                    builder.put(capacity[here], back[0], deal.lot * ramp[m] * gone / scale)
                    share = by_year(np.array(start + m), np.array(start + m + 1), years)
                    saved = -share * bill_n[m] * still
                    builder.pay("commitments", back[0], saved, np.arange(years), scenario=s)
                    if deal.on_site:
                        site = -share * ramp[m] * deal.lot * site_usd_year(plan, chip)
                        builder.pay("running", back[0], site, np.arange(years), scenario=s)
                fee = deal.exit_fee_share * float(bill_n[n:].sum()) * still
                year = int(moment + 1e-9)
                builder.pay("fees", back[0], fee, year, time=moment, scenario=s)


def add_contracts(builder: Builder, a: int, capacity: Ints, scale: float) -> None:
    """Dollar contracts: a bill of max(minimum, rate × chips drawn) in every contract year."""
    chip = builder.plan.accelerator[a]
    for k, deal in enumerate(chip.contract):
        _add_contract(builder, a, k, chip, deal, capacity, scale)


def _add_contract(
    builder: Builder,
    a: int,
    k: int,
    chip: Accelerator,
    deal: Contract,
    capacity: Ints,
    scale: float,
) -> None:
    plan, time = builder.plan, builder.timeline
    term = deal.term_years
    option = Option(
        accelerator=chip.name, vendor=chip.vendor, side=chip.side, how="commit", name=deal.name
    )
    sign = builder.columns(np.ones(1), whole=True, option=replace(option, signed=deal.signed))
    if deal.signed:
        builder.low[-1][:] = 1.0
    builder.at[f"contract {a} {k}"] = sign
    least = steps(deal.minimum_usd_per_year, term)
    most, step = steps(deal.max_chips, term), steps(deal.price_steps, term)
    first = (deal.start_year or plan.plan.first_year) - plan.plan.first_year
    mine = time.of_a[a]
    late = scenario_delays(plan, chip, "contract_delay_months")[time.s[mine]]
    begin = first + (deal.lead_months + late) / MONTHS_PER_YEAR + np.arange(float(term))[:, None]
    lasts = overlap(begin, begin + 1, time.start[mine], time.end[mine])
    n, at = np.nonzero(lasts > MOMENT)
    if not len(n):
        return
    piece, length = mine[at], lasts[n, at]
    # In chip-years, and in dollars of the contract year's part inside the plan.
    draw = builder.columns(most[n] * length / scale)
    builder.at[f"draw {a} {k}"] = draw
    builder.at[f"draw {a} {k} piece"] = piece
    builder.put(capacity[piece], draw, -1.0)
    # Contract years by scenario: one bill each.
    futures = len(plan.futures)
    bills, bill = np.unique(n * futures + time.s[piece], return_inverse=True)
    year_n, s = np.divmod(bills, futures)
    share = np.bincount(bill, weights=length)
    if not deal.signed:
        names: list[Name] = [
            ("drawn", a, k, int(i), int(j)) for i, j in zip(year_n, s, strict=True)
        ]
        row = builder.rows(names, -np.inf, 0.0)
        builder.put(row[bill], draw, 1.0)
        builder.put(row, sign, -most[year_n] * share / scale)
    dues = np.zeros((futures, plan.plan.years))
    np.add.at(dues, (time.s[piece], time.y[piece]), least[n] * length)
    order, scenarios = np.arange(plan.plan.years)[None, :], np.arange(futures)
    later = dues * (1 - deal.prepay_share)
    builder.pay("commitments", sign, later, order, scenario=scenarios[:, None])
    ahead = dues.sum(axis=1) * deal.prepay_share
    builder.pay("commitments", sign, ahead, first, time=float(first), scenario=scenarios)
    # Beyond the minimum: rate × drawn − minimum, where that is above zero, when the contract year
    # ends inside the plan, or with its last piece.
    rate = (deal.usd_per_chip_hour or 0.0) * step[year_n] * HOURS_PER_YEAR * scale
    minimum = least[year_n] * share
    unit = np.maximum(np.maximum(minimum, rate), 1.0)
    beyond = builder.columns(np.full(len(bills), np.inf), option=option)
    names = [("bill", a, k, int(i), int(j)) for i, j in zip(year_n, s, strict=True)]
    row = builder.rows(names, -np.inf, 0.0)
    builder.put(row[bill], draw, (rate / unit)[bill])
    builder.put(row, sign, -minimum / unit)
    builder.put(row, beyond, -1.0)
    last = np.zeros(len(bills), dtype=np.int64)
    np.maximum.at(last, bill, time.y[piece])
    builder.pay("commitments", beyond, unit, last, scenario=s)
