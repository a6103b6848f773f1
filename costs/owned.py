"""What an owned chip-hour costs: capital, upkeep, power and the building.

    h = [(K − S/(1+w)^L)·CRF + o·K]/8760 + κ·(i + (1−i)u)·PUE·e + 12·κ·colo/8760
    CRF = w/(1 − (1+w)^−L)            (capital recovery factor, the annuity per dollar)

K capex of a chip with its share of server and network, w cost of capital, L life in years, S
resale value, o yearly upkeep as a share of K, κ kW a chip draws at the wall of the rack, i share
of that drawn when idle, u share of the hours in use, PUE of the building, e $/kWh, colo $ per kW
and month. Buildings are paid once: a colocation fee or facility capex, never both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tpubench.costs.token_cost import (
    finite,
    not_negative,
    positive,
    share,
    usd_per_mtok,
)
from tpubench.errors import UsageError

HOURS_PER_YEAR = 8760
MONTHS_PER_YEAR = 12
NO_INTEREST = 1e-12
"""Interest over the whole life below which it makes no difference to a double."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """One chip that is bought. UsageError naming the field when one is out of range."""

    capex_usd: float
    """Price of the chip with its share of server and network, US dollars."""
    wacc: float
    """Weighted average cost of capital, a fraction a year."""
    years: float
    """Useful life."""
    kw: float
    """Power per chip at full load, kW, its share of the server included."""
    pue: float
    usd_per_kwh: float
    colo_usd_per_kw_month: float = 0.0
    facility_capex_usd: float = 0.0
    """Building and power plant per chip, depreciated over the same life."""
    residual_usd: float = 0.0
    """Resale value of the chip after ``years``, US dollars."""
    opex_rate: float = 0.0
    """Upkeep, spares and staff a year as a share of ``capex_usd``."""
    idle_power_share: float = 0.0
    availability: float = 1.0
    """Share of the hours in which the chip works."""

    def __post_init__(self) -> None:
        positive("capex", self.capex_usd)
        positive("years", self.years)
        not_negative("wacc", self.wacc)
        not_negative("kw", self.kw)
        not_negative("usd-per-kwh", self.usd_per_kwh)
        not_negative("colo-usd-per-kw-month", self.colo_usd_per_kw_month)
        not_negative("facility-capex", self.facility_capex_usd)
        not_negative("residual", self.residual_usd)
        not_negative("opex-rate", self.opex_rate)
        share("availability", self.availability)
        if not math.isfinite(self.pue) or self.pue < 1:
            raise UsageError(f"pue must be 1 or more, not {self.pue}")
        if not 0 <= self.idle_power_share <= 1:
            raise UsageError(f"idle-power-share must be 0 to 1, not {self.idle_power_share}")
        if self.residual_usd > self.capex_usd:
            raise UsageError(
                f"residual {self.residual_usd} is above the capex {self.capex_usd}:"
                " it is the resale value in dollars"
            )
        if self.colo_usd_per_kw_month and self.facility_capex_usd:
            raise UsageError(
                "colo-usd-per-kw-month and facility-capex both pay for the building: give one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HourlyCost:
    """An owned chip-hour and what it is made of, US dollars per hour that passes."""

    capital: float
    upkeep: float
    power: float
    building: float

    @property
    def total(self) -> float:
        return self.capital + self.upkeep + self.power + self.building


def capital_recovery_factor(wacc: float, years: float) -> float:
    """Equal yearly payment per dollar borrowed at ``wacc`` over ``years``; 1/years at 0 %."""
    not_negative("wacc", wacc)
    positive("years", years)
    growth = years * math.log1p(wacc)
    if growth < NO_INTEREST:
        return 1 / years
    # 1 − (1+w)^−L without cancellation for a small w.
    return finite("capital recovery factor", -wacc / math.expm1(-growth))


def hourly(owned: Owned, utilisation: float = 1.0) -> HourlyCost:
    """Cost of one owned chip for one hour at that share of hours in use."""
    share("utilisation", utilisation)
    crf = capital_recovery_factor(owned.wacc, owned.years)
    resale_today = owned.residual_usd * math.exp(-owned.years * math.log1p(owned.wacc))
    load = owned.idle_power_share + (1 - owned.idle_power_share) * utilisation
    colocation = MONTHS_PER_YEAR * owned.kw * owned.colo_usd_per_kw_month
    cost = HourlyCost(
        capital=(owned.capex_usd - resale_today) * crf / HOURS_PER_YEAR,
        upkeep=owned.opex_rate * owned.capex_usd / HOURS_PER_YEAR,
        power=owned.kw * load * owned.pue * owned.usd_per_kwh,
        building=(colocation + owned.facility_capex_usd * crf) / HOURS_PER_YEAR,
    )
    finite("owned chip-hour", cost.total)
    return cost


def owned_usd_per_mtok(owned: Owned, tok_s: float, utilisation: float = 1.0) -> float:
    """10⁶·h ÷ (3600·T·u·A): dollars per million tokens of one owned chip at ``tok_s``."""
    per_hour = hourly(owned, utilisation).total
    return usd_per_mtok(per_hour, 1, tok_s * owned.availability, utilisation)


def break_even_utilisation(owned: Owned, cloud_usd_per_chip_hour: float) -> float | None:
    """Share of hours in use above which owning beats renting by the hour; None if it never does.

    Renting costs P for an hour of work; owning costs h(u)/(u·A). With h(u) = f + v·u (f the part
    paid whether in use or not) the two meet at u* = f/(P·A − v). Where power does not depend on
    use and A = 1 this is h/P.
    """
    rent = positive("$/chip-hour", cloud_usd_per_chip_hour)
    full = hourly(owned, 1.0)
    varying = full.power * (1 - owned.idle_power_share)
    fixed = full.total - varying
    spare = rent * owned.availability - varying
    if spare <= 0 or fixed > spare:
        return None
    return fixed / spare
