"""PLAN.toml: what the user says of demand, options, limits and doubts.

Lists have one value a year. Every price has its source and date, given here or through the id of
a price table entry. See ``docs/money.md`` for a walk through an example.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator

from tpubench.costs.allocation.contradictions import contradictions
from tpubench.costs.allocation.options import (
    MAX_YEARS,
    Accelerator,
    Months,
    Name,
    NotNegative,
    Positive,
    Share,
)
from tpubench.costs.userfile import Checked, explain, read_toml
from tpubench.errors import UsageError

MAX_SCENARIOS = 1000

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
    resale_factor: float = Field(default=1.0, ge=0, le=2)
    """On what every chip is worth when it is sold or the plan ends; 0 shows the plan without."""
    tax_rate: float = Field(default=0.0, ge=0, lt=1)
    """On profit; a loss is taken to reduce tax paid elsewhere."""
    shortfall_usd_per_mtok: NotNegative | None = None
    """Penalty for demand not served; without it all demand is a must (min_cost)."""
    cvar_level: float = Field(default=0.9, ge=0, lt=1)
    cvar_weight: Share = 0.0
    seconds: float = Field(default=60.0, gt=0, le=86_400)
    gap: float = Field(default=0.001, gt=0, lt=1)
    placeholders: list[Annotated[str, Field(min_length=1, max_length=300)]] = Field(
        default_factory=list, max_length=1000
    )
    """Paths of figures that nobody gave; the answer names them until they leave this list."""


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
    """Power at the meter for chips at the site, PUE included."""
    vendor_share: dict[Name, Share] = Field(default_factory=dict)
    """Most of the work that one vendor may serve; a workload's weight in the work is the number
    of its fastest accelerator that its demand would take."""


class PlannedWorkload(Checked):
    """Tokens to serve, million a year: a list, or a first year and growth."""

    name: Name
    demand_mtok: list[NotNegative] | None = None
    demand_mtok_first: NotNegative | None = None
    growth: float | None = Field(default=None, gt=-1, le=100)
    price_usd_per_mtok: NotNegative | list[Positive] | None = None
    price_change_per_year: float = Field(default=0.0, gt=-1, le=10)
    """Trend of a single price; a list gives the path itself."""
    elasticity: float = Field(default=0.0, ge=0, le=10)
    """Demand answers to price: it is multiplied by (price ÷ reference)^−elasticity."""
    reference_price_usd_per_mtok: Positive | None = None
    """The price that the demand above was planned at."""
    active_parameters: Positive | None = None
    """Of its model, for a token: a rate beyond what the peak allows for it is questioned."""

    @model_validator(mode="after")
    def _one_way(self) -> PlannedWorkload:
        first = self.demand_mtok_first is not None and self.growth is not None
        if first == (self.demand_mtok is not None):
            raise ValueError("give demand_mtok, or demand_mtok_first with growth")
        if self.elasticity and (
            self.reference_price_usd_per_mtok is None or not self.price_usd_per_mtok
        ):
            raise ValueError(
                "elasticity needs price_usd_per_mtok above 0 and reference_price_usd_per_mtok"
            )
        return self

    def prices(self, years: int) -> list[float]:
        """Revenue of a million tokens in each year; zeros where no price is known."""
        if isinstance(self.price_usd_per_mtok, list):
            return self.price_usd_per_mtok
        price = self.price_usd_per_mtok or 0.0
        return [price * (1 + self.price_change_per_year) ** year for year in range(years)]

    def demand(self, years: int) -> list[float]:
        """Million tokens wanted in each year, the answer to the price path included."""
        if self.demand_mtok is not None:
            wanted = self.demand_mtok
        else:
            first, growth = self.demand_mtok_first or 0.0, self.growth or 0.0
            wanted = [first * (1 + growth) ** year for year in range(years)]
        if not self.elasticity:
            return wanted
        reference = self.reference_price_usd_per_mtok or 1.0
        return [
            amount * (price / reference) ** -self.elasticity
            for amount, price in zip(wanted, self.prices(years), strict=True)
        ]


class FromStore(Checked):
    """Which stored rows give the throughput; the newest run that matches, all its repetitions.

    Any other key is a parameter of the case, such as ``batch = 8``.
    """

    model_config = ConfigDict(
        extra="allow", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )

    workload: Name
    preset: Name | None = None
    dtype: Name | None = None
    run_id: Name | None = None
    metric: Name = "output_tok_s_per_chip"
    max_ttft_s: Positive | None = None
    max_tpot_s: Positive | None = None


class ReadinessFrom(Checked):
    """Which row of readiness (``tpubench list readiness``) tells what the software reaches."""

    software: Name
    model: Name
    device: Name | None = None
    """The accelerator's own name, unless it is said."""


