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


def commit_quantity(
    demand: Sequence[float], commit_usd_per_hour: float, on_demand_usd_per_hour: float
) -> float:
    """How much to commit to when demand is one of ``demand``, equally likely.

    The last committed unit costs k always and saves p when it is used, so the best Q is where
    P(D > Q) = k/p: the smallest demand level with P(D > Q) ≤ k/p (the newsvendor quantile).
    0 when the commitment costs as much as on-demand.
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
