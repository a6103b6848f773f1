"""The first screen of a solved plan: where the next dollar goes, in numbers and words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpubench.costs.allocation.answer import PlanAnswer
from tpubench.costs.allocation.variants import NO_RESALE
from tpubench.devices.vendors import colour_name, label
from tpubench.reports import plan_words
from tpubench.reports.answers.words import chance, usd
from tpubench.reports.figure import Axis
from tpubench.reports.plan_words import dollars
from tpubench.reports.quantity import MISSING
from tpubench.reports.tracks import Scale, scale

_FLIPS = 6
_LIMITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionView:
    """One way to get one chip: what the plan spends on it, and what it is worth."""

    name: str
    how: str
    colour: str
    usd: str
    worth: str
    chance: str
    place: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadView:
    """One workload of the plan: who serves it and at what cost."""

    name: str
    cost: str
    served: str
    colour: str
    """Of the chip that serves most of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """Everything the first screen of a plan shows."""

    head: str
    colour: str
    detail: str
    chances: str
    sure: tuple[str, ...]
    ways: str
    ranges: str
    cost: str
    workloads: tuple[WorkloadView, ...]
    options: tuple[OptionView, ...]
    scale: Scale | None
    flips: tuple[tuple[str, str], ...]
    """Sentence and ``--set`` argument."""
    still: str
    limits: tuple[tuple[str, str], ...]
    rests_on: tuple[str, ...]


def plan_view(answer: PlanAnswer) -> PlanView:
    """The first screen of ``answer``."""
    verdict = answer.verdict
    dollar = verdict.next_dollar
    accelerator = "" if dollar is None else dollar.option.split(" ")[0]
    sentences = [one.text for one in plan_words.answer(verdict)]
    singles = [o for o in verdict.options if not o.group and o.usd > 0]
    singles.sort(key=lambda option: -option.usd)
    most = max((o.usd for o in singles), default=0.0)
    axis = Axis(title="$", low=0.0, high=most * 1.05, log=False) if most else None
    placed = None if axis is None else scale(axis)
    turning = [flip for flip in verdict.flips if flip.at is not None]
    still = len(verdict.flips) - len(turning)
    return PlanView(
        head=plan_words.head(verdict),
        colour="none" if dollar is None or verdict.tie else f"c-{colour_name(accelerator)}",
        detail=sentences[0],
        chances="" if verdict.probability is None else plan_words.shares(verdict.probability),
        sure=tuple(one.text for one in plan_words.sure(verdict)),
        ways="" if dollar is None else plan_words.shares(dollar.how_shares),
        ranges=next((text for text in sentences if "within 0.5 %" in text), ""),
        cost=f"{'margin' if answer.objective == 'max_margin' else 'cost'}"
        f" {dollars(answer.objective_usd)}, present value",
        workloads=tuple(_workloads(answer)),
        options=tuple(
            OptionView(
                name=label(_device(option.name)),
                how=option.name.partition(" ")[2] + (" (signed)" if option.signed else ""),
                colour=colour_name(_device(option.name)),
                usd=dollars(option.usd),
                worth="impossible" if option.worth_usd is None else dollars(option.worth_usd),
                chance=MISSING
                if option.in_plan_probability is None
                else chance(option.in_plan_probability),
                place=0.0 if placed is None else placed.place(option.usd),
            )
            for option in singles
        ),
        scale=None
        if placed is None
        else Scale(
            axis=placed.axis,
            ticks=tuple((at, dollars(_value(placed, at))) for at, _ in placed.ticks),
        ),
        flips=tuple(
            (plan_words.turning(flip), plan_words.command(flip)) for flip in turning[:_FLIPS]
        ),
        still=f"{still} inputs turn it nowhere within their plausible range" if still else "",
        limits=tuple(
            (f"{one.limit}: one more {one.unit}", dollars(one.usd))
            for one in sorted(verdict.limits, key=lambda one: -one.usd)[:_LIMITS]
        ),
        rests_on=tuple(_rests_on(answer)),
    )


def _device(option: str) -> str:
    return option.split(" ")[0]


def _value(placed: Scale, percent: float) -> float:
    axis = placed.axis
    return float(f"{axis.low + (axis.high - axis.low) * percent / 100:.3g}")


def _workloads(answer: PlanAnswer) -> Iterable[WorkloadView]:
    for cost in answer.tokens:
        parts = sorted(cost.by_accelerator.items(), key=lambda item: -item[1])
        served = ", ".join(f"{label(chip)} {part:.0%}" for chip, part in parts if part >= 0.005)
        yield WorkloadView(
            name=cost.workload,
            cost=MISSING if cost.usd_per_mtok is None else f"{usd(cost.usd_per_mtok)} per M tokens",
            served=served or "nobody",
            colour=colour_name(parts[0][0]) if parts else "grey",
        )


def _rests_on(answer: PlanAnswer) -> Iterable[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(answer.evidence.items()))
    yield f"throughputs: {kinds}"
    if answer.gap is not None:
        yield f"at most {answer.gap:.3%} from the best possible".replace("%", " %")
    none = next((one for one in answer.variants if one.name == NO_RESALE), None)
    if none is not None and none.objective_usd is not None and none.side is not None:
        yield (
            f"were chips worth nothing when sold, {dollars(none.objective_usd)} and the next dollar"
            f" {plan_words.NAMES[none.side]} {none.share:.0%}"
        )
    stale = [line for line in answer.assumptions if "stale" in line]
    if stale:
        yield f"{len(stale)} stale prices"
    yield from answer.settings
    yield f"{len(answer.assumptions)} assumptions, listed below"
