"""Latency: first token, each further token, and how the gaps between tokens are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tpubench.devices.vendors import colour_name
from tpubench.reports import quantity
from tpubench.reports.blocks import Block, Cell, Drawing, Note, Section, Table, columns
from tpubench.reports.figure import (
    Axis,
    Chart,
    Plane,
    Point,
    Series,
    axis,
    spans_decades,
    variants,
)
from tpubench.reports.findings import Findings, Names
from tpubench.reports.sections._shared import (
    TABLE_ROWS,
    badge,
    cut,
    dots,
    further,
    left_out,
    spread,
)
from tpubench.results.statistics import median, percentile, percentile_minimum
from tpubench.results.summary import Summary

_LINES = 8
"""Cases in the distribution chart: more lines cannot be told apart."""
_STEPS = 200
"""Points of a distribution's line."""
_QUANTILES = (0.5, 0.9, 0.99)


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    ttft, tpot, itl = (findings.of(metric) for metric in ("ttft_s", "tpot_s", "itl_s"))
    lead = (
        "How long one user waits. Time to first token is the wait until the answer begins; time"
        " per output token is the pace at which it then arrives. Lower is better for both."
    )
    if not (ttft or tpot or itl):
        missing = Note(
            text="No latency among these results.", command="tpubench run --workload llama-infer"
        )
        return Section(title="Latency", lead=lead, blocks=(missing,))
    names = Names([*ttft, *tpot, *itl])
    shared = names.shared()
    drawn = (*dots("ttft_s", ttft, names), *dots("tpot_s", tpot, names))
    blocks: list[Block] = []
    if drawn:
        chart = Chart(
            name="latency",
            alt="Time to first token and time per output token of each case, with 95 % intervals.",
            panels=drawn,
            caption=(f"All cases: {shared}. " if shared else "")
            + "Farther left is quicker. Bars are 95 % intervals between repetitions."
            + cut(drawn)
            + left_out(max(len(ttft), len(tpot))),
        )
        blocks.append(Drawing(chart=chart))
    if itl:
        blocks.append(Drawing(chart=_distribution(itl, names)))
    blocks.append(_percentiles([*ttft, *tpot, *itl], names))
    return Section(title="Latency", lead=lead, blocks=tuple(blocks))


def _pooled(summary: Summary) -> list[float]:
    """The raw samples of all good repetitions together: percentiles are never averaged."""
    return [x for row in summary.rows if row.status == "ok" for x in row.samples or ()]


def _distribution(summaries: Sequence[Summary], names: Names) -> Chart:
    chosen = spread([s for s in summaries if _pooled(s)], _LINES)
    named = [(names.label(s, most=44), colour_name(s.first.device)) for s in chosen]
    dashes = variants(named)
    factor, unit = quantity.scale_of(max((median(_pooled(s)) for s in chosen), default=1.0), "s")
    lines = []
    for summary, (name, shade) in zip(chosen, named, strict=True):
        ordered = sorted(_pooled(summary))
        lines.append(
            Series(
                name=name,
                evidence=summary.first.evidence,
                draw="line",
                colour=shade,
                variant=dashes[name],
                points=_steps(ordered, factor, unit, name),
            )
        )
    values = [point.x for series in lines for point in series.points]
    more = left_out(len(summaries), _LINES)
    return Chart(
        name="gaps",
        alt="Share of the gaps between tokens that are at most so long, for each case.",
        panels=(
            Plane(
                title="Share of gaps at most this long",
                x=axis(f"itl_s, {unit}", values, log=spans_decades(values)),
                y=Axis(title="share of gaps, %", low=0.0, high=101.0, log=False),
                series=tuple(lines),
            ),
        ),
        caption=(
            "The gaps between one token and the next. Where a line crosses 90 %, nine gaps of ten"
            " are shorter. A steep line is an even pace; a long tail to the right is stutter."
            + more
        ),
    )


def _steps(ordered: Sequence[float], factor: float, unit: str, label: str) -> tuple[Point, ...]:
    n = len(ordered)
    ranks = sorted({max(1, math.ceil(n * step / _STEPS)) for step in range(1, _STEPS + 1)})
    return tuple(
        Point(
            x=ordered[rank - 1] / factor,
            y=100 * rank / n,
            hover=(
                f"{label}\n{100 * rank / n:.3g} % of {n} gaps are at most"
                f"\n{quantity.number(ordered[rank - 1] / factor)} {unit}"
            ),
        )
        for rank in ranks
    )


def _percentiles(summaries: Sequence[Summary], names: Names) -> Table:
    rows: list[tuple[Cell, ...]] = []
    shown = spread(summaries, TABLE_ROWS)
    for summary in shown:
        samples = _pooled(summary)
        rows.append(
            (
                summary.first.metric,
                names.label(summary),
                f"{len(samples):,}",
                *(_quantile(samples, q) for q in _QUANTILES),
                badge(summary.first),
            )
        )
    return Table(
        caption="Percentiles",
        columns=columns("Metric", "Case", "Samples#", "p50#", "p90#", "p99#", "Evidence"),
        rows=tuple(rows),
        foot=(
            "A p90 is the value that nine of ten samples do not exceed. Samples of all repetitions"
            " taken together, with distribution-free 95 % intervals in brackets; these do not"
            " include the spread between repetitions. A percentile that so few samples cannot"
            " support is refused: it would be a guess." + further(len(summaries), len(shown))
        ),
    )


def _quantile(samples: Sequence[float], q: float) -> str:
    value = percentile(samples, q) if samples else None
    if value is None:
        return f"{quantity.MISSING} needs {percentile_minimum(q)}"
    return quantity.estimate(value, "s")
