"""Every figure in one table: value, interval, repetitions, evidence, price. The page's script sorts
it, filters it and saves it as CSV; without one it is a plain table."""

from __future__ import annotations

from tpubench.devices.vendors import label
from tpubench.reports import quantity
from tpubench.reports.blocks import Badge, Block, FigureRow, FigureTable, Note, Section
from tpubench.reports.findings import Findings, Names, short
from tpubench.reports.sections._shared import badge, spread
from tpubench.results.plain_text import plural
from tpubench.results.summary import Summary

_OPEN = 60
"""Figures up to which the table is shown unfolded."""
_MOST = 6000
"""Figures on the page; the rest are had from ``tpubench show --csv``."""


def section(findings: Findings) -> Section | None:
    every = findings.summaries
    shown = spread(every, _MOST)
    blocks: list[Block] = []
    if len(every) > len(shown):
        blocks.append(
            Note(
                text=f"{len(shown):,} of {len(every):,} figures are here, every device among them.",
                command="tpubench show published --csv"
                if findings.survey
                else "tpubench show --csv",
            )
        )
    names = Names(shown)
    blocks.append(
        FigureTable(
            summary=f"All figures: {len(shown):,}",
            open=len(shown) <= _OPEN,
            rows=tuple(_row(summary, names) for summary in shown),
        )
    )
    return Section(
        title="All figures",
        lead=(
            "Every figure by case, to be sorted, filtered and saved. The interval is the 95 %"
            " interval between repetitions, in the unit of the value. A dash is a figure that is"
            " not there; the next section gives the reason."
        ),
        blocks=tuple(blocks),
    )


def _row(summary: Summary, names: Names) -> FigureRow:
    row, interval = summary.first, summary.estimate
    factor, _ = quantity.scale_of(interval.point if interval else 1.0, row.unit)
    ends = ""
    if interval is not None and interval.low is not None and interval.high is not None:
        ends = (
            f"{quantity.number(interval.low / factor)} – {quantity.number(interval.high / factor)}"
        )
    lost = f" ({plural(summary.failed, 'repetition')} failed or invalid)" if summary.failed else ""
    status: Badge = badge(row) if row.status == "ok" else Badge(text=row.status, tone="bad")
    return FigureRow(
        work=short(row.workload, 40),
        model=short(row.preset, 48),
        device=label(row.device),
        chips=str(row.chips or ""),
        precision=row.dtype,
        case=names.label(summary) + lost,
        metric=short(row.metric, 48) or quantity.MISSING,
        value=quantity.quantity(interval.point if interval else None, row.unit),
        exact=None if interval is None else interval.point,
        interval=ends,
        count="0" if interval is None else str(interval.n),
        evidence=status,
        price=_price(summary),
        run=short(row.run_id, 40),
    )


def _price(summary: Summary) -> str:
    row = summary.first
    if row.price_id is None:
        return ""
    rate = "" if row.usd_per_chip_hour is None else f"${quantity.number(row.usd_per_chip_hour)}/h, "
    return f"{rate}{row.price_id}, as of {row.price_as_of or 'no date'}"
