"""A solved plan as facts: what to buy, commit and rent, when, for how much, and why.

Everything here is plain numbers and text, so that tables, ``--json`` and a page show the same.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tpubench.costs.allocation.assumptions import assumptions
from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.chips import (
    Amount,
    FleetYear,
    Port,
    PowerYear,
    TokenCost,
    chip_amounts,
    fleet,
    ports,
    power_years,
    token_costs,
)
from tpubench.costs.allocation.highs import relaxed
from tpubench.costs.allocation.infeasible import OutOfTimeError, explain
from tpubench.costs.allocation.inputs import apply, parse
from tpubench.costs.allocation.plan import Plan, read_plan
from tpubench.costs.allocation.plausibility import ImplausibleError, closed, questions
from tpubench.costs.allocation.resolve import resolve
from tpubench.costs.allocation.solve import solve
from tpubench.costs.allocation.statements import (
    CashYear,
    ProfitYear,
    Whole,
    cash_years,
    profit_years,
    whole,
)
from tpubench.costs.allocation.variants import Variant, variants
from tpubench.costs.allocation.verdict import PlanVerdict, judge
from tpubench.devices.prices import Price

VERDICT_PART = 0.9
"""Of the plan's seconds, by when its verdict has looked at what it can: processes that share the
work take a second or two to start, and the variants come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """The plan's outcome. Money is US dollars; present values are of the first year's start."""

    name: str
    settings: list[str]
    """What ``--set`` changed."""
    placeholders: list[str]
    """Inputs that are nobody's figures, by path."""
    objective: str
    objective_usd: float
    """Present value after tax: cost, or margin when it is maximised."""
    gap: float | None
    """Proved distance from the best possible; None when time ran out before any bound."""
    method: str
    tried_usd: dict[str, float]
    seconds: float
    verdict: PlanVerdict
    amounts: list[Amount]
    fleet: list[FleetYear]
    ports: list[Port]
    power: list[PowerYear]
    cash: list[CashYear]
    profit: list[ProfitYear]
    whole: Whole
    variants: list[Variant]
    tokens: list[TokenCost]
    evidence: dict[str, int]
    assumptions: list[str]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        document = {name: _plain(value) for name, value in parts.items()}
        verdict = self.verdict
        document["verdict"]["flips"] = [
            {**asdict(flip), "setting": flip.setting if flip.at is not None else None}
            for flip in verdict.flips
        ]
        if verdict.futures is not None:
            seen = asdict(verdict.futures)
            del seen["in_plans"]
            document["verdict"]["futures"] = seen
        return document


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


def allocate(
    path: Path,
    table: dict[str, Price],
    folder: Path,
    today: dt.date,
    *,
    settings: Sequence[str] = (),
    answer_only: bool = False,
    force: bool = True,
) -> PlanAnswer:
    """Solve the plan in ``path`` with the price ``table`` and the facts stored in ``folder``.

    ``settings`` are ``--set`` arguments; ``answer_only`` leaves out samples and flips; figures that
    are hard to believe are an ImplausibleError, or with ``force`` remarks. UsageError for a bad
    file or setting; InfeasibleError naming the limits that clash.
    """
    given, notes = resolve(read_plan(path), table, folder, today)
    plan = apply(given, [parse(text) for text in settings])
    doubtful = questions(plan, today)
    if doubtful and not force:
        raise ImplausibleError(doubtful)
    notes = [*(f"hard to believe: {line}" for line in doubtful), *closed(plan), *notes]
    return answer(plan, notes, settings=settings, answer_only=answer_only)


def answer(
    plan: Plan, notes: list[str], *, settings: Sequence[str] = (), answer_only: bool = False
) -> PlanAnswer:
    """The outcome of a plan whose numbers are all in it.

    InfeasibleError, with what stands in the way, when no plan meets every limit; OutOfTimeError
    when none in whole lots was seen in ``plan.seconds``.
    """
    started, computed = time.monotonic(), time.process_time()
    program = build(plan)
    relaxation = relaxed(program, seconds=plan.plan.seconds)
    if relaxation is None:
        raise explain(plan, program)
    left = plan.plan.seconds - (time.monotonic() - started)
    solved = solve(program, relaxation, left, plan.plan.gap)
    if solved is None:
        raise OutOfTimeError(
            "no plan in whole lots was found in the time given: raise plan.seconds, or make the"
            " lots smaller"
        )
    left = VERDICT_PART * plan.plan.seconds - (time.process_time() - computed)
    verdict = judge(plan, program, relaxation, solved, answer_only=answer_only, seconds=left)
    total = program.total_usd(solved.x)
    counts: dict[str, int] = {}
    for pair in plan.throughput:
        kind = pair.evidence or "assumed"
        counts[kind] = counts.get(kind, 0) + 1
    return PlanAnswer(
        name=plan.plan.name,
        settings=list(settings),
        placeholders=plan.plan.placeholders,
        objective=plan.plan.objective,
        objective_usd=-total if plan.plan.objective == "max_margin" else total,
        gap=solved.gap if math.isfinite(solved.gap) else None,
        method=solved.method,
        tried_usd=solved.tried_usd,
        seconds=time.monotonic() - started,
        verdict=verdict,
        amounts=chip_amounts(program, solved.x),
        fleet=fleet(program, solved.x),
        ports=ports(program, solved.x),
        power=power_years(program, solved.x),
        cash=cash_years(program, solved.x),
        profit=profit_years(program, solved.x),
        whole=whole(program, solved.x),
        variants=[] if answer_only else variants(plan, relaxation.basis),
        tokens=token_costs(program, solved.x),
        evidence=counts,
        assumptions=[*assumptions(plan, program, solved.x), *notes],
    )
