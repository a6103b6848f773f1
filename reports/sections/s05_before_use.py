"""What one must know before using the numbers: the caveats, the gravest first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from tpubench.devices.prices import STALE_AFTER_DAYS
from tpubench.devices.vendors import is_gpu, is_tpu, label
from tpubench.reports import quantity
from tpubench.reports.blocks import Note, Section
from tpubench.reports.findings import Findings, Names, environment, part
from tpubench.reports.sections._shared import distinct
from tpubench.results.calibration import is_calibration
from tpubench.results.plain_text import plural
from tpubench.results.row import Row
from tpubench.results.summary import Summary, case_key

_WIDE = 0.10
"""Half an interval over its value, above which it is called wide."""
_HOPELESS = 0.5
"""The same, above which a difference between devices could not be seen."""


def section(findings: Findings) -> Section | None:
    notes = [
        *_drawn(findings),
        *_fake(findings),
        *_failures(findings),
        *_comparison(findings),
        *_evidence(findings),
        *_repetitions(findings),
        *_steadiness(findings),
        *_prices(findings),
        *_environments(findings),
        *_damaged(findings),
    ]
    order = {"bad": 0, "warn": 1, "info": 2}
    notes.sort(key=lambda note: order[note.tone])
    if not notes:
        return None
    return Section(
        title="Before you use these numbers",
        lead="What limits what they can tell you, the gravest first.",
        blocks=tuple(notes),
    )


def _drawn(findings: Findings) -> Iterable[Note]:
    if findings.drawn is not None:
        yield Note(
            tone="warn",
            text=(
                f"Too much to draw: {findings.drawn}. Earlier runs, and cases that are not here,"
                " are had by selecting them, and a figure's course by tpubench history."
            ),
            command="tpubench report workload=NAME device=NAME",
        )


def _fake(findings: Findings) -> Iterable[Note]:
    count = len({(case_key(r), r.repetition) for r in findings.rows if r.backend == "fake"})
    if count:
        yield Note(
            tone="bad",
            text=(
                f"{plural(count, 'repetition')} ran under a scripted clock (backend fake). The"
                " times are made up, for testing tpubench itself. Never use them."
            ),
        )


def _failures(findings: Findings) -> Iterable[Note]:
    bad = [row for row in findings.rows if row.status != "ok"]
    if bad:
        names = Names([s for s in findings.summaries if s.failed])
        by_case = {case_key(s.first): names.label(s) for s in findings.summaries if s.failed}
        items = [
            f"{row.workload} {by_case.get(case_key(row), row.preset)}, repetition"
            f" {row.repetition + 1}: {row.status}: {row.reason}"
            for row in bad
        ]
        yield Note(
            tone="bad",
            text=(
                f"{plural(len(bad), 'repetition')} gave no figure. They count in none of the"
                " values on this page."
            ),
            items=distinct(items, 12),
        )


def _comparison(findings: Findings) -> Iterable[Note]:
    ok = [row for row in findings.rows if row.status == "ok"]
    kinds = {_kind(row.device) for row in ok}
    if not ok or {"TPU", "GPU"} <= kinds:
        return
    names = " and ".join(sorted({label(row.device) for row in ok}))
    missing = " and ".join(f"no {kind}" for kind in ("TPU", "GPU") if kind not in kinds)
    yield Note(
        tone="warn",
        text=(
            f"Only {names}: {missing} is among these results. No TPU–GPU comparison can be made"
            " from these results alone. Run the same workload and preset on the other kind, into"
            " the same store; tpubench report published compares what others have published."
        ),
    )


def _kind(device: str) -> str:
    if is_tpu(device):
        return "TPU"
    return "GPU" if is_gpu(device) else label(device)


def _evidence(findings: Findings) -> Iterable[Note]:
    kinds = {row.evidence for row in findings.rows if row.status == "ok"}
    meaning = {
        "measured": "measured: this suite ran it",
        "published": "published: taken from a source outside this suite",
        "compiled": "compiled: the compiler's own estimate, nothing was executed",
        "modelled": "modelled: computed from a model, not taken from a running device",
    }
    if kinds and kinds != {"measured"}:
        yield Note(
            tone="warn",
            text=(
                "Not every number here was measured. Each number is labelled; hollow marks in the"
                " charts stand for what no device ran."
            ),
            items=tuple(text for kind, text in meaning.items() if kind in kinds),
        )


def _repetitions(findings: Findings) -> Iterable[Note]:
    if findings.survey:
        yield Note(
            tone="warn",
            text=(
                "Single figures, mostly the best that a vendor or an author obtained, without"
                " intervals. Small differences mean nothing; measure before deciding."
            ),
            command="tpubench run --workload llama-infer",
        )
        return
    # What measured the machine is measured once: that is no fault of a result.
    valued = [s for s in findings.summaries if s.estimate and not is_calibration(s.first)]
    counts: dict[object, tuple[int, Summary]] = {}
    for summary in valued:
        if summary.estimate is not None and not summary.estimated:
            counts[case_key(summary.first)] = (summary.estimate.n, summary)
    names = Names([summary for _, summary in counts.values()])
    for few, text in (
        (1, "one repetition: no interval, so nothing says how far the figures may be off"),
        (2, "two repetitions: an interval from two is very wide"),
    ):
        labels = [names.label(s) for n, s in counts.values() if n == few]
        every = len(labels) == len(counts)
        have = "has" if every or len(labels) == 1 else "have"
        if labels:
            yield Note(
                tone="warn",
                text=f"{'Every case' if every else plural(len(labels), 'case')} {have} {text}.",
                items=() if every else distinct(labels),
                command="tpubench run … --repeats 5",
            )
    wide = [s for s in valued if _half_width(s) > _WIDE and s.first.metric in _RATES]
    if wide:
        named = Names(wide)
        items = [
            f"{s.first.metric}, {named.label(s)}: {quantity.estimate(s.estimate, s.first.unit)}"
            for s in wide
        ]
        yield Note(
            tone="warn" if max(_half_width(s) for s in wide) > _HOPELESS else "info",
            text=(
                f"Intervals wider than ± {100 * _WIDE:.0f} %: the repetitions differ much. More"
                " repetitions, or a quieter machine, narrow them."
            ),
            items=distinct(items),
            command="tpubench run … --repeats 10",
        )


_RATES = {"output_tok_s", "train_tok_s", "flop_s", "bandwidth_bytes_s", "samples_s"}


def _half_width(summary: Summary) -> float:
    interval = summary.estimate
    if (
        interval is None
        or interval.low is None
        or interval.high is None
        or interval.n < 3
        or not interval.point
    ):
        return 0.0
    return abs((interval.high - interval.low) / (2 * interval.point))


def _steadiness(findings: Findings) -> Iterable[Note]:
    unsteady = [
        summary
        for case in findings.by_case().values()
        for summary in case[:1]
        if any(
            part(row, "timing").get("steadiness") in {"slowing", "quickening", "erratic"}
            for row in summary.rows
        )
    ]
    if unsteady:
        names = Names(unsteady)
        yield Note(
            tone="warn",
            text="Speed had not settled when the clock started; treat these cases with care.",
            items=distinct([f"{s.first.workload} {names.label(s)}" for s in unsteady]),
        )


def _prices(findings: Findings) -> Iterable[Note]:
    priced = [row for row in findings.rows if row.price_id is not None]
    if any(row.price_id == "given" for row in priced):
        yield Note(
            tone="info",
            text=(
                "A price was given by hand and is taken as the whole bill of a chip. No source"
                " outside the person who typed it backs it."
            ),
        )
    stale: list[str] = []
    for price_id, as_of in dict.fromkeys((row.price_id, row.price_as_of) for row in priced):
        age = _age_days(as_of, findings.now)
        if age is None:
            stale.append(f"{price_id}: no readable date")
        elif age > STALE_AFTER_DAYS:
            stale.append(f"{price_id}: {age} days old, of {as_of}")
    if stale:
        yield Note(
            tone="warn",
            text=f"Prices older than {STALE_AFTER_DAYS} days. Check them before deciding.",
            items=distinct(stale),
        )


def _age_days(as_of: str | None, now: dt.datetime) -> int | None:
    try:
        return (now.date() - dt.date.fromisoformat(as_of or "")).days
    except ValueError:
        return None


def _environments(findings: Findings) -> Iterable[Note]:
    changed = [
        summary
        for case in findings.by_case().values()
        for summary in case[:1]
        if len({_machine(row) for row in summary.rows if row.status == "ok"}) > 1
    ]
    if changed:
        yield Note(
            tone="warn",
            text=(
                "The machine or its settings changed between repetitions of one case. See the"
                " environment below for what differs."
            ),
            items=distinct([Names(changed).label(summary) for summary in changed]),
        )


def _machine(row: Row) -> str:
    return row.fingerprint or str(environment(row))


def _damaged(findings: Findings) -> Iterable[Note]:
    if findings.damaged:
        yield Note(
            tone="bad",
            text=f"{plural(len(findings.damaged), 'file')} could not be read and is left out.",
            items=distinct([f"{bad.file}: {bad.problem}" for bad in findings.damaged], 12),
            command="tpubench verify",
        )
