"""What an answer rests on, in words, with the plan's own figures."""

from __future__ import annotations

import numpy as np

from tpubench.costs.allocation.agreements import steps
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.timeline import Floats
from tpubench.costs.owned import HOURS_PER_YEAR, MONTHS_PER_YEAR

NAMED = 6


def assumptions(plan: Plan, program: LinearProgram, x: Floats) -> list[str]:
    """One line each."""
    general, site = plan.plan, plan.site
    scenarios = [s.name for s in plan.futures]
    more = f" and {len(scenarios) - NAMED} more" if len(scenarios) > NAMED else ""
    lines = []
    if general.placeholders:
        lines.append(
            f"PLACEHOLDERS, nobody's figures: {', '.join(general.placeholders)}; give each, and"
            " take it from plan.placeholders"
        )
    lines += [
        f"money: {general.wacc:.1%} a year; purchases and prepayments at the start of a year, all"
        " else at its end",
        f"tax: {general.tax_rate:.0%} of profit; a loss reduces tax paid elsewhere; chips are"
        " written down in a straight line over their life or depreciation_years",
        f"utilisation: {general.utilisation:.0%} of paid hours serve at the throughput given",
        f"power: {site.usd_per_kwh:g} $/kWh, PUE {site.pue:g}, colocation"
        f" {site.colo_usd_per_kw_month:g} $/kW-month ({site.source}, {site.as_of})",
        f"resale: every chip's own curve × {general.resale_factor:g}, at the end of its life or"
        " of the plan",
        "a year is cut where porting ends: delivery and porting overlap, rent is paid for the part"
        " used; commitments are paid from delivery, used or not",
        f"scenarios: {', '.join(scenarios[:NAMED])}{more}; purchases, commitments and ports are"
        " decided before, rent, use and early exits after",
        "side, probability and flips: the relaxed plan, ties broken towards less new money and"
        " the option that stands first",
        "what one more of a limit is worth: duals of the relaxed plan, checked by a small step",
    ]
    owed = left_after_the_plan(plan, program, x)
    if owed > 0:
        lines.append(f"commitments still owe ${owed:,.0f} after the last year, not counted")
    for chip in plan.accelerator:
        if chip.buy is not None:
            buy = chip.buy
            curve = (
                f"worth {', '.join(f'{v:.0%}' for v in buy.residual_curve)} after each year"
                if buy.residual_curve is not None
                else f"worth {buy.residual_share:.0%} after {buy.life_years:g} years"
            )
            lines.append(
                f"{chip.name}: ${buy.capex_usd:,.0f} a chip ({buy.source}, {buy.as_of}),"
                f" {chip.kw:g} kW, life {buy.life_years:g} years, {curve}"
            )
    return lines


def left_after_the_plan(plan: Plan, program: LinearProgram, x: Floats) -> float:
    """Instalments of signed terms that fall after the plan's last year, dollars of their time."""
    years = plan.plan.years
    left = 0.0
    for a, chip in enumerate(plan.accelerator):
        for k, deal in enumerate(chip.commit):
            lots = x[program.at[f"commit {a} {k}"]]
            if deal.min_chips > 0:
                lots = lots + x[program.at[f"signed {a} {k}"]]
            bill = steps(deal.ramp, deal.term_years) * steps(deal.price_steps, deal.term_years)
            hourly = (deal.usd_per_chip_hour or 0.0) * HOURS_PER_YEAR * deal.lot
            for y in range(years):
                ends = y + deal.lead_months / MONTHS_PER_YEAR + np.arange(1.0, deal.term_years + 1)
                over = np.clip(ends - years, 0.0, 1.0)
                left += float(lots[y]) * hourly * float((over * bill).sum())
        for k, contract in enumerate(chip.contract):
            begin = (contract.start_year or plan.plan.first_year) - plan.plan.first_year
            late = contract.lead_months / MONTHS_PER_YEAR
            ends = begin + late + np.arange(1.0, contract.term_years + 1)
            over = np.clip(ends - years, 0.0, 1.0)
            least = steps(contract.minimum_usd_per_year, contract.term_years)
            left += float(x[program.at[f"contract {a} {k}"][0]]) * float((over * least).sum())
    return left
