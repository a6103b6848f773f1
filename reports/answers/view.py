"""The first screen as the template wants it: words beside figures, places beside values."""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.devices.prices import STALE_AFTER_DAYS
from tpubench.devices.vendors import colour_name
from tpubench.reports import quantity
from tpubench.reports.answers import words
from tpubench.reports.answers.build import AnswerLine, Answers
from tpubench.reports.answers.gaps import Gap
from tpubench.reports.answers.service import at_level
from tpubench.reports.answers.settings import RANGES, ReportSettings
from tpubench.reports.answers.verdicts import TERMS, PairVerdict, WayCost, WorkAnswer
from tpubench.reports.tracks import Scale, log_scale

_MOST_CHOSEN = 4
"""Deciding devices up to which every way to pay for each of them is drawn at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """One verdict in words."""

    index: int
    at: str
    head: str
    sure: str
    sides: str
    tone: str
    """Of the words: tpu, nvidia, amd or close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLineView:
    """One kind of work on the first screen."""

    title: str
    work: int | None
    about: str
    verdicts: tuple[VerdictView, ...]
    basis: str
    more: str
    others: tuple[int, ...]
    gap: Gap | None
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WayView:
    """One row of the chart. Places are percent of the strip's width."""

    index: int
    name: str
    label: str
    colour: str
    hollow: bool
    shape: str
    cost: str
    cost_usd: float
    per_hour: str
    age: str
    stale: bool
    decides: bool
    shown: bool
    """Whether it is drawn before the reader asks for all ways."""
    dot: float
    bar: tuple[float, float]
    thin: tuple[float, float]
    spoken: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipView:
    """One sentence; ``plausible`` ones are shown strong."""

    text: str
    plausible: bool
    why: str
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkView:
    """One piece of work: its chart, verdicts and flips."""

    index: int
    kind: str
    about: str
    unit: str
    basis: str
    ways: tuple[WayView, ...]
    scale: Scale | None
    verdicts: tuple[VerdictView, ...]
    flips: tuple[FlipView, ...]
    differences: tuple[str, ...]
    price_span: str
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveView:
    """One device at a service level."""

    index: int
    work: str
    name: str
    colour: str
    evidence: str
    cost: str
    rate: str
    per_mw: str
    per_musd: str
    how: str
    span: str


def curve_views(answers: Answers) -> list[CurveView]:
    """Every curve at the service level that is set."""
    views = []
    for index, curve in enumerate(answers.curves):
        at = at_level(curve, answers.settings)
        precision = "" if curve.dtype == "not-stated" else f", {curve.dtype}"
        ends = [quantity.number(curve.points[i][0]) for i in (0, -1)]
        views.append(
            CurveView(
                index=index,
                work=f"{curve.work}{precision}",
                name=f"{words.device(curve.name)}, {curve.chips} chip{'s' * (curve.chips != 1)}",
                colour=colour_name(curve.device),
                evidence=curve.evidence,
                cost=quantity.MISSING if at.usd_per_mtok is None else words.usd(at.usd_per_mtok),
                rate=quantity.MISSING if at.rate is None else quantity.number(at.rate),
                per_mw=quantity.MISSING
                if at.tok_s_per_mw is None
                else quantity.number(at.tok_s_per_mw),
                per_musd=quantity.MISSING
                if at.tok_s_per_musd is None
                else quantity.number(at.tok_s_per_musd),
                how=at.how,
                span=ends[0] if len(curve.points) == 1 else f"{ends[0]} – {ends[1]}",
            )
        )
    return views


@dataclass(frozen=True, slots=True, kw_only=True)
class SliderView:
    """One slider and where it stands."""

    path: str
    label: str
    low: float
    high: float
    step: float
    value: float


def slider_views(settings: ReportSettings) -> list[SliderView]:
    """The sliders under these settings; one beyond an end of its range widens it."""
    record = settings.record()
    views = []
    for r in RANGES:
        value = record[r.path] or 1.0
        views.append(
            SliderView(
                path=r.path,
                label=r.label,
                low=min(r.low, value),
                high=max(r.high, value),
                step=r.step,
                value=value,
            )
        )
    return views


def line_views(answers: Answers) -> list[AnswerLineView]:
    """The rows of the verdict table."""
    return [_line(answers, line) for line in answers.lines]


def work_views(answers: Answers) -> list[WorkView]:
    """Every piece of work, headlines first."""
    order = [line.answer for line in answers.lines if line.answer is not None]
    order += [i for line in answers.lines for i in line.others]
    return [work_view(i, answers.answers[i]) for i in order]


def _line(answers: Answers, line: AnswerLine) -> AnswerLineView:
    one = None if line.answer is None else answers.answers[line.answer]
    return AnswerLineView(
        title=line.title,
        work=line.answer,
        about="" if one is None else words.about(one).removeprefix(f"{line.title}: "),
        verdicts=() if one is None else _shown(one),
        basis="" if one is None else words.basis(one),
        more=_more(answers, line),
        others=line.others,
        gap=line.gap,
        missing="" if one is None else one.missing or "",
    )


