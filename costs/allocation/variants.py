"""The same plan under a few changes that a reader would ask for first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import Basis, relaxed
from tpubench.costs.allocation.inputs import Setting, apply
from tpubench.costs.allocation.money import next_dollar
from tpubench.costs.allocation.plan import Plan
from tpubench.errors import UsageError

AS_PLANNED, NO_RESALE = "as planned", "no resale value"
SHORTER_YEARS = 1.5
LATER_MONTHS = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """The relaxed plan re-solved with some inputs changed."""

    name: str
    settings: list[str]
    """``--set`` arguments that apply it."""
    objective_usd: float | None
    """None where the plan is impossible."""
    side: str | None
    share: float | None
    tpu_share: float | None


def variants(plan: Plan, start: Basis) -> list[Variant]:
    """The plan as it is, then each change."""
    listed = []
    for name, settings in _changes(plan):
        try:
            changed = apply(plan, settings)
        except UsageError:
            continue
        program = build(changed)
        optimum = relaxed(program, start=start)
        answer = None if optimum is None else next_dollar(program, optimum.x)
        sign = -1.0 if plan.plan.objective == "max_margin" else 1.0
        listed.append(
            Variant(
                name=name,
                settings=[str(setting) for setting in settings],
                objective_usd=None if optimum is None else sign * program.total_usd(optimum.x),
                side=None if answer is None else answer.side,
                share=None if answer is None else answer.share,
                tpu_share=None if answer is None else answer.shares["tpu"],
            )
        )
    return listed


def _changes(plan: Plan) -> Iterator[tuple[str, list[Setting]]]:
    yield AS_PLANNED, []
    owners = [chip for chip in plan.accelerator if chip.buy is not None]
    if owners and plan.plan.resale_factor > 0:
        yield NO_RESALE, [Setting(path="plan.resale_factor", value=0.0)]
    shorter, later, halved = [], [], []
    for chip in owners:
        assert chip.buy is not None
        base = f"accelerator[{chip.name}].buy"
        life = chip.buy.life_years - SHORTER_YEARS
        if life > 0.5:
            shorter.append(Setting(path=f"{base}.life_years", value=life))
        late = chip.buy.lead_months + LATER_MONTHS
        later.append(Setting(path=f"{base}.lead_months", value=late))
        halved.append(Setting(path=f"{base}.max_chips", value=0.5, times=True))
    if shorter:
        yield f"chips last {SHORTER_YEARS:g} years less", shorter
    if later:
        yield f"deliveries {LATER_MONTHS:g} months later", later
    if halved:
        yield "half the supply of chips to buy", halved
    if any(t.readiness != 1.0 for t in plan.throughput):
        ready = [
            Setting(path=f"throughput[{t.accelerator}, {t.workload}].readiness", value=1.0)
            for t in plan.throughput
            if t.readiness != 1.0
        ]
        yield "software ready at once", ready
