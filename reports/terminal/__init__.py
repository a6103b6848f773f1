"""Tables for a terminal, plain stable text elsewhere, one JSON document with ``--json``."""

from __future__ import annotations

import csv
import json
import os
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from tpubench.devices.prices import stale_on, today
from tpubench.reports import context_lines, definitions, quantity, time_spent
from tpubench.reports.console import console as console
from tpubench.reports.console import next_step
from tpubench.reports.row_json import cells, json_value
from tpubench.reports.row_json import records as records
from tpubench.reports.tables import FoldingTable
from tpubench.results import plain_text
from tpubench.results.calibration import is_calibration, results_of
from tpubench.results.events import RunReport
from tpubench.results.metrics import METRICS
from tpubench.results.own_metrics import of_row
from tpubench.results.plain_text import cell, json_text, plural
from tpubench.results.row import COLUMNS, Row
from tpubench.results.store import Scan, Unreadable, iter_rows
from tpubench.results.summary import IMPORTED, Summary, summarise

if TYPE_CHECKING:
    from pathlib import Path


CASES_A_TABLE = 4
"""Cases shown side by side; more go into further tables."""


def print_json(document: Any) -> None:
    """One JSON document on standard output, and nothing else there."""
    text = json.dumps(document, default=json_value, ensure_ascii=False, allow_nan=False)
    print(json_text(text))


def show_plan(plan: Mapping[str, Any], *, as_json: bool) -> None:
    """What would run."""
    if as_json:
        print_json(plan)
        return
    out = console()
    _notes(out, plan["notes"])
    table = FoldingTable(title=f"{plan['workload']} on {plan['backend']} ({plan['compile_mode']})")
    for heading in ("case", "preset", "FLOPs a pass", "bytes a pass", "items a pass"):
        table.add_column(heading)
    for case in (*plan["limits"], *plan["cases"]):
        table.add_row(
            escape(f"{case['workload']} {_label(case['params'])}"),
            escape(case["preset"]),
            quantity.quantity(case["flops_per_pass"], "FLOP/s").removesuffix("/s"),
            quantity.quantity(case["bytes_per_pass"], "byte"),
            f"{case['items_per_pass']:,} {case['unit']}",
        )
    out.print(table)
    out.print(f"{plan['repeats']} repetitions of each case; nothing was run")


def show_run(report: RunReport, *, as_json: bool, explain: bool = False) -> None:
    """What was measured, and where it is; ``explain``: and how each figure is defined."""
    if as_json:
        document: dict[str, Any] = {
            "run_id": report.run_id,
            "store": str(report.store),
            "rows": records(report.rows),
        }
        if report.cut_short is not None:
            document["cut_short"] = report.cut_short
        if report.generated is not None:
            document["generated"] = {"ids": report.generated.ids, "text": report.generated.text}
        print_json(document)
        return
    out = console()
    _notes(out, report.notes)
    _tables(out, report.rows, {"store": report.store_s}, explain=explain)
    if report.generated is not None:
        text = report.generated.text
        out.print("generated:", markup=False, style="bold")
        out.print(str(report.generated.ids) if text is None else text, markup=False)
    out.print(f"run {report.run_id} is stored in {report.store}", markup=False, soft_wrap=True)
    next_step(out, "report", report.store, "HTML page and charts")


def show_rows(scan: Scan, *, as_json: bool, as_csv: bool, explain: bool = False) -> None:
    """Stored rows as tables, JSON or CSV; files that could not be read are named on stderr."""
    warn_unreadable(scan.unreadable)
    rows = list(iter_rows(scan.table))
    if as_json:
        print_json(records(rows))
    elif as_csv:
        _csv(rows)
    elif rows:
        _tables(console(), rows, explain=explain)
    else:
        console().print("no rows match")


_HEADINGS = {
    "bf16_tflop_s": "bf16 TFLOP/s",
    "hbm_gb": "HBM GB",
    "hbm_gb_s": "HBM GB/s",
    "tdp_w": "TDP W",
}
"""Headings of columns whose names hold a unit."""


