"""What each doubt does to the plan itself: its cost and its share of TPUs at either end."""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.futures import Doubted, doubted
from tpubench.costs.allocation.highs import Basis, relaxed
from tpubench.costs.allocation.money import next_dollar
from tpubench.costs.allocation.plan import Plan, plan_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """The plan re-solved with one input at each end of its doubt; None where it is impossible."""

    input: str
    path: str
    low: float
    high: float
    """The ends, as factors."""
    usd_low: float | None
    usd_high: float | None
    """Objective at each end, present dollars."""
    tpu_low: float | None
    tpu_high: float | None
    """Share of new money that goes to TPUs at each end."""


def swings(plan: Plan, doubtful: list[Doubted], start: Basis) -> list[Swing]:
    """One for every doubt, the widest in cost first."""
    listed = []
    for doubt in doubtful:
        low, high = (_solved(plan, doubt, end, start) for end in (doubt.low, doubt.high))
        listed.append(
            Swing(
                input=doubt.input,
                path=doubt.path,
                low=doubt.low,
                high=doubt.high,
                usd_low=low[0],
                usd_high=high[0],
                tpu_low=low[1],
                tpu_high=high[1],
            )
        )

    def width(swing: Swing) -> float:
        if swing.usd_low is None or swing.usd_high is None:
            return float("inf")
        return abs(swing.usd_high - swing.usd_low)

    return sorted(listed, key=lambda swing: -width(swing))


def _solved(
    plan: Plan, doubt: Doubted, factor: float, start: Basis
) -> tuple[float | None, float | None]:
    content = plan.model_dump()
    doubted(content, doubt, factor)
    program = build(plan_of(content, doubt.path))
    optimum = relaxed(program, start=start)
    if optimum is None:
        return None, None
    answer = next_dollar(program, optimum.x)
    usd = program.total_usd(optimum.x)
    sign = -1.0 if plan.plan.objective == "max_margin" else 1.0
    return sign * usd, None if answer is None else answer.shares["tpu"]
