"""Every number of a plan that a flip is looked for in, with its unit and plausible range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tpubench.costs.allocation.plan import Plan

FACTOR = (0.25, 4.0)
WIDE = (0.1, 10.0)

RANGES: dict[str, tuple[str, bool, float, float]] = {
    # key: unit, whether the range is of factors on the value, its ends
    "capex_usd": ("$", True, *FACTOR),
    "usd_per_chip_hour": ("$/chip-hour", True, *FACTOR),
    "minimum_usd_per_year": ("$ a year", True, *FACTOR),
    "tok_s": ("tok/s", True, *FACTOR),
    "readiness": ("share", True, *FACTOR),
    "demand_mtok_first": ("M tokens a year", True, *FACTOR),
    "demand_mtok": ("M tokens a year", True, *FACTOR),
    "price_usd_per_mtok": ("$/M tokens", True, *WIDE),
    "shortfall_usd_per_mtok": ("$/M tokens", True, *WIDE),
    "megawatts": ("MW", True, *FACTOR),
    "capex_usd_by_year": ("$", True, *FACTOR),
    "max_chips": ("chips", True, *WIDE),
    "min_chips": ("chips", True, 1e-3, 4.0),
    "held_chips": ("chips", True, *WIDE),
    "kw": ("kW", True, 0.5, 2.0),
    "porting_usd": ("$", True, *WIDE),
    "residual_curve": ("share of the price", True, 1e-3, 2.0),
    "ramp": ("share", True, 0.1, 1.0),
    "price_steps": ("factor", True, *FACTOR),
    "growth": ("a year", False, -0.3, 2.0),
    "price_change_per_year": ("a year", False, -0.6, 0.3),
    "elasticity": ("", False, 0.0, 3.0),
    "wacc": ("a year", False, 0.0, 0.25),
    "utilisation": ("share of hours", False, 0.1, 1.0),
    "resale_factor": ("×", False, 0.0, 1.5),
    "tax_rate": ("share of profit", False, 0.0, 0.4),
    "usd_per_kwh": ("$/kWh", False, 0.01, 0.5),
    "pue": ("", False, 1.0, 2.0),
    "colo_usd_per_kw_month": ("$/kW-month", False, 0.0, 500.0),
    "capex_change_per_year": ("a year", False, -0.5, 0.5),
    "change_per_year": ("a year", False, -0.5, 0.5),
    "life_years": ("years", False, 1.5, 10.0),
    "residual_share": ("share of the price", False, 0.0, 0.6),
    "opex_rate": ("a year", False, 0.0, 0.2),
    "availability": ("share of hours", False, 0.5, 1.0),
    "lead_months": ("months", False, 0.0, 36.0),
    "porting_months": ("months", False, 0.0, 36.0),
    "prepay_share": ("share", False, 0.0, 1.0),
    "exit_fee_share": ("share", False, 0.0, 1.0),
    "cvar_weight": ("weight", False, 0.0, 1.0),
    "probability": ("", False, 0.001, 0.999),
    "delay_months": ("months", False, 0.0, 36.0),
    "contract_delay_months": ("months", False, 0.0, 36.0),
    "vendor_share": ("share", False, 0.0, 1.0),
    "demand": ("×", True, *FACTOR),
    "rent_price": ("×", True, *FACTOR),
    "supply": ("×", True, 0.05, 2.0),
}

FIRST = ("price[", ".tok_s", "readiness", "utilisation", "demand", "limits", "change", "resale")
"""What a reader asks of first; what is looked at first when time is short."""

WORDS = {
    "capex_usd": "purchase price",
    "usd_per_chip_hour": "rate",
    "change_per_year": "yearly change of the rate",
    "capex_change_per_year": "yearly change of the purchase price",
    "max_chips": "supply",
    "min_chips": "chips signed",
    "kw": "power",
    "minimum_usd_per_year": "yearly minimum",
    "demand_mtok": "demand",
    "demand_mtok_first": "first year's demand",
    "growth": "growth of demand",
    "price_usd_per_mtok": "price",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One input: where it stands, and between which values it may plausibly lie."""

    path: str
    name: str
    now: float
    low: float
    high: float
    unit: str
    several: bool
    """The path names several numbers: values are factors, ``now`` is 1."""
    geometric: bool


def candidates(plan: Plan) -> list[Candidate]:
    """Every input that could turn the answer, those that readers ask of first at the front."""
    content = plan.model_dump()
    listed = [*_prices(plan), *_pairs(plan), *_tables(content), *_scenarios(content)]

    def rank(item: Candidate) -> int:
        return next((i for i, word in enumerate(FIRST) if word in item.path), len(FIRST))

    return sorted(listed, key=rank)