def show_catalogue(title: str, listed: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """A list of like records."""
    if as_json:
        print_json(list(listed))
        return
    table = FoldingTable(title=title)
    for heading in listed[0]:
        table.add_column(_HEADINGS.get(heading, heading.replace("_", " ")))
    for record in listed:
        table.add_row(*(quantity.MISSING if v is None else escape(str(v)) for v in record.values()))
    console().print(table)


def show_doctor(examination: Mapping[str, Any], *, as_json: bool) -> None:
    """What this machine can run."""
    if as_json:
        print_json(examination)
        return
    out = console()
    host = examination["host"]
    out.print(
        f"{host['cpu_model']}, {plural(host['usable_cores'], 'core')},"
        f" {host['memory_bytes'] / 2**30:.0f} GiB; Python {examination['python']}",
        markup=False,
    )
    for finding in examination["findings"]:
        state = "ready  " if finding["available"] else "missing"
        fix = f"\n          try: {finding['fix']}" if finding["fix"] else ""
        out.print(f"{state} {finding['backend']}: {finding['detail']}{fix}", markup=False)
    for name, version in examination["packages"].items():
        out.print(f"{'ready  ' if version else 'missing'} {name} {version or ''}", markup=False)
    sizes = [f"{name} {held / 1e6:,.1f} MB" for name, held in examination["cache_bytes"].items()]
    held = f": {', '.join(sizes)}; each may be deleted" if sizes else ""
    where = examination["cache"] or "none, for want of a home folder"
    out.print(f"caches  {where}{held}", markup=False)


def open_page(path: Path) -> None:
    """Show a page in the user's browser; nothing happens where there is no screen."""
    if sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        webbrowser.open(path.resolve().as_uri())


def warn_unreadable(unreadable: Sequence[Unreadable]) -> None:
    """Name on stderr what was left out."""
    warn(list(dict.fromkeys(f"left out: {bad.error}" for bad in unreadable)))


def warn(lines: Sequence[str]) -> None:
    """What a user should know besides the answer, on stderr."""
    for line in lines:
        plain_text.warn(line)


def _tables(
    out: Console,
    rows: Sequence[Row],
    also_s: Mapping[str, float] | None = None,
    *,
    explain: bool,
) -> None:
    """also_s: seconds that a run spent outside of its children."""
    everything, rows = rows, results_of(rows)
    groups: dict[tuple[object, ...], list[Summary]] = {}
    for summary in summarise(rows):
        groups.setdefault(_table_key(summary.first), []).append(summary)
    used: set[str] = set()
    for summaries in groups.values():
        by_case: dict[str, list[Summary]] = {}
        for summary in summaries:
            by_case.setdefault(summary.first.params, []).append(summary)
        cases = list(by_case)
        for start in range(0, len(cases), CASES_A_TABLE):
            chunk = cases[start : start + CASES_A_TABLE]
            shown = [summary for case in chunk for summary in by_case[case]]
            _table(out, chunk, shown)
            used |= set(_metrics_shown(shown))
    context = [row for row in everything if is_calibration(row)] if rows != everything else []
    if peaks := context_lines.peaks(context):
        out.print(peaks, markup=False, soft_wrap=True, style="dim")
    for line in time_spent.lines(everything, also_s):
        out.print(line, markup=False, style="dim")
    if any(s.estimate and quantity.useless(s.estimate) for shown in groups.values() for s in shown):
        out.print(
            f"Unusable: the 95 % interval exceeds a factor of {quantity.USELESS};"
            " more repetitions narrow it where it was measured.",
            style="dim",
        )
    also = ["Values: geometric mean of repetitions [95 % interval between them]."]
    if any(summary.estimated for shown in groups.values() for summary in shown):
        also.append("Estimated: the estimate [95 % interval of the model, where there is one].")
    shown_rows = (row for row in rows if row.metric in used)
    definitions.show(out, shown_rows, explain=explain, also=also)


def _table_key(row: Row) -> tuple[object, ...]:
    """What a title says of all its cells: with less, one case's figure would hide another's."""
    # A repetition that died may not know its device; an imported result always does.
    device = row.device if row.backend == IMPORTED else None
    return (row.run_id, row.workload, row.preset, row.evidence, device, row.chips, row.dtype)


def _table(out: Console, cases: Sequence[str], summaries: Sequence[Summary]) -> None:
    first = summaries[0].first
    known = [summary.first.device for summary in summaries if summary.first.status == "ok"]
    title = f"{first.workload} {first.preset} {first.dtype} on {(known or [first.device])[0]}"
    if first.chips != 1:
        title += f", {first.chips} chips" if first.chips else ", chips not stated"
    # Not as the table's title: that would break over lines where the table is narrow.
    title = f"{title} · {first.evidence} · run {first.run_id}"
    out.print(title, markup=False, soft_wrap=True, style="italic")
    table = FoldingTable()
    table.add_column("metric", no_wrap=True)
    by_cell = {(s.first.params, s.first.metric): s for s in summaries}
    for case in cases:
        sample = next(s for s in summaries if s.first.params == case)
        count = max(len(s.rows) for s in summaries if s.first.params == case)
        times = first.evidence if sample.estimated else f"{count} repetition{'s' * (count > 1)}"
        table.add_column(escape(f"{sample.label()}\n{times}"), justify="right")
    notes: list[str] = []
    for metric in _metrics_shown(summaries):
        cells = [_cell(by_cell.get((case, metric)), notes) for case in cases]
        table.add_row(metric, *cells)
    out.print(table)
    for index, note in enumerate(notes, 1):
        out.print(f"({index}) {note}", markup=False, soft_wrap=True)
    for note in context_lines.unsteady(cases, summaries):
        out.print(note, markup=False, soft_wrap=True, style="yellow")


def _metrics_shown(summaries: Sequence[Summary]) -> list[str]:
    """Metrics in their order; on one chip, a figure per chip would only repeat what is there."""
    present = {s.first.metric: of_row(s.first) for s in summaries}
    one_chip = all(s.first.chips == 1 for s in summaries)
    own = [name for name in present if name not in METRICS]
    return [
        name
        for name in (*METRICS, *own)
        if name in present and not (one_chip and present[name].per_chip_of in present)
    ]


def _cell(summary: Summary | None, notes: list[str]) -> str:
    if summary is None:
        return quantity.MISSING
    text = quantity.estimate(summary.estimate, summary.first.unit)
    reasons = list(dict.fromkeys(row.reason for row in summary.rows if row.reason))
    if summary.estimate is not None and (price := price_words(summary.first)):
        reasons.append(price)
    for reason in reasons:
        if reason not in notes:
            notes.append(reason)
        text += f" ({notes.index(reason) + 1})"
    return escape(text)


def price_words(row: Row) -> str | None:
    """The price behind a $ figure, in words; None for any other figure."""
    if row.usd_per_chip_hour is None or of_row(row).usd_of is None:
        return None
    dated = f", of {row.price_as_of}" if row.price_as_of else ""
    stale = ", stale" if stale_on(row.price_as_of, today()) else ""
    return f"price: {row.price_id}, {row.usd_per_chip_hour:g} $ per chip-hour{dated}{stale}"


def _notes(out: Console, notes: Sequence[str]) -> None:
    for note in notes:
        out.print(note, markup=False, soft_wrap=True)


def _label(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in params.items())


def _csv(rows: Sequence[Row]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_csv_cell(value) for value in cells(row).values()])


def _csv_cell(value: Any) -> Any:
    """A cell that a spreadsheet will not take for a formula."""
    if isinstance(value, list):
        return json.dumps(value)
    return cell(value) if isinstance(value, str) else value
