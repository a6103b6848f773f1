"""The limits that a plan was given, and what each costs: the plan solved again without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import Optimum, relaxed, significant
from tpubench.costs.allocation.plan import Limits, Plan
from tpubench.costs.allocation.program import LinearProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInForce:
    """One limit of the plan. ``usd`` is what it costs in all years together, present dollars."""

    limit: str
    path: str
    value: float | list[float]
    unit: str
    usd: float | None
    """None where the plan without it could not be solved in time."""


def limits_in_force(plan: Plan, program: LinearProgram, optimum: Optimum) -> list[LimitInForce]:
    """Every limit under ``[limits]``, in the order of the file's keys."""
    total = program.total_usd(optimum.x)
    listed = []
    for limit, path, value, unit, without in _limits(plan.limits):
        free = build(plan.model_copy(update={"limits": without}))
        again = relaxed(free)
        saved = None if again is None else max(total - free.total_usd(again.x), 0.0)
        usd = None if saved is None else significant(saved, total)
        listed.append(LimitInForce(limit=limit, path=path, value=value, unit=unit, usd=usd))
    return listed


def _limits(
    limits: Limits,
) -> Iterator[tuple[str, str, float | list[float], str, Limits]]:
    for key, name, unit in (
        ("capex_usd", "capex budget, all years", "$"),
        ("capex_usd_by_year", "capex budget by year", "$"),
        ("megawatts", "power", "MW"),
    ):
        value = getattr(limits, key)
        if value is not None:
            yield name, f"limits.{key}", value, unit, limits.model_copy(update={key: None})
    for vendor, share in limits.vendor_share.items():
        others = {name: v for name, v in limits.vendor_share.items() if name != vendor}
        without = limits.model_copy(update={"vendor_share": others})
        name, path = f"vendor share of {vendor}", f"limits.vendor_share.{vendor}"
        yield name, path, share, "of the work", without
