"""Figures that are probably in another unit than the plan takes: each is questioned in one line.

The ranges are wide: what lies outside has not been seen in any price list, data sheet or filing
that the shipped tables quote, and is a slip of the unit more often than a discovery.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.serving import demand_wys, work_of
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError

LEAST_PARAMETERS = 1e8
"""Of a model whose size the plan does not give: 2 × as many FLOP for a token bound its rate."""
MOST_CHIPS = 1e8
"""For one workload; some ten million accelerators have been sold in all."""
PLAN_AHEAD_YEARS = 15


class ImplausibleError(UsageError):
    """Figures to ask about; ``questions`` has a line for each."""

    def __init__(self, questions: list[str]) -> None:
        self.questions = questions
        count = f"{len(questions)} figures are" if len(questions) > 1 else "one figure is"
        super().__init__(f"{count} hard to believe: correct what is wrong, or go on with --force")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Range:
    low: float
    high: float
    unit: str
    slips: tuple[tuple[float, str], ...] = ()
    """Factors by which a slip is usually off, and its name."""


KW = _Range(low=0.02, high=5, unit="kW a chip", slips=((1e-3, "in W"), (1e3, "in MW")))
RANGES = {
    "kw": KW,
    "usd_per_kwh": _Range(low=0.01, high=1, unit="$/kWh",
                          slips=((1e-3, "a MWh"), (1e-2, "in cents"))),
    "pue": _Range(low=1, high=3, unit="(power usage effectiveness)"),
    "colo_usd_per_kw_month": _Range(low=5, high=2000, unit="$/kW-month",
                                    slips=((1 / 12, "a year"),)),
    "megawatts": _Range(low=0.001, high=50_000, unit="MW", slips=((1e-3, "in kW"), (1e-6, "in W"),
                                                               (1e3, "in GW"))),
    "capex_usd": _Range(low=200, high=500_000, unit="$ a chip",
                        slips=((1e3, "in thousands"), (1 / 72, "of a rack"))),
    "usd_per_chip_hour": _Range(low=0.02, high=100, unit="$/chip-hour",
                                slips=((1 / 8, "of a machine of 8"), (1e-2, "in cents"))),
    "price_usd_per_mtok": _Range(low=1e-4, high=2000, unit="$ a million tokens",
                                 slips=((1e6, "a token"), (1e3, "a thousand tokens"))),
    "shortfall_usd_per_mtok": _Range(low=0, high=1e6, unit="$ a million tokens"),
    "growth": _Range(low=-0.95, high=20, unit="a year, as a share", slips=((1e-2, "in percent"),)),
    "wacc": _Range(low=0, high=0.4, unit="a year, as a share"),
    "utilisation": _Range(low=0.01, high=1, unit="of paid hours"),
    "availability": _Range(low=0.3, high=1, unit="of the time"),
    "opex_rate": _Range(low=0, high=0.5, unit="of the price a year"),
    "life_years": _Range(low=0.5, high=15, unit="years", slips=((1 / 12, "in months"),)),
    "lead_months": _Range(low=0, high=48, unit="months", slips=((1 / 30, "in days"),)),
    "porting_months": _Range(low=0, high=60, unit="months", slips=((1 / 30, "in days"),)),
    "porting_usd": _Range(low=0, high=1e10, unit="$ a port"),
}  # fmt: skip
BUDGETS = _Range(low=100, high=2e12, unit="$", slips=((1e6, "in millions"), (1e9, "in billions")))


def questions(plan: Plan, today: dt.date) -> list[str]:
    """One line for every figure outside what is plausible: its path, what is wrong, a guess."""
    return [*_by_range(plan), *_rates(plan), *_demand(plan), *_dates(plan, today)]


def _by_range(plan: Plan) -> Iterator[str]:
    content = plan.model_dump()
    tables = [("plan", content["plan"]), ("site", content["site"])]
    limits = content["limits"]
    if limits["megawatts"] is not None:
        tables.append(("limits", {"megawatts": limits["megawatts"]}))
    tables += [(f"workload[{w['name']}]", w) for w in content["workload"]]
    for chip in content["accelerator"]:
        of = f"accelerator[{chip['name']}]"
        tables.append((of, chip))
        tables += [(f"{of}.{way}", chip[way]) for way in ("buy", "rent") if chip[way]]
        for way in ("commit", "contract"):
            tables += [(f"{of}.{way}[{deal['name']}]", deal) for deal in chip[way]]
    for pair in content["throughput"]:
        tables.append((f"throughput[{pair['accelerator']}, {pair['workload']}]", pair))
    for table, values in tables:
        for key, known in RANGES.items():
            yield from _outside(f"{table}.{key}", values.get(key), known)
    for key in ("capex_usd", "capex_usd_by_year"):
        yield from _outside(f"limits.{key}", limits[key], BUDGETS)


def _outside(path: str, value: object, known: _Range) -> Iterator[str]:
    for number in value if isinstance(value, list) else [value]:
        # Nothing at all is a choice, not a slip.
        if not isinstance(number, int | float) or (number == 0 and not path.endswith(".pue")):
            continue
        if known.low <= number <= known.high:
            continue
        guess = next(
            (name for f, name in known.slips if known.low <= number * f <= known.high), None
        )
        ask = f"; is it {guess}?" if guess else ""
        yield (f"{path}: {number:g} {known.unit} is outside {known.low:g} to {known.high:,g}{ask}")
        return


def _rates(plan: Plan) -> Iterator[str]:
    """A token takes at least two operations a parameter, and no chip does more than its peak."""
    sizes = {work.name: work.active_parameters for work in plan.workload}
    for pair in plan.throughput:
        peaks = devices()[pair.accelerator].peak_flop_s
        peak = max(peaks.values(), default=0.0)
        size = sizes[pair.workload] or LEAST_PARAMETERS
        most = peak / (2 * size)
        if most and (pair.tok_s or 0.0) > most:
            yield (
                f"throughput[{pair.accelerator}, {pair.workload}].tok_s: {pair.tok_s:g} tok/s is"
                f" more than the chip's peak gives for {size:g} parameters ({most:.3g} tok/s); is"
                " it of many chips?"
            )


def _demand(plan: Plan) -> Iterator[str]:
    work = work_of(plan)
    most = demand_wys(plan).max(axis=(1, 2))
    for w, item in enumerate(plan.workload):
        mine = work.pair_w == w
        fastest = float(work.mtok_pys[mine].max(initial=0.0)) if mine.any() else 0.0
        if fastest > 0 and most[w] / fastest > MOST_CHIPS:
            key = "demand_mtok" if item.demand_mtok is not None else "demand_mtok_first"
            yield (
                f"workload[{item.name}].{key}: {most[w]:.3g} million tokens a year take"
                f" {most[w] / fastest:.2g} of the fastest chip; is it in tokens?"
            )


def _dates(plan: Plan, today: dt.date) -> Iterator[str]:
    first = plan.plan.first_year
    if not today.year - 1 <= first <= today.year + PLAN_AHEAD_YEARS:
        yield f"plan.first_year: {first} is far from today, {today}"
    dated = [("site", plan.site.as_of)]
    for chip in plan.accelerator:
        ways = [chip.buy, chip.rent, *chip.commit, *chip.contract]
        dated += [(f"accelerator[{chip.name}]", w.as_of) for w in ways if w and w.as_of]
    for where, day in dict.fromkeys(dated):
        if day > today:
            yield f"{where}.as_of: {day} is in the future"


def closed(plan: Plan) -> list[str]:
    """Ways to get a chip that are in the file and never open: no chips, or none in whole lots."""
    lines = []
    for chip in plan.accelerator:
        ways = [("buy", chip.buy), *((deal.name, deal) for deal in chip.commit)]
        for name, way in [*ways, ("rent", chip.rent)]:
            if way is None:
                continue
            most = float(np.max(way.max_chips))
            if most == 0:
                lines.append(f"{chip.name} {name}: max_chips is 0, so there is none to be had")
            elif most < way.lot:
                lines.append(
                    f"{chip.name} {name}: a lot of {way.lot} is larger than max_chips {most:g}, so"
                    " there is none to be had"
                )
        for contract in chip.contract:
            if float(np.max(contract.max_chips)) == 0:
                lines.append(
                    f"{chip.name} {contract.name}: max_chips is 0, so there is none to be had"
                )
    return lines
