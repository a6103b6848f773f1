"""Whether it pays: gross margin, payback, net present value and internal rate of return."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tpubench.costs.token_cost import finite, not_negative, positive
from tpubench.errors import UsageError

MAX_YEARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Cash at a time: US dollars (spent below zero), years from the start."""

    years: float
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Irr:
    """Internal rate of return, or why there is none: one of the two is None."""

    rate: float | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Venture:
    """Capex now, tokens sold for some years. UsageError naming the field out of range.

    ``cash_usd_per_mtok`` is the cash cost only (power, colocation, staff): capex is in
    ``capex_usd`` already and must not be in it a second time.
    """

    capex_usd: float
    mtok_per_year: float
    price_usd_per_mtok: float
    cash_usd_per_mtok: float
    years: float
    wacc: float
    tax: float = 0.0
    residual_usd: float = 0.0

    def __post_init__(self) -> None:
        positive("capex", self.capex_usd)
        positive("mtok-per-year", self.mtok_per_year)
        not_negative("price-per-mtok", self.price_usd_per_mtok)
        not_negative("usd-per-mtok", self.cash_usd_per_mtok)
        not_negative("wacc", self.wacc)
        not_negative("residual", self.residual_usd)
        if not 0 < self.years <= MAX_YEARS:
            raise UsageError(f"years must be above 0 and at most {MAX_YEARS}, not {self.years}")
        if not 0 <= self.tax < 1:
            raise UsageError(f"tax must be at least 0 and below 1, not {self.tax}")
        if self.residual_usd > self.capex_usd:
            raise UsageError(f"residual {self.residual_usd} is above the capex {self.capex_usd}")


def gross_margin(cost_usd_per_mtok: float, price_usd_per_mtok: float) -> float:
    """1 − c/p, as a fraction; below 0 at a loss."""
    not_negative("usd-per-mtok", cost_usd_per_mtok)
    return 1 - cost_usd_per_mtok / positive("price-per-mtok", price_usd_per_mtok)


def cost_profit_margin(cost_usd: float, revenue_usd: float) -> float:
    """(revenue − cost)/cost, the margin some providers publish; 5.45 reads "545 %"."""
    return (not_negative("revenue", revenue_usd) - cost_usd) / positive("cost", cost_usd)


def flows(venture: Venture) -> list[Flow]:
    """Capex at 0, then Q(p−c)(1−τ) + τ·Dep at each year's end, resale at the end.

    Depreciation is straight-line to the resale value. A last part-year earns and depreciates its
    share at its own end. Losses are assumed to reduce tax paid elsewhere.
    """
    yearly = venture.mtok_per_year * (venture.price_usd_per_mtok - venture.cash_usd_per_mtok)
    depreciation = (venture.capex_usd - venture.residual_usd) / venture.years
    after_tax = yearly * (1 - venture.tax) + venture.tax * depreciation
    finite("yearly cash", after_tax)
    whole = math.floor(venture.years)
    times = [float(t) for t in range(1, whole + 1)]
    if venture.years > whole:
        times.append(venture.years)
    cash = [Flow(years=0.0, usd=-venture.capex_usd)]
    before = 0.0
    for time in times:
        usd = after_tax * (time - before)
        if time == times[-1]:
            usd += venture.residual_usd
        cash.append(Flow(years=time, usd=usd))
        before = time
    return cash


def npv(cash: Sequence[Flow], rate: float) -> float:
    """Σ cash ÷ (1+rate)^t, US dollars of today; UsageError for a rate that is not above −1."""
    if not math.isfinite(rate) or rate <= -1:
        raise UsageError(f"discount rate must be above -1, not {rate}")
    return finite("net present value", math.fsum(_present(flow, rate) for flow in cash))


def payback_years(cash: Sequence[Flow]) -> float | None:
    """The first time in ``cash`` at which the running total is 0 or more; None if never."""
    total = 0.0
    for flow in sorted(cash, key=lambda flow: flow.years):
        total += flow.usd
        if flow.years > 0 and total >= 0:
            return flow.years
    return None


def payback_years_linear(cash: Sequence[Flow]) -> float | None:
    """As :func:`payback_years` with each year's cash arriving evenly through the year."""
    total, before = 0.0, 0.0
    for flow in sorted(cash, key=lambda flow: flow.years):
        if flow.years > 0 and total < 0 <= total + flow.usd:
            return before + (flow.years - before) * -total / flow.usd
        total, before = total + flow.usd, flow.years
    return None


def irr(cash: Sequence[Flow]) -> Irr:
    """The rate at which :func:`npv` is zero.

    Flows that never change sign have none; flows that change sign more than once may have
    several (Descartes' rule of signs), and then no rate is given rather than one of them.
    """
    from scipy.optimize import brentq

    ordered = sorted(cash, key=lambda flow: flow.years)
    signs = [flow.usd > 0 for flow in ordered if flow.usd != 0]
    changes = sum(1 for a, b in itertools.pairwise(signs) if a != b)
    if changes == 0:
        return Irr(rate=None, reason="none: cash never changes sign")
    if changes > 1:
        return Irr(rate=None, reason=f"multiple: cash changes sign {changes} times")

    def at(log_rate: float) -> float:
        """NPV times a positive factor, in x = log(1 + r), safe from overflow on both ends."""
        first = min(flow.years for flow in ordered)
        last = max(flow.years for flow in ordered)
        shift = first if log_rate >= 0 else last
        return math.fsum(flow.usd * math.exp(-log_rate * (flow.years - shift)) for flow in ordered)

    low, high = -1.0, 1.0
    while at(low) * at(high) > 0:
        low, high = 2 * low, 2 * high
        if high > 500:
            return Irr(rate=None, reason="none: no rate within e^±500")
    return Irr(rate=math.expm1(float(brentq(at, low, high, xtol=1e-14, rtol=1e-14))), reason=None)


def _present(flow: Flow, rate: float) -> float:
    try:
        return flow.usd * math.exp(-flow.years * math.log1p(rate))
    except OverflowError:
        raise UsageError(f"discount rate {rate} over {flow.years} years is out of range") from None
