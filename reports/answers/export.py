"""The first screen for other programs: a CSV of every way to pay, and its chart for a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from tpubench.devices.vendors import colour_name, side
from tpubench.reports.answers import words
from tpubench.reports.answers.build import Answers
from tpubench.reports.figure import Chart, Dot, Dots
from tpubench.results.plain_text import cell

_COLUMNS = (
    *("kind", "work", "precision", "unit", "device", "chips", "evidence", "repetitions"),
    *("way", "term", "usd_per_chip_hour", "price_id", "price_age_days", "usd_per_unit"),
    *("performance_low_usd", "performance_high_usd", "price_low_usd", "price_high_usd", "margin"),
    *("decides", "source"),
)


def to_csv(answers: Answers) -> str:
    """Every way to pay for every piece of work, full precision, no cell a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for one in answers.answers:
        deciding = {i: v.at for v in one.verdicts for i in (v.tpu, v.gpu)}
        for i, way in enumerate(one.ways):
            contender = one.work.contenders[way.contender]
            cost = way.cost
            values: tuple[object, ...] = (
                *(one.work.kind, one.work.title, one.work.dtype, one.work.unit),
                *(way.device, contender.chips, way.evidence, contender.repetitions),
                *(way.label, way.term, way.usd_per_chip_hour, way.price_id, way.age_days),
                *(cost.point, cost.low, cost.high, cost.price_low, cost.price_high),
                *("" if way.margin is None else way.margin, deciding.get(i, ""), contender.source),
            )
            writer.writerow([cell(v) if isinstance(v, str) else v for v in values])
    return stream.getvalue()


def charts(answers: Answers) -> Iterator[Chart]:
    """The chart of each headline: what a unit of work costs by way to pay."""
    for line in answers.lines:
        one = None if line.answer is None else answers.answers[line.answer]
        if one is None or not one.ways:
            continue
        rows = [
            Dot(
                label=f"{words.device(way.name)} {way.label}",
                text=words.usd(way.cost.point),
                hover="",
                colour=colour_name(way.device),
                side=side(way.device),
                evidence=way.evidence,
                point=way.cost.point,
                low=way.cost.low,
                high=way.cost.high,
            )
            for way in sorted(one.ways, key=lambda w: (not w.tpu, w.contender, -w.cost.point))
            if not way.aside
        ]
        panel = Dots(
            title=f"{words.about(one)}: {words.head(one, one.verdicts[0])}"
            if one.verdicts
            else words.about(one),
            unit=f"$ per {one.work.unit}",
            rows=tuple(rows),
        )
        yield Chart(name=f"answer-{line.kind}", alt=panel.title, panels=(panel,))