def _shown(one: WorkAnswer) -> tuple[VerdictView, ...]:
    """The verdict at the default prices, and under the longest contract there is."""
    every = [_verdict(one, index, verdict) for index, verdict in enumerate(one.verdicts)]
    return tuple(every[:1] + every[1:][-1:])


def _verdict(one: WorkAnswer, index: int, verdict: PairVerdict) -> VerdictView:
    return VerdictView(
        index=index,
        at=verdict.at,
        head=words.head(one, verdict),
        sure=words.sure(one, verdict),
        sides=words.sides(one, verdict),
        tone=tone(one, verdict),
    )


def tone(one: WorkAnswer, verdict: PairVerdict) -> str:
    """The colour that a verdict's words take: the winner's, or none."""
    if verdict.compared.word == "close":
        return "close"
    deciding = verdict.tpu if verdict.compared.word == "tpu" else verdict.gpu
    return f"c-{colour_name(one.ways[deciding].device)}"


def _more(answers: Answers, line: AnswerLine) -> str:
    """What the other pieces of work of this kind say, counted."""
    if not line.others:
        return ""
    tones = [
        answers.answers[i].verdicts[0].compared.word if answers.answers[i].verdicts else "no price"
        for i in line.others
    ]
    names = {"tpu": "TPU cheaper", "gpu": "GPU cheaper", "close": "too close", "no price": "none"}
    counted = [f"{tones.count(tone)} {name}" for tone, name in names.items() if tone in tones]
    return f"{len(tones)} more: {', '.join(counted)}"


def work_view(index: int, one: WorkAnswer) -> WorkView:
    """One piece of work as its chart and sentences."""
    scale = None
    if one.ways:
        values = [
            value
            for way in one.ways
            for value in (way.cost.low, way.cost.high, way.cost.price_low, way.cost.price_high)
        ]
        scale = log_scale(f"$ per {one.work.unit}", values)
    deciding = {i for verdict in one.verdicts for i in (verdict.tpu, verdict.gpu)}
    order = sorted(range(len(one.ways)), key=lambda i: _rank(one, i))
    chosen = {one.ways[i].contender for i in deciding}
    shown = {
        i
        for i, way in enumerate(one.ways)
        if i in deciding
        or way.default
        or way.term in TERMS
        or (way.aside and way.every_hour)
        or (way.contender in chosen and not way.aside and len(chosen) < _MOST_CHOSEN)
    }
    return WorkView(
        index=index,
        kind=one.work.kind,
        about=words.about(one),
        unit=one.work.unit,
        basis=words.basis(one),
        ways=tuple(_way(i, one.ways[i], scale, i in deciding, i in shown) for i in order if scale),
        scale=scale,
        verdicts=tuple(_verdict(one, i, verdict) for i, verdict in enumerate(one.verdicts)),
        flips=tuple(
            FlipView(
                text=words.flip(flip),
                plausible=flip.plausible,
                why=flip.why,
                setting=flip.setting,
            )
            for flip in one.flips
        ),
        differences=one.work.differences,
        price_span=words.span(one),
        missing=one.missing or "",
    )


def _rank(one: WorkAnswer, index: int) -> tuple[object, ...]:
    """TPUs first, then by device as in the work; what decides nothing last, the dearest first."""
    way = one.ways[index]
    return (not way.tpu, way.contender, way.aside, -way.cost.point)


def _way(index: int, way: WayCost, scale: Scale, decides: bool, shown: bool) -> WayView:
    cost = way.cost
    stale = way.age_days > STALE_AFTER_DAYS
    margin = "" if way.margin is None else f" ({quantity.number(100 * way.margin)} %)"
    several = f" ({way.providers} providers)" if way.providers > 1 else ""
    spoken = (
        f"{way.name}, {way.label}: {words.usd(cost.point)}, performance interval"
        f" {words.usd(cost.low)} to {words.usd(cost.high)}, price range"
        f" {words.usd(cost.price_low)} to {words.usd(cost.price_high)}"
    )
    return WayView(
        index=index,
        name=words.device(way.name),
        label=f"{way.label}{several}",
        colour=colour_name(way.device),
        hollow=way.evidence != "measured",
        shape="round" if way.tpu else "square",
        cost=words.usd(cost.point) + margin,
        cost_usd=cost.point,
        per_hour=words.usd(way.usd_per_chip_hour),
        age=f"{way.age_days} d",
        stale=stale,
        decides=decides,
        shown=shown,
        dot=scale.place(cost.point),
        bar=(scale.place(cost.low), scale.place(cost.high)),
        thin=(scale.place(cost.price_low), scale.place(cost.price_high)),
        spoken=spoken,
    )
