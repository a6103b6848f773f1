"""The first screen of a solved plan: where the next dollar goes, in numbers and words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tpubench.costs.allocation.answer import Answer
from tpubench.costs.allocation.statements import EXPECTED, SPENT
from tpubench.devices.vendors import colour_name, label
from tpubench.reports import plan_words
from tpubench.reports.answers.words import chance, usd
from tpubench.reports.blocks import Block, Cell, Section, Table, Text, columns
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


def plan_view(answer: Answer) -> PlanView:
    """The first screen of ``answer``."""
    verdict = answer.verdict
    found = verdict.next_dollar
    accelerator = "" if found is None else found.option.split(" ")[0]
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
        colour="none" if found is None or verdict.tie else f"c-{colour_name(accelerator)}",
        detail=sentences[0],
        chances="" if verdict.probability is None else plan_words.shares(verdict.probability),
        sure=tuple(one.text for one in plan_words.sure(verdict)),
        ways="" if found is None else plan_words.shares(found.how_shares),
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


def _workloads(answer: Answer) -> Iterable[WorkloadView]:
    for cost in answer.tokens:
        parts = sorted(cost.by_accelerator.items(), key=lambda item: -item[1])
        served = ", ".join(f"{label(chip)} {part:.0%}" for chip, part in parts if part >= 0.005)
        yield WorkloadView(
            name=cost.workload,
            cost=MISSING if cost.usd_per_mtok is None else f"{usd(cost.usd_per_mtok)} per M tokens",
            served=served or "nobody",
            colour=colour_name(parts[0][0]) if parts else "grey",
        )


def _rests_on(answer: Answer) -> Iterable[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(answer.evidence.items()))
    yield f"throughputs: {kinds}"
    if answer.gap is not None:
        yield f"at most {answer.gap:.3%} from the best possible".replace("%", " %")
    stale = [line for line in answer.assumptions if "stale" in line]
    if stale:
        yield f"{len(stale)} stale prices"
    yield from answer.settings
    yield f"{len(answer.assumptions)} assumptions, listed below"


def plan_sections(answer: Answer) -> list[Section]:
    """What stands below the first screen: the plan by year, worths, doubts, assumptions."""
    return [
        Section(
            title="The plan",
            lead="What to get in which year. Rent and contracts are means over the scenarios.",
            blocks=(_amounts(answer), _power(answer), _cash(answer)),
        ),
        Section(
            title="What it rests on",
            lead="What the plan would cost without an option, what is doubted, what is assumed.",
            blocks=(_worths(answer), *_doubts(answer), Text(items=tuple(answer.assumptions))),
        ),
    ]


def _by_year(title: str, heading: str, rows: dict[str, dict[int, str]]) -> Table:
    years = sorted({year for row in rows.values() for year in row})
    return Table(
        caption=title,
        columns=columns(heading, *(f"{year}#" for year in years)),
        rows=tuple((name, *(row.get(year, "") for year in years)) for name, row in rows.items()),
    )


def _amounts(answer: Answer) -> Block:
    rows: dict[str, dict[int, str]] = {}
    for amount in answer.amounts:
        text = f"{amount.chips:,.0f}"
        if amount.high > amount.low:
            text += f" ({amount.low:,.0f}–{amount.high:,.0f})"
        rows.setdefault(f"{label(amount.accelerator)}, {amount.option}", {})[amount.year] = text
    return _by_year("Chips to buy, commit to and rent", "Chip and way", rows)


def _power(answer: Answer) -> Block:
    rows = {"drawn": {power.year: f"{power.mw:,.1f}" for power in answer.power}}
    limits = {p.year: f"{p.limit_mw:,.1f}" for p in answer.power if p.limit_mw is not None}
    return _by_year(
        "Megawatts at the meter", "Power", rows | ({"allowed": limits} if limits else {})
    )


def _cash(answer: Answer) -> Block:
    expected = [cash for cash in answer.cash if cash.scenario == EXPECTED]
    rows: dict[str, dict[int, str]] = {}
    for part in (*SPENT, "tax", "revenue", "resale", "net"):
        values = {cash.year: float(getattr(cash, part)) for cash in expected}
        if any(values.values()):
            name = "net spent" if part == "net" else part
            rows[name] = {year: dollars(value) for year, value in values.items()}
    return _by_year("Expected cash", "Item", rows)


def _worths(answer: Answer) -> Block:
    rows: list[tuple[Cell, ...]] = [
        (
            option.name,
            option.side,
            option.how,
            dollars(option.usd),
            "impossible" if option.worth_usd is None else dollars(option.worth_usd),
            MISSING if option.in_plan_probability is None else chance(option.in_plan_probability),
        )
        for option in answer.verdict.options
    ]
    return Table(
        folded=f"What the plan would cost more without each option: {len(rows)}",
        columns=columns("Without", "Side", "How", "Spent on it#", "Worth#", "In plan#"),
        rows=tuple(rows),
        foot="Impossible: no plan meets all demand and limits without it.",
    )


def _doubts(answer: Answer) -> list[Block]:
    rows: list[tuple[Cell, ...]] = [
        (doubt.input, f"× {doubt.low:.3g}–{doubt.high:.3g}", doubt.source)
        for doubt in answer.verdict.doubts
    ]
    if not rows:
        return []
    return [
        Table(
            folded=f"Doubts that the probability is drawn from: {len(rows)}",
            columns=columns("Input", "Range#", "From"),
            rows=tuple(rows),
        )
    ]
