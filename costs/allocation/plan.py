"""PLAN.toml: what the user says of demand, options, limits and doubts.

Lists have one value a year. Every price has its source and date, given here or through the id of
a price table entry. See ``docs/money.md`` for a walk through an example.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tpubench.costs.userfile import Checked, read_toml
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError

MAX_YEARS = 30
MAX_SCENARIOS = 1000
MAX_CELLS = 4_000_000
"""Pairs × years × scenarios, or accelerators × years² × scenarios: some gigabytes of work."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e15)]
NotNegative = Annotated[float, Field(ge=0, le=1e15)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Factors = dict[Name, Annotated[float, Field(ge=0, le=1000)]]


class General(Checked):
    """Horizon, money and how hard to look."""

    name: Name
    objective: Literal["min_cost", "max_margin"] = "min_cost"
    first_year: int = Field(ge=2000, le=2200)
    years: int = Field(ge=1, le=MAX_YEARS)
    wacc: float = Field(ge=0, le=1)
    utilisation: float = Field(gt=0, le=1)
    """Share of paid hours that serve at the throughput given."""
    shortfall_usd_per_mtok: NotNegative | None = None
    """Penalty for demand not served; without it all demand is a must (min_cost)."""
    cvar_level: float = Field(default=0.9, ge=0, lt=1)
    cvar_weight: Share = 0.0
    seconds: float = Field(default=60.0, gt=0, le=86_400)
    gap: float = Field(default=0.001, gt=0, lt=1)


class Site(Checked):
    """Where owned chips stand."""

    usd_per_kwh: NotNegative
    pue: float = Field(ge=1, le=10)
    colo_usd_per_kw_month: NotNegative = 0.0
    idle_power_share: Share = 0.0
    source: Name
    as_of: dt.date


class Limits(Checked):
    """What all options share. An absent limit does not bind."""

    capex_usd: NotNegative | None = None
    capex_usd_by_year: list[NotNegative] | None = None
    megawatts: list[NotNegative] | None = None
    """Power at the meter for owned chips, PUE included."""
    vendor_share: dict[Name, Share] = Field(default_factory=dict)
    """Most of the work that one vendor may serve; a workload's weight in the work is the number
    of its fastest accelerator that its demand would take."""


class Workload(Checked):
    """Tokens to serve, million a year: a list, or a first year and growth."""

    name: Name
    demand_mtok: list[NotNegative] | None = None
    demand_mtok_first: NotNegative | None = None
    growth: float | None = Field(default=None, gt=-1, le=100)
    price_usd_per_mtok: NotNegative | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Workload:
        first = self.demand_mtok_first is not None and self.growth is not None
        if first == (self.demand_mtok is not None):
            raise ValueError("give demand_mtok, or demand_mtok_first with growth")
        return self

    def demand(self, years: int) -> list[float]:
        if self.demand_mtok is not None:
            return self.demand_mtok
        first, growth = self.demand_mtok_first or 0.0, self.growth or 0.0
        return [first * (1 + growth) ** year for year in range(years)]


class Buy(Checked):
    """Chips for sale, with their share of server and network."""

    capex_usd: Positive
    capex_change_per_year: float = Field(default=0.0, gt=-1, le=10)
    lot: int = Field(default=1, ge=1, le=1_000_000)
    max_chips: NotNegative | list[NotNegative]
    """Supply a year."""
    life_years: float = Field(gt=0, le=30)
    residual_share: Share = 0.0
    opex_rate: Share = 0.0
    availability: float = Field(default=1.0, gt=0, le=1)
    lead_months: float = Field(default=0.0, ge=0, le=120)
    source: Name
    as_of: dt.date


class Rate(Checked):
    """A $/chip-hour: a price table id, or a figure with source and date."""

    price: Name | None = None
    usd_per_chip_hour: Positive | None = None
    source: Name | None = None
    as_of: dt.date | None = None
    lot: int = Field(default=1, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _dated(self) -> Rate:
        if (self.price is None) == (self.usd_per_chip_hour is None):
            raise ValueError("give price (an id) or usd_per_chip_hour")
        if self.usd_per_chip_hour is not None and (self.as_of is None or self.source is None):
            raise ValueError("usd_per_chip_hour needs as_of and source: a price without a date")
        return self


class Commit(Rate):
    """Chips paid for every hour of a term, used or not."""

    name: Name
    term_years: int = Field(ge=1, le=MAX_YEARS)
    max_chips: NotNegative | list[NotNegative]
    """Most chips whose term may start in a year."""
    min_chips: NotNegative = 0.0
    """Chips signed for already: at least so many start within the plan."""


class Rent(Rate):
    """Chips by the year at an hourly rate, decided when demand is known."""

    max_chips: NotNegative | list[NotNegative]
    change_per_year: float = Field(default=0.0, gt=-1, le=10)


class Accelerator(Checked):
    """One kind of chip and the ways to get it."""

    name: Name
    kw: Positive
    """Power per chip at full load at the rack, its share of the server included."""
    held_chips: list[NotNegative] | None = None
    buy: Buy | None = None
    commit: list[Commit] = Field(default_factory=list)
    rent: Rent | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in devices():
            raise ValueError(f"unknown accelerator {value!r}; known: {', '.join(devices())}")
        return value

    @property
    def vendor(self) -> str:
        return devices()[self.name].vendor


class FromStore(Checked):
    """Which stored rows give the throughput; the newest run that matches, all its repetitions."""

    workload: Name
    preset: Name | None = None
    dtype: Name | None = None
    run_id: Name | None = None
    metric: Name = "output_tok_s_per_chip"
    max_ttft_s: Positive | None = None
    max_tpot_s: Positive | None = None


class Throughput(Checked):
    """Tokens a second that one chip serves of a workload at its SLO. An absent pair cannot."""

    accelerator: Name
    workload: Name
    tok_s: Positive | None = None
    evidence: Literal["measured", "published", "compiled", "modelled", "assumed"] | None = None
    source: Name | None = None
    from_store: FromStore | None = None
    readiness: Share | list[Share] = 1.0
    """Share of that throughput that the software reaches, year by year."""
    porting_usd: NotNegative = 0.0
    porting_months: float = Field(default=0.0, ge=0, le=120)

    @model_validator(mode="after")
    def _one_way(self) -> Throughput:
        if (self.tok_s is None) == (self.from_store is None):
            raise ValueError("give tok_s or from_store")
        if self.tok_s is not None and (self.evidence is None or self.source is None):
            raise ValueError("tok_s needs evidence and source")
        return self


class Scenario(Checked):
    """One future. Factors by name of a workload, accelerator or vendor, or ``all``."""

    name: Name
    probability: float = Field(gt=0, le=1)
    demand: Factors = Field(default_factory=dict)
    rent_price: Factors = Field(default_factory=dict)
    readiness: Factors = Field(default_factory=dict)
    delay_months: Factors = Field(default_factory=dict)
    """Later delivery of bought chips and later end of porting."""


class Doubt(Checked):
    """Half-widths of the uniform ranges behind the verdict, as shares of each figure."""

    vendor: Name = "Google"
    """Whose chips are set against all others."""
    price: Share = 0.15
    tok_s: Share = 0.2
    readiness: Share = 0.15
    utilisation: Share = 0.1
    samples: int = Field(default=2048, ge=64, le=1 << 20)
    seed: int = Field(default=0, ge=0)


class Plan(Checked):
    """The whole file."""

    plan: General
    site: Site
    limits: Limits = Field(default_factory=Limits)
    workload: list[Workload] = Field(min_length=1, max_length=500)
    accelerator: list[Accelerator] = Field(min_length=1, max_length=500)
    throughput: list[Throughput] = Field(min_length=1, max_length=100_000)
    scenario: list[Scenario] = Field(default_factory=list, max_length=MAX_SCENARIOS)
    doubt: Doubt = Field(default_factory=Doubt)


def read_plan(path: Path) -> Plan:
    """The plan in a file. UsageError with file, key and reason when it is not one."""
    plan = read_toml(path, Plan)
    complaint = next(iter(_contradictions(plan)), None)
    if complaint is not None:
        raise UsageError(f"{path}: {complaint}")
    return plan


def _contradictions(plan: Plan) -> list[str]:
    """What each key alone cannot show, as "key: reason"."""
    workloads = {w.name for w in plan.workload}
    accelerators = {a.name for a in plan.accelerator}
    vendors = {a.vendor for a in plan.accelerator}
    years, futures = plan.plan.years, max(len(plan.scenario), 1)
    cells = max(len(plan.throughput), len(plan.accelerator) * years) * years * futures
    found = _lengths(plan)
    if cells > MAX_CELLS:
        found.append(f"plan: {cells:,} combinations to plan for, at most {MAX_CELLS:,} are taken")
    for key, names in (
        ("workload", [w.name for w in plan.workload]),
        ("accelerator", [a.name for a in plan.accelerator]),
        ("scenario", [s.name for s in plan.scenario]),
        ("throughput", [f"{t.workload} on {t.accelerator}" for t in plan.throughput]),
    ):
        counts = Counter(names)
        found += [f"{key}: {name} is given twice" for name in sorted(counts) if counts[name] > 1]
    for i, item in enumerate(plan.throughput):
        if item.workload not in workloads:
            found.append(f"throughput[{i}].workload: no workload {item.workload!r} in the plan")
        if item.accelerator not in accelerators:
            found.append(
                f"throughput[{i}].accelerator: no accelerator {item.accelerator!r} in the plan"
            )
    for vendor in plan.limits.vendor_share:
        if vendor not in vendors:
            found.append(
                f"limits.vendor_share.{vendor}: no accelerator of that vendor;"
                f" there are {', '.join(sorted(vendors))}"
            )
    caps = plan.limits.vendor_share
    must = plan.plan.objective == "min_cost" and plan.plan.shortfall_usd_per_mtok is None
    if must and set(caps) == vendors and sum(caps.values()) < 1 - 1e-9:
        found.append(
            f"limits.vendor_share: the caps of all vendors add up to {sum(caps.values()):g},"
            " below 1, and all demand must be served"
        )
    if plan.scenario and abs(sum(s.probability for s in plan.scenario) - 1) > 1e-6:
        total = sum(s.probability for s in plan.scenario)
        found.append(f"scenario: the probabilities add up to {total:g}, not 1")
    known = workloads | accelerators | vendors | {"all"}
    for i, scenario in enumerate(plan.scenario):
        for key in ("demand", "rent_price", "readiness", "delay_months"):
            for name in getattr(scenario, key):
                if name not in known:
                    found.append(f"scenario[{i}].{key}.{name}: no such workload or accelerator")
    if plan.plan.objective == "max_margin":
        for i, work in enumerate(plan.workload):
            if work.price_usd_per_mtok is None:
                found.append(f"workload[{i}].price_usd_per_mtok: needed for max_margin")
    for i, chip in enumerate(plan.accelerator):
        for k, option in enumerate(chip.commit):
            room = option.max_chips
            most = room * plan.plan.years if isinstance(room, float | int) else sum(room)
            if option.min_chips > most:
                found.append(
                    f"accelerator[{i}].commit[{k}].min_chips: {option.min_chips:g} is above all"
                    f" that max_chips allows ({most:g})"
                )
    return found


def _lengths(plan: Plan) -> list[str]:
    years = plan.plan.years
    lists: list[tuple[str, object]] = [
        ("limits.capex_usd_by_year", plan.limits.capex_usd_by_year),
        ("limits.megawatts", plan.limits.megawatts),
    ]
    lists += [(f"workload[{i}].demand_mtok", w.demand_mtok) for i, w in enumerate(plan.workload)]
    lists += [(f"throughput[{i}].readiness", t.readiness) for i, t in enumerate(plan.throughput)]
    for i, chip in enumerate(plan.accelerator):
        key = f"accelerator[{i}]"
        lists.append((f"{key}.held_chips", chip.held_chips))
        if chip.buy is not None:
            lists.append((f"{key}.buy.max_chips", chip.buy.max_chips))
        if chip.rent is not None:
            lists.append((f"{key}.rent.max_chips", chip.rent.max_chips))
        lists += [(f"{key}.commit[{k}].max_chips", c.max_chips) for k, c in enumerate(chip.commit)]
    return [
        f"{key}: {len(values)} values for {years} years"
        for key, values in lists
        if isinstance(values, list) and len(values) != years
    ]
