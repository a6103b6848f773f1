"""What no key of a plan shows alone: names that lead nowhere, lists of the wrong length, sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tpubench.costs.allocation.options import Accelerator, Commit, Contract
    from tpubench.costs.allocation.plan import Plan

MAX_CELLS = 4_000_000
"""Pairs × years × scenarios, or accelerators × years² × scenarios: some gigabytes of work."""
FACTORS = ("demand", "rent_price", "readiness", "supply", "delay_months", "contract_delay_months")


def contradictions(plan: Plan) -> Iterator[str]:
    """Each as "key: reason"."""
    yield from _size(plan)
    yield from _lengths(plan)
    yield from _names(plan)
    yield from _shares(plan)
    yield from _options(plan)
    if plan.plan.objective == "max_margin":
        for i, work in enumerate(plan.workload):
            if work.price_usd_per_mtok is None:
                yield f"workload[{i}].price_usd_per_mtok: needed for max_margin"


def _size(plan: Plan) -> Iterator[str]:
    years, futures = plan.plan.years, max(len(plan.scenario), 1)
    cells = max(len(plan.throughput), len(plan.accelerator) * years) * years * futures
    if cells > MAX_CELLS:
        yield f"plan: {cells:,} combinations to plan for, at most {MAX_CELLS:,} are taken"


def _deals(chip: Accelerator) -> list[str]:
    return [deal.name for deal in chip.commit] + [deal.name for deal in chip.contract]


def _names(plan: Plan) -> Iterator[str]:
    for key, names in (
        ("workload", [w.name for w in plan.workload]),
        ("accelerator", [a.name for a in plan.accelerator]),
        ("scenario", [s.name for s in plan.scenario]),
        ("throughput", [f"{t.workload} on {t.accelerator}" for t in plan.throughput]),
        *((f"accelerator {a.name}", [*_deals(a)]) for a in plan.accelerator),
    ):
        counts = Counter(names)
        for name in sorted(counts):
            if counts[name] > 1:
                yield f"{key}: {name} is given twice"
    for chip in plan.accelerator:
        for name in _deals(chip):
            if name in {"buy", "rent"}:
                yield f"accelerator {chip.name}: {name!r} cannot be a commitment's name"
    workloads = {w.name for w in plan.workload}
    accelerators = {a.name for a in plan.accelerator}
    vendors = {a.vendor for a in plan.accelerator}
    for i, pair in enumerate(plan.throughput):
        if pair.workload not in workloads:
            yield f"throughput[{i}].workload: no workload {pair.workload!r} in the plan"
        if pair.accelerator not in accelerators:
            yield f"throughput[{i}].accelerator: no accelerator {pair.accelerator!r} in the plan"
    for vendor in plan.limits.vendor_share:
        if vendor not in vendors:
            yield (
                f"limits.vendor_share.{vendor}: no accelerator of that vendor;"
                f" there are {', '.join(sorted(vendors))}"
            )
    known = workloads | accelerators | vendors | {"all"}
    for i, scenario in enumerate(plan.scenario):
        for key in FACTORS:
            for name in getattr(scenario, key):
                if name not in known:
                    yield f"scenario[{i}].{key}.{name}: no such workload or accelerator"


def _shares(plan: Plan) -> Iterator[str]:
    caps = plan.limits.vendor_share
    vendors = {a.vendor for a in plan.accelerator}
    if plan.must_serve and set(caps) == vendors and sum(caps.values()) < 1 - 1e-9:
        yield (
            f"limits.vendor_share: the caps of all vendors add up to {sum(caps.values()):g},"
            " below 1, and all demand must be served"
        )
    if plan.scenario and abs(sum(s.probability for s in plan.scenario) - 1) > 1e-6:
        total = sum(s.probability for s in plan.scenario)
        yield f"scenario: the probabilities add up to {total:g}, not 1"


def _options(plan: Plan) -> Iterator[str]:
    years = plan.plan.years
    for i, chip in enumerate(plan.accelerator):
        for k, option in enumerate(chip.commit):
            key = f"accelerator[{i}].commit[{k}]"
            room = option.max_chips
            by_year = [room] * years if isinstance(room, float | int) else room
            lots = sum(int(most / option.lot + 1e-9) for most in by_year)
            if -(-option.min_chips // option.lot) > lots:
                yield (
                    f"{key}.min_chips: {option.min_chips:g} is above all that max_chips allows"
                    f" ({lots * option.lot:g} in whole lots)"
                )
            if option.exit_after_years is not None and option.exit_after_years >= option.term_years:
                yield (
                    f"{key}.exit_after_years: {option.exit_after_years} is not within the term"
                    f" of {option.term_years}"
                )
        for k, contract in enumerate(chip.contract):
            key = f"accelerator[{i}].contract[{k}]"
            start = contract.start_year
            first = plan.plan.first_year
            if start is not None and not first <= start < first + years:
                yield f"{key}.start_year: {start} is not a year of the plan"
            if contract.signed and not contract.max_chips:
                yield f"{key}.max_chips: 0 chips for a minimum that is paid"


def _lengths(plan: Plan) -> Iterator[str]:
    years = plan.plan.years
    lists: list[tuple[str, object]] = [
        ("limits.capex_usd_by_year", plan.limits.capex_usd_by_year),
        ("limits.megawatts", plan.limits.megawatts),
    ]
    for i, work in enumerate(plan.workload):
        lists.append((f"workload[{i}].demand_mtok", work.demand_mtok))
        lists.append((f"workload[{i}].price_usd_per_mtok", work.price_usd_per_mtok))
    lists += [(f"throughput[{i}].readiness", t.readiness) for i, t in enumerate(plan.throughput)]
    for i, chip in enumerate(plan.accelerator):
        key = f"accelerator[{i}]"
        lists.append((f"{key}.held_chips", chip.held_chips))
        if chip.buy is not None:
            lists.append((f"{key}.buy.max_chips", chip.buy.max_chips))
        if chip.rent is not None:
            lists.append((f"{key}.rent.max_chips", chip.rent.max_chips))
        lists += [(f"{key}.commit[{k}].max_chips", c.max_chips) for k, c in enumerate(chip.commit)]
    for key, values in lists:
        if isinstance(values, list) and len(values) != years:
            yield f"{key}: {len(values)} values for {years} years"
    for i, chip in enumerate(plan.accelerator):
        families: list[tuple[str, Sequence[Commit | Contract]]] = [
            ("commit", chip.commit),
            ("contract", chip.contract),
        ]
        for kind, options in families:
            for k, deal in enumerate(options):
                for name in ("ramp", "price_steps", "minimum_usd_per_year", "max_chips"):
                    values = getattr(deal, name, None)
                    if kind == "commit" and name == "max_chips":
                        continue
                    if isinstance(values, list) and not 0 < len(values) <= deal.term_years:
                        yield (
                            f"accelerator[{i}].{kind}[{k}].{name}: {len(values)} values for"
                            f" {deal.term_years} contract years"
                        )
