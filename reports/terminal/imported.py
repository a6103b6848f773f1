"""Imported results on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from rich.markup import escape

from tpubench.costs.import_files import ImportReport
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import console, print_json, records
from tpubench.results import plain_text
from tpubench.results.plain_text import plural
from tpubench.results.row import Row

_SHOWN = 12


def show_formats(formats: Mapping[str, str], *, as_json: bool) -> None:
    """The formats and what files they are."""
    if as_json:
        print_json([{"format": name, "files": title} for name, title in formats.items()])
        return
    table = FoldingTable(title="Formats of tpubench import")
    for heading in ("format", "files"):
        table.add_column(heading)
    for name, title in formats.items():
        table.add_row(name, escape(title))
    console().print(table)


def show(report: ImportReport, *, as_json: bool) -> None:
    """What was imported, what was left out and why, and what is still to be stated."""
    for note in report.notes:
        plain_text.note(note)
    if as_json:
        print_json(
            {
                "run_id": report.run_id,
                "store": None if report.store is None else str(report.store),
                "rows": records(report.rows),
                "rejected": [{"where": r.where, "reason": r.reason} for r in report.rejected],
                "already": [str(path) for path in report.already],
                "notes": report.notes,
            }
        )
        return
    out = console()
    if report.rows:
        out.print(_table(report.rows))
    for one in report.rejected[:_SHOWN]:
        out.print(f"left out: {one.where}: {one.reason}", markup=False, soft_wrap=True)
    kinds = Counter(one.reason for one in report.rejected[_SHOWN:])
    for reason, count in kinds.most_common(_SHOWN):
        out.print(f"left out: {count} more: {reason}", markup=False, soft_wrap=True)
    if kinds:
        out.print("--json names every part that was left out")
    for path in report.already:
        out.print(f"{path}: imported already, not stored again", markup=False, soft_wrap=True)
    if report.run_id is not None:
        out.print(
            f"run {report.run_id}: {plural(len(report.rows), 'figure')}, evidence published,"
            f" stored in {report.store}",
            markup=False,
            soft_wrap=True,
        )
    elif report.rows:
        out.print(f"{len(report.rows)} figures; nothing was stored")


def _table(rows: list[Row]) -> FoldingTable:
    table = FoldingTable(title="Imported")
    for heading in ("workload", "model", "device", "chips", "precision", "figures", "missing"):
        right = heading in {"chips", "figures", "missing"}
        table.add_column(heading, justify="right" if right else "left")
    kinds = Counter((r.workload, r.preset, r.device, r.chips, r.dtype) for r in rows)
    missing = Counter(
        (r.workload, r.preset, r.device, r.chips, r.dtype) for r in rows if r.value is None
    )
    shown = list(kinds)[:_SHOWN]
    for kind in shown:
        workload, preset, device, chips, dtype = kind
        table.add_row(
            escape(workload),
            escape(preset),
            escape(device),
            str(chips) if chips else "not stated",
            escape(dtype),
            str(kinds[kind] - missing[kind]),
            str(missing[kind]),
        )
    if len(kinds) > _SHOWN:
        rest = list(kinds)[_SHOWN:]
        table.add_row(
            f"{len(rest)} more kinds",
            "",
            "",
            "",
            "",
            str(sum(kinds[k] - missing[k] for k in rest)),
            str(sum(missing[k] for k in rest)),
        )
    return table
