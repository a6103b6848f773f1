"""Every figure: value, interval, repetitions, evidence, price."""

from __future__ import annotations

from tpubench.devices.vendors import label
from tpubench.reports import quantity
from tpubench.reports.blocks import Badge, Block, Cell, Note, Section, Table, columns
from tpubench.reports.findings import Findings, Names, short
from tpubench.reports.sections._shared import badge, by, plural
from tpubench.results.summary import Summary, case_key

_OPEN = 60
"""Figures up to which the tables are shown unfolded."""
_MOST = 2000
"""Figures on the page; the rest are had from ``tpubench show --csv``."""


def section(findings: Findings) -> Section | None:
    shown = findings.summaries[:_MOST]
    groups = by(shown, lambda s: (s.first.run_id, s.first.workload, s.first.preset))
    blocks: list[Block] = []
    if len(findings.summaries) > _MOST:
        blocks.append(
            Note(
                text=f"The first {_MOST:,} of {len(findings.summaries):,} figures are shown.",
                command="tpubench show … --csv",
            )
        )
    blocks += [_table(group, folded=len(shown) > _OPEN) for group in groups]
    return Section(
        title="All figures",
        lead=(
            "Every figure by case. Low and high are the ends of the 95 % interval between"
            " repetitions, in the unit of the value. A dash is a figure that is not there; the next"
            " section gives the reason."
        ),
        blocks=tuple(blocks),
    )


def _table(group: list[Summary], *, folded: bool) -> Table:
    names = Names(group)
    first = next((s for s in group if s.first.status == "ok"), group[0]).first
    title = (
        f"{first.workload} {first.preset} {first.dtype} on {label(first.device)}, {first.run_id}"
    )
    rows: list[tuple[Cell, ...]] = []
    for case in by(group, lambda s: case_key(s.first)):
        failed = max(summary.failed for summary in case)
        lost = f" ({plural(failed, 'repetition')} failed or invalid)" if failed else ""
        rows.append((f"{names.label(case[0])}{lost}",))
        rows += [_row(summary) for summary in case]
    return Table(
        caption="" if folded else title,
        folded=f"{title}: {plural(len(group), 'figure')}" if folded else "",
        columns=columns("Metric", "Value#", "Low#", "High#", "n#", "Evidence", "Price"),
        rows=tuple(rows),
    )


def _row(summary: Summary) -> tuple[Cell, ...]:
    row, found = summary.first, summary.estimate
    status: Badge = badge(row) if row.status == "ok" else Badge(text=row.status, tone="bad")
    factor, _ = quantity.scale_of(found.point if found else 1.0, row.unit)
    ends = (found.low, found.high) if found else (None, None)
    return (
        short(row.metric, 48) or quantity.MISSING,
        quantity.quantity(found.point if found else None, row.unit),
        *(quantity.MISSING if end is None else quantity.number(end / factor) for end in ends),
        "0" if found is None else str(found.n),
        status,
        _price(summary),
    )


def _price(summary: Summary) -> str:
    row = summary.first
    if row.price_id is None:
        return ""
    rate = "" if row.usd_per_chip_hour is None else f"${quantity.number(row.usd_per_chip_hour)}/h, "
    return f"{rate}{row.price_id}, as of {row.price_as_of or 'no date'}"
