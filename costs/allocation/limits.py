"""What one more of each limit is worth: duals of the relaxed plan, checked by a small step.

A dual is true for a small change, other things equal; the step re-solves the plan with the limit a
little wider and says so where the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import Optimum, relaxed
from tpubench.costs.allocation.inputs import Setting, apply
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.timeline import Floats
from tpubench.errors import UsageError

STEP = 1e-4
"""Part of a limit by which it is widened to check its dual."""
NOTABLE_USD = 1e-4
MONTH = 1 / 12


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWorth:
    """Present value gained by one more unit of a limit, US dollars."""

    limit: str
    path: str
    unit: str
    usd: float
    """By the dual; by the step itself where a limit has none."""
    step_usd: float | None
    """By a small step; None where the wider plan could not be solved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Dual:
    limit: str
    path: str
    unit: str
    value: float
    usd: float
    step: float
    """By how much to widen the limit in a check."""
    units: float = 1.0
    """Units of ``unit`` in one of the limit."""


def limit_worths(plan: Plan, program: LinearProgram, optimum: Optimum) -> list[LimitWorth]:
    """The limits that bind, in the order of the plan, then what a month earlier would save."""
    total = program.total_usd(optimum.x)
    worths = []
    for dual in (*_shared(plan, program, optimum), *_supply(plan, program, optimum)):
        if dual.usd <= NOTABLE_USD:
            continue
        again = _total(plan, Setting(path=dual.path, value=dual.value + dual.step))
        gain = None if again is None else (total - again) / (dual.step * dual.units)
        worths.append(
            LimitWorth(
                limit=dual.limit, path=dual.path, unit=dual.unit, usd=dual.usd, step_usd=gain
            )
        )
    return worths + list(_months(plan, total))


def _total(plan: Plan, setting: Setting) -> float | None:
    try:
        changed = apply(plan, [setting])
    except UsageError:
        return None
    program = build(changed)
    again = relaxed(program)
    return None if again is None else program.total_usd(again.x)


def _yearly(
    plan: Plan,
    names: tuple[str, str, str],
    value: float | list[float],
    usd_y: Floats,
    step: float,
) -> Iterator[_Dual]:
    """A limit by year: each year of a list, or all of them where one number holds for all."""
    limit, path, unit = names
    if isinstance(value, list):
        for y, usd in enumerate(usd_y):
            year = plan.plan.first_year + y
            yield _Dual(
                limit=f"{limit}, {year}", path=f"{path}[{year}]", unit=unit,
                value=float(value[y]), usd=float(usd), step=step or max(value[y] * STEP, 1e-9),
            )  # fmt: skip
    else:
        yield _Dual(
            limit=f"{limit}, every year", path=path, unit=unit, value=float(value),
            usd=float(usd_y.sum()), step=step or max(value * STEP, 1e-9),
        )  # fmt: skip


def _shared(plan: Plan, program: LinearProgram, optimum: Optimum) -> Iterator[_Dual]:
    gain = -optimum.row_duals * program.unit_usd
    rows: dict[tuple[str | int, ...], list[int]] = {}
    for i, name in enumerate(program.row_names):
        rows.setdefault(name[:2] if name[0] == "vendor" else name[:1], []).append(i)
    limits = plan.limits
    if limits.capex_usd is not None:
        usd = float(gain[rows["budget",][0]]) / max(limits.capex_usd, 1.0)
        yield _Dual(
            limit="capex budget", path="limits.capex_usd", unit="$ of capex",
            value=limits.capex_usd, usd=usd, step=max(limits.capex_usd * STEP, 1.0),
        )  # fmt: skip
    if limits.capex_usd_by_year is not None:
        usd_y = gain[rows["yearly budget",]] / np.maximum(limits.capex_usd_by_year, 1.0)
        names = ("capex budget", "limits.capex_usd_by_year", "$ of capex")
        yield from _yearly(plan, names, limits.capex_usd_by_year, usd_y, 0.0)
    if limits.megawatts is not None:
        names = ("power", "limits.megawatts", "MW")
        yield from _yearly(plan, names, limits.megawatts, gain[rows["power",]], 0.0)
    for vendor, share in limits.vendor_share.items():
        mine = rows.get(("vendor", vendor), [])
        work = np.ones(len(mine))
        if "served" in program.at:
            work = optimum.x[program.at["served"].ravel()]
        yield _Dual(
            limit=f"vendor share of {vendor}", path=f"limits.vendor_share.{vendor}",
            unit="percentage point", value=share, usd=float((gain[mine] * work).sum()) / 100,
            step=min(STEP, 1 - share) or STEP, units=100.0,
        )  # fmt: skip


