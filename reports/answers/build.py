"""The one builder of the first screen of stored facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tpubench.devices.prices import STALE_AFTER_DAYS
from tpubench.reports.answers import gaps, service
from tpubench.reports.answers.gaps import Gap
from tpubench.reports.answers.service import Curve
from tpubench.reports.answers.settings import ReportSettings
from tpubench.reports.answers.verdicts import WorkAnswer, answer
from tpubench.reports.answers.works import KINDS, LONE, kind_of, works
from tpubench.reports.findings import Findings
from tpubench.reports.pairs import DevicePair, pairs
from tpubench.results.calibration import results_of
from tpubench.results.summary import case_key

_MAIN = ("training", "serving", "batch", "images")
"""Kinds of work that have a line where nothing is known, if nothing is known of any; other work
only where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What the answers rest on."""

    evidence: Mapping[str, int]
    """Cases by kind of evidence; made-up times count as ``fake``."""
    pairs: int
    """Pairs of a TPU and a GPU that did the same work in the same way."""
    oldest_price: str | None
    oldest_days: int | None
    """The oldest of the prices that decide a verdict."""
    stale_prices: int
    """Deciding prices older than 90 days."""
    deciding_prices: int
    assumed: int
    """Deciding figures without an interval, taken as known within ``assumed_width``."""
    assumed_width: float
    hole: str
    """The greatest thing that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLine:
    """One kind of work: its answer or why there is none."""

    kind: str
    title: str
    answer: int | None
    """Index of the headline answer."""
    others: tuple[int, ...]
    gap: Gap | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Everything the first screen says, as plain data."""

    settings: ReportSettings
    lines: tuple[AnswerLine, ...]
    answers: tuple[WorkAnswer, ...]
    trust: Trust
    curves: tuple[Curve, ...] = ()
    """Costs at a service level."""
    drawn: str | None = None
    """Which of the selected rows these rest on, where they are too many to draw them all."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "settings": self.settings.record(),
            "lines": [asdict(line) for line in self.lines],
            "works": [_work_json(one) for one in self.answers],
            "trust": asdict(self.trust),
            "service": service.record(self.curves, self.settings),
            **({} if self.drawn is None else {"drawn": self.drawn}),
        }


def build(findings: Findings, settings: ReportSettings | None = None) -> Answers:
    """The first screen of these findings under ``settings``, the neutral ones by default."""
    settings = settings or ReportSettings()
    today = findings.now.date()
    matched = pairs(findings)
    answers = tuple(answer(work, settings, today) for work in works(matched, findings.prices))
    kinds = gaps.by_kind(findings)
    bare = not answers and not any(kinds[kind] for kind in _MAIN)
    lines = []
    for kind, title in KINDS.items():
        mine = [i for i, one in enumerate(answers) if one.work.kind == kind]
        if mine:
            mine.sort(key=lambda i: not answers[i].verdicts)
            lines.append(
                AnswerLine(kind=kind, title=title, answer=mine[0], others=tuple(mine[1:]), gap=None)
            )
        elif kind in _MAIN and (kinds[kind] or findings.survey or bare):
            near = [p for p in matched if not p.like and _kind(p) == kind]
            missing = gaps.gap(kind, kinds[kind], near)
            lines.append(AnswerLine(kind=kind, title=title, answer=None, others=(), gap=missing))
    return Answers(
        settings=settings,
        lines=tuple(lines),
        answers=answers,
        trust=_trust(findings, answers, lines),
        curves=tuple(service.curves(findings)),
        drawn=findings.drawn,
    )


def _kind(pair: DevicePair) -> str:
    return kind_of(pair.tpu.rate.first, pair.tpu.rate.params.get("scenario"))


def _trust(findings: Findings, answers: tuple[WorkAnswer, ...], lines: list[AnswerLine]) -> Trust:
    counts: Counter[str] = Counter()
    good = [row for row in results_of(findings.rows) if row.status == "ok"]
    for row in {(case_key(row), row.device): row for row in good}.values():
        counts["fake" if row.backend == "fake" else row.evidence] += 1
    headlines = [answers[line.answer] for line in lines if line.answer is not None]
    deciding = {
        way.price_id: way
        for one in headlines
        for verdict in one.verdicts
        for way in (one.ways[verdict.tpu], one.ways[verdict.gpu])
    }
    oldest = max(deciding.values(), key=lambda way: way.age_days, default=None)
    assumed = {
        (id(one), index)
        for one in headlines
        for verdict in one.verdicts
        for index in (one.ways[verdict.tpu].contender, one.ways[verdict.gpu].contender)
        if one.work.contenders[index].assumed
    }
    return Trust(
        evidence=dict(counts),
        pairs=sum(one.work.pairs for one in answers),
        oldest_price=None if oldest is None else oldest.price_id,
        oldest_days=None if oldest is None else oldest.age_days,
        stale_prices=sum(way.age_days > STALE_AFTER_DAYS for way in deciding.values()),
        deciding_prices=len(deciding),
        assumed=len(assumed),
        assumed_width=LONE,
        hole=_hole(counts, answers, lines),
    )


def _hole(counts: Counter[str], answers: tuple[WorkAnswer, ...], lines: list[AnswerLine]) -> str:
    if not counts or set(counts) == {"fake"}:
        return "nothing was measured: made-up times of a scripted clock"
    empty = [line.title.lower() for line in lines if line.gap is not None]
    if not answers:
        return "no TPU and GPU did the same work in the same way"
    if empty:
        return f"{' and '.join(empty)}: no TPU and GPU did it in the same way"
    if "measured" not in counts:
        return "nothing was measured here: every figure is somebody else's best"
    bare = [one for one in answers if one.missing]
    if bare:
        return bare[0].missing or ""
    return "one program each: other models, lengths and loads may turn out differently"


def _work_json(one: WorkAnswer) -> dict[str, Any]:
    record = asdict(one)
    work: dict[str, Any] = record.pop("work")
    record["today"] = one.today.isoformat()
    for contender in work["contenders"]:
        for way in contender["ways"]:
            way["as_of"] = way["as_of"].isoformat()
    return work | record