def _of(
    path: str, name: str, key: str, value: Any, *, several: bool = False
) -> Iterator[Candidate]:
    """The candidate of one input, none where the key has no range or the value is absent."""
    if key not in RANGES or value is None or isinstance(value, bool):
        return
    unit, factors, low, high = RANGES[key]
    if (several or isinstance(value, list)) and not any(_flat(value)):
        return
    if several or isinstance(value, list):
        low, high = (low, high) if factors else FACTOR
        if key == "readiness":
            high = max(1.0, 1 / min(v for v in _flat(value) if v > 0))
        yield Candidate(
            path=path, name=name, now=1.0, low=low, high=high, unit="×", several=True,
            geometric=True,
        )  # fmt: skip
        return
    if factors and not value:
        return
    ends = (value * low, value * high) if factors else (min(low, value), max(high, value))
    if key == "readiness":
        ends = (ends[0], min(ends[1], 1.0))
    yield Candidate(
        path=path, name=name, now=float(value), low=ends[0], high=ends[1], unit=unit,
        several=False, geometric=factors,
    )  # fmt: skip


def _flat(value: Any) -> list[float]:
    if isinstance(value, list):
        return [number for part in value for number in _flat(part)]
    return [float(value)]


def _prices(plan: Plan) -> Iterator[Candidate]:
    for chip in plan.accelerator:
        ways = (chip.buy is not None) + len(chip.commit) + len(chip.contract)
        if ways + (chip.rent is not None) > 0:
            yield Candidate(
                path=f"price[{chip.name}]", name=f"price of {chip.name}, all options", now=1.0,
                low=FACTOR[0], high=FACTOR[1], unit="×", several=True, geometric=True,
            )  # fmt: skip


def _pairs(plan: Plan) -> Iterator[Candidate]:
    for chip in plan.accelerator:
        mine = [t for t in plan.throughput if t.accelerator == chip.name]
        for key, words in (
            ("tok_s", "throughput"),
            ("readiness", "readiness"),
            ("porting_usd", "porting cost"),
            ("porting_months", "porting time"),
        ):
            values = [getattr(t, key) for t in mine]
            if len(mine) > 1:
                path = f"throughput[{chip.name}].{key}"
                name = f"{words} of {chip.name}, all workloads"
                yield from _of(path, name, key, values, several=True)
            for pair, value in zip(mine, values, strict=True):
                path = f"throughput[{chip.name}, {pair.workload}].{key}"
                yield from _of(path, f"{words} of {pair.workload} on {chip.name}", key, value)


def _tables(content: dict[str, Any]) -> Iterator[Candidate]:
    for table in ("plan", "site"):
        for key, value in content[table].items():
            yield from _of(f"{table}.{key}", key.replace("_", " "), key, value)
    for key, value in content["limits"].items():
        if key == "vendor_share":
            for vendor, share in value.items():
                path = f"limits.vendor_share.{vendor}"
                yield from _of(path, f"most work served by {vendor}", "vendor_share", share)
        else:
            yield from _of(f"limits.{key}", f"limit of {key.replace('_', ' ')}", key, value)
    for work in content["workload"]:
        for key, value in work.items():
            path = f"workload[{work['name']}].{key}"
            yield from _of(path, f"{_words(key)} of {work['name']}", key, value)
    for chip in content["accelerator"]:
        base = f"accelerator[{chip['name']}]"
        for key, value in chip.items():
            yield from _of(f"{base}.{key}", f"{_words(key)} of {chip['name']}", key, value)
        for option in ("buy", "rent"):
            for key, value in (chip[option] or {}).items():
                name = f"{_words(key)} of {chip['name']}, {option}"
                yield from _of(f"{base}.{option}.{key}", name, key, value)
        for family in ("commit", "contract"):
            for deal in chip[family]:
                for key, value in deal.items():
                    name = f"{_words(key)} of {chip['name']}, {deal['name']}"
                    yield from _of(f"{base}.{family}[{deal['name']}].{key}", name, key, value)


def _words(key: str) -> str:
    return WORDS.get(key, key.replace("_", " "))


def _scenarios(content: dict[str, Any]) -> Iterator[Candidate]:
    for scenario in content["scenario"]:
        base = f"scenario[{scenario['name']}]"
        for key, value in scenario.items():
            if key == "probability" and len(content["scenario"]) > 1:
                name = f"probability of {scenario['name']}"
                yield from _of(f"{base}.{key}", name, key, value)
            elif isinstance(value, dict):
                for who, factor in value.items():
                    name = f"{_words(key)} of {who} in {scenario['name']}"
                    yield from _of(f"{base}.{key}.{who}", name, key, factor)
