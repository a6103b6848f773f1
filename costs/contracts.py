"""Contracts over volume: take-or-pay bills and how much to commit to under uncertain demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpubench.costs.token_cost import finite, not_negative, positive
from tpubench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOrPay:
    """A contract with a floor: pay at least ``minimum_usd``, at ``rate`` up to ``cap`` units.

    Units are whatever the contract counts, chip-hours as a rule; use beyond the cap is paid on
    demand.
    """

    minimum_usd: float
    rate_usd: float
    cap_units: float
    on_demand_usd: float

    def __post_init__(self) -> None:
        not_negative("take-or-pay minimum", self.minimum_usd)
        positive("take-or-pay rate", self.rate_usd)
        not_negative("take-or-pay cap", self.cap_units)
        positive("on-demand price", self.on_demand_usd)


def take_or_pay_usd(contract: TakeOrPay, use_units: float) -> float:
    """max(F, rate·min(use, cap)) + P_od·max(0, use − cap), US dollars."""
    not_negative("use", use_units)
    inside = contract.rate_usd * min(use_units, contract.cap_units)
    beyond = contract.on_demand_usd * max(0.0, use_units - contract.cap_units)
    return finite("take-or-pay bill", max(contract.minimum_usd, inside) + beyond)


def break_even_units(contract: TakeOrPay) -> float | None:
    """Units of use from which on the contract costs no more than paying on demand.

    The bill is flat at the minimum F until use reaches min(cap, F/r), rises by the rate r up to the
    cap and by the on-demand price p beyond it. On demand it is p·use. What the contract saves,
    p·use − bill, therefore starts at −F and

    - where the minimum binds, grows by p a unit: it is 0 at F/p;
    - between there and the cap, grows by p − r, which keeps the sign if r ≤ p;
    - beyond the cap, stays as it is.

    So with r ≤ p the answer is F/p, if that is within the cap. None where the contract never costs
    less: r > p, or F > p·cap (the minimum is more than the cap's units on demand).
    """
    even = contract.minimum_usd / contract.on_demand_usd
    if contract.rate_usd > contract.on_demand_usd or even > contract.cap_units:
        return None
    return even


def commit_quantity(
    demand: Sequence[float], commit_usd_per_hour: float, on_demand_usd_per_hour: float
) -> float:
    """How much to commit to when demand is one of ``demand``, equally likely.

    The last committed unit costs k always and saves p when it is used, so the best Q is where
    P(D > Q) = k/p: the smallest demand level with P(D > Q) ≤ k/p (the newsvendor quantile).
    0 when the commitment costs as much as on-demand. UsageError without demand, for demand below
    0 or a price that is not above 0.
    """
    if not demand:
        raise UsageError("demand needs at least one value")
    for value in demand:
        not_negative("demand", value)
    commit = positive("commit $/chip-hour", commit_usd_per_hour)
    ratio = commit / positive("on-demand $/chip-hour", on_demand_usd_per_hour)
    if ratio >= 1:
        return 0.0
    ordered = sorted(demand)
    for level in ordered:
        above = sum(1 for value in ordered if value > level)
        if above <= ratio * len(ordered):
            return level
    return ordered[-1]