class Throughput(Checked):
    """Tokens a second that one chip serves of a workload at its SLO. An absent pair cannot."""

    accelerator: Name
    workload: Name
    tok_s: Positive | None = None
    low_tok_s: Positive | None = None
    high_tok_s: Positive | None = None
    """Range of the throughput where it is known better than ``[doubt]`` says."""
    evidence: Literal["measured", "published", "compiled", "modelled", "assumed"] | None = None
    source: Name | None = None
    from_store: FromStore | None = None
    readiness: Share | list[Share] = 1.0
    """Share of that throughput that the software reaches, year by year."""
    readiness_from: ReadinessFrom | None = None
    """Evidence that gives it instead."""
    porting_usd: NotNegative = 0.0
    porting_months: Months = 0.0

    @model_validator(mode="after")
    def _one_way(self) -> Throughput:
        if (self.tok_s is None) == (self.from_store is None):
            raise ValueError("give tok_s or from_store")
        if self.tok_s is not None and (self.evidence is None or self.source is None):
            raise ValueError("tok_s needs evidence and source")
        if self.readiness_from is not None and "readiness" in self.model_fields_set:
            raise ValueError("give readiness or readiness_from")
        low, high = self.low_tok_s, self.high_tok_s
        if (low is None) != (high is None):
            raise ValueError("give low_tok_s and high_tok_s together")
        if low is not None and high is not None and low > high:
            raise ValueError("low_tok_s is above high_tok_s")
        return self


class Scenario(Checked):
    """One future. Factors by name of a workload, accelerator or vendor, or ``all``."""

    name: Name
    probability: float = Field(gt=0, le=1)
    demand: Factors = Field(default_factory=dict)
    rent_price: Factors = Field(default_factory=dict)
    readiness: Factors = Field(default_factory=dict)
    supply: Factors = Field(default_factory=dict)
    """Share of the chips ordered that is delivered; what is not delivered is not paid."""
    delay_months: Factors = Field(default_factory=dict)
    """Later delivery of bought chips and later end of porting."""
    contract_delay_months: Factors = Field(default_factory=dict)
    """Later delivery of committed chips; the term moves with it."""


class Doubt(Checked):
    """Half-widths of the uniform ranges behind the verdict, as shares of each figure."""

    vendor: Name | None = None
    """No longer used: doubts hold for every chip, and any GPU is one side."""
    price: Share = 0.15
    """Each accelerator's prices, all options together."""
    tok_s: Share = 0.2
    """Each accelerator's throughputs, unless a pair knows its own range."""
    readiness: Share = 0.15
    """Each accelerator's readiness, where it is below 1."""
    utilisation: Share = 0.1
    demand: Share = 0.0
    """Each workload's demand."""
    resale: Share = 0.3
    power_price: Share = 0.0
    supply: Share = 0.0
    """Each accelerator's chips for sale."""
    lead_months: Share = 0.0
    porting_months: Share = 0.0
    samples: int = Field(default=256, ge=16, le=1 << 16)
    seed: int = Field(default=0, ge=0)


class Plan(Checked):
    """The whole file."""

    plan: General
    site: Site
    limits: Limits = Field(default_factory=Limits)
    workload: list[PlannedWorkload] = Field(min_length=1, max_length=500)
    accelerator: list[Accelerator] = Field(min_length=1, max_length=500)
    throughput: list[Throughput] = Field(min_length=1, max_length=100_000)
    scenario: list[Scenario] = Field(default_factory=list, max_length=MAX_SCENARIOS)
    doubt: Doubt = Field(default_factory=Doubt)

    @property
    def futures(self) -> list[Scenario]:
        """The scenarios, or the plan itself as the only one."""
        return self.scenario or [Scenario(name="as planned", probability=1.0)]

    @property
    def must_serve(self) -> bool:
        """Whether all demand has to be met."""
        general = self.plan
        return general.objective == "min_cost" and general.shortfall_usd_per_mtok is None


def read_plan(path: Path) -> Plan:
    """The plan in a file. UsageError with file, key and reason when it is not one."""
    plan = read_toml(path, Plan)
    complaint = next(contradictions(plan), None)
    if complaint is not None:
        raise UsageError(f"{path}: {complaint}")
    return plan


def plan_of(content: dict[str, object], where: str) -> Plan:
    """The plan that ``content`` describes; UsageError beginning with ``where`` otherwise."""
    try:
        plan = Plan.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(Path(where), error)) from None
    complaint = next(contradictions(plan), None)
    if complaint is not None:
        raise UsageError(f"{where}: {complaint}")
    return plan