def _supply(plan: Plan, program: LinearProgram, optimum: Optimum) -> Iterator[_Dual]:
    """Chips of every option: a chip more each year, or in one of them; steps are a whole lot."""
    gain = np.maximum(-optimum.column_duals * program.unit_usd, 0.0)
    gain = np.where(optimum.x >= program.high - 1e-6, gain, 0.0)
    years = plan.plan.years
    for a, chip in enumerate(plan.accelerator):
        base = f"accelerator[{chip.name}]"
        if chip.buy is not None:
            names = (f"{chip.name} to buy", f"{base}.buy.max_chips", "chip")
            usd_y = gain[program.at["buy"][a]] / chip.buy.lot
            yield from _yearly(plan, names, chip.buy.max_chips, usd_y, float(chip.buy.lot))
        for k, deal in enumerate(chip.commit):
            usd_y = gain[program.at[f"commit {a} {k}"]]
            if deal.min_chips > 0:
                room = [
                    i
                    for i, n in enumerate(program.row_names)
                    if n[0] == "room" and n[1:3] == (a, k)
                ]
                usd_y = np.maximum(-optimum.row_duals[room] * program.unit_usd, 0.0)
            names = (
                f"{chip.name} by {deal.name}", f"{base}.commit[{deal.name}].max_chips", "chip",
            )  # fmt: skip
            yield from _yearly(plan, names, deal.max_chips, usd_y / deal.lot, float(deal.lot))
        for k, contract in enumerate(chip.contract):
            draws = program.at.get(f"draw {a} {k}", np.zeros(0, np.int64))
            if isinstance(contract.max_chips, list) or not len(draws):
                continue
            pieces = program.at[f"draw {a} {k} piece"]
            length = program.timeline.length[pieces]
            usd = float((gain[draws] * length).sum()) / program.scale_a[a]
            yield _Dual(
                limit=f"{chip.name} by {contract.name}, every year",
                path=f"{base}.contract[{contract.name}].max_chips", unit="chip",
                value=contract.max_chips, usd=usd, step=max(contract.max_chips * STEP, 1e-6),
            )  # fmt: skip
        if chip.rent is not None:
            pieces = program.timeline.of_a[a]
            usd_y = np.zeros(years)
            np.add.at(usd_y, program.timeline.y[pieces], gain[program.at["rent"][pieces]])
            names = (f"{chip.name} to rent", f"{base}.rent.max_chips", "chip")
            yield from _yearly(
                plan, names, chip.rent.max_chips, usd_y / chip.rent.lot, float(chip.rent.lot)
            )


def _months(plan: Plan, total: float) -> Iterator[LimitWorth]:
    """A month less of lead time or porting, and readiness a month ahead, each by re-solving."""
    for chip in plan.accelerator:
        changes: list[tuple[str, str, list[Setting]]] = []
        if chip.buy is not None and chip.buy.lead_months > 0:
            path = f"accelerator[{chip.name}].buy.lead_months"
            months = max(chip.buy.lead_months - 1, 0.0)
            changes.append((f"lead time of {chip.name}", path, [Setting(path=path, value=months)]))
        mine = [t for t in plan.throughput if t.accelerator == chip.name]
        porting, ahead = [], []
        for pair in mine:
            path = f"throughput[{chip.name}, {pair.workload}]"
            if pair.porting_months > 0:
                sooner = max(pair.porting_months - 1, 0.0)
                porting.append(Setting(path=f"{path}.porting_months", value=sooner))
            if isinstance(pair.readiness, list):
                ready = np.array(pair.readiness)
                later = np.append(ready[1:], ready[-1])
                moved = (ready + MONTH * (later - ready)).tolist()
                ahead.append(Setting(path=f"{path}.readiness", value=moved))
        path = f"throughput[{chip.name}]"
        if porting:
            changes.append((f"porting to {chip.name}", f"{path}.porting_months", porting))
        if ahead:
            changes.append((f"readiness of {chip.name}", f"{path}.readiness", ahead))
        for name, where, settings in changes:
            program = build(apply(plan, settings))
            again = relaxed(program)
            if again is None:
                continue
            gain = total - program.total_usd(again.x)
            if gain > NOTABLE_USD:
                yield LimitWorth(
                    limit=name, path=where, unit="month earlier", usd=gain, step_usd=gain
                )
