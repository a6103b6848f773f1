"""PLAN.toml, the ways to get a chip: buying, committing by the chip or by the dollar, renting.

A list has one value a year of the plan, except where it says *contract year*: those count from
delivery, and the last value holds for the rest of the term.
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from tpubench.costs.userfile import Checked
from tpubench.devices.sheets import AMD, GOOGLE, NVIDIA, devices

MAX_YEARS = 30
GPU_MAKERS = (NVIDIA, AMD, "Intel")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e15)]
NotNegative = Annotated[float, Field(ge=0, le=1e15)]
Months = Annotated[float, Field(ge=0, le=120)]
Change = Annotated[float, Field(gt=-1, le=10)]
Lot = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Buy(Checked):
    """Chips for sale, with their share of server and network."""

    capex_usd: Positive
    capex_change_per_year: Change = 0.0
    lot: Lot = 1
    max_chips: NotNegative | list[NotNegative]
    """Supply a year."""
    life_years: float = Field(gt=0, le=30)
    residual_share: Share = 0.0
    """Resale at the end of life as a share of the price; the value falls to it in a line."""
    residual_curve: list[Share] | None = None
    """Or what a chip is worth after 1, 2, 3 … years as shares of its price; it is not worth more
    later than the last value."""
    depreciation_years: float | None = Field(default=None, gt=0, le=30)
    """For tax and profit, straight-line to nothing; the life unless given."""
    opex_rate: Share = 0.0
    availability: float = Field(default=1.0, gt=0, le=1)
    lead_months: Months = 0.0
    source: Name
    as_of: dt.date

    @model_validator(mode="after")
    def _one_curve(self) -> Buy:
        if self.residual_curve is not None and self.residual_share:
            raise ValueError("give residual_share or residual_curve, not both")
        return self


class Rate(Checked):
    """A $/chip-hour: a price table id, or a figure with source and date."""

    price: Name | None = None
    usd_per_chip_hour: Positive | None = None
    source: Name | None = None
    as_of: dt.date | None = None
    lot: Lot = 1

    @model_validator(mode="after")
    def _dated(self) -> Rate:
        if (self.price is None) == (self.usd_per_chip_hour is None):
            raise ValueError("give price (an id) or usd_per_chip_hour")
        if self.usd_per_chip_hour is not None and (self.as_of is None or self.source is None):
            raise ValueError("usd_per_chip_hour needs as_of and source: a price without a date")
        return self


class Commit(Rate):
    """Take-or-pay in chips: paid for every hour of a term from delivery, used or not."""

    name: Name
    term_years: int = Field(ge=1, le=MAX_YEARS)
    max_chips: NotNegative | list[NotNegative]
    """Most chips whose term may be signed in a year."""
    min_chips: NotNegative = 0.0
    """Chips signed for already: at least so many are signed within the plan."""
    lead_months: Months = 0.0
    """From signature to delivery; the term and the payments begin with delivery."""
    ramp: list[Share] | None = None
    """Share of the chips that is delivered (and paid) in each contract year."""
    price_steps: list[NotNegative] | None = None
    """Factor on the rate in each contract year."""
    prepay_share: Share = 0.0
    """Part of the payments inside the plan that is paid at signature instead."""
    exit_after_years: int | None = Field(default=None, ge=0, le=MAX_YEARS)
    """Contract years after which the rest may be given back; None: never."""
    exit_fee_share: Share = 1.0
    """Share of all payments then still to come that giving back costs at once."""
    on_site: bool = False
    """A lease: the chips stand at the plan's site, which pays for power and building."""


class Contract(Rate):
    """Take-or-pay in dollars: chips drawn as needed at a rate, a minimum paid in any case."""

    name: Name
    minimum_usd_per_year: NotNegative | list[NotNegative]
    """Least bill of each contract year."""
    term_years: int = Field(ge=1, le=MAX_YEARS)
    max_chips: NotNegative | list[NotNegative]
    """Most chips drawn at once, by contract year (a ramp)."""
    signed: bool = False
    """Whether it binds already; otherwise the plan decides whether to sign."""
    start_year: int | None = Field(default=None, ge=2000, le=2200)
    """Year of signature; the plan's first unless given."""
    lead_months: Months = 0.0
    price_steps: list[NotNegative] | None = None
    """Factor on the rate in each contract year."""
    prepay_share: Share = 0.0
    """Part of the minimums that is paid at signature and credited against them later."""


class Rent(Rate):
    """Chips by the hour within a year, decided when the scenario is known."""

    max_chips: NotNegative | list[NotNegative]
    change_per_year: Change = 0.0


@functools.cache
def vendor_of(accelerator: str) -> str:
    """Who makes a chip."""
    return devices()[accelerator].vendor


class Accelerator(Checked):
    """One kind of chip and the ways to get it."""

    name: Name
    kw: Positive
    """Power per chip at full load at the rack, its share of the server included."""
    held_chips: list[NotNegative] | None = None
    buy: Buy | None = None
    commit: list[Commit] = Field(default_factory=list)
    contract: list[Contract] = Field(default_factory=list)
    rent: Rent | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            vendor_of(value)
        except KeyError:
            raise ValueError(
                f"unknown accelerator {value!r}; known: {', '.join(devices())}"
            ) from None
        return value

    @property
    def vendor(self) -> str:
        return vendor_of(self.name)

    @property
    def side(self) -> str:
        """tpu, gpu or other: the chip itself, whoever rents it out."""
        if self.vendor == GOOGLE:
            return "tpu"
        return "gpu" if self.vendor in GPU_MAKERS else "other"
