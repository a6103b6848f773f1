"""Estimates and their validation on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from tpubench.reports import definitions, quantity
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import console, price_words, print_json, records
from tpubench.results.row import Row

MOST_GROUPS = 40
"""Lines of a table of groups; the rest is in ``--json``."""


def show(
    rows: Sequence[Row],
    notes: Sequence[str],
    store: Path | None,
    *,
    as_json: bool,
    explain: bool = False,
) -> None:
    """Rows of an estimate with their 90 % interval and what binds them."""
    by_run: dict[str, list[Row]] = {}
    for row in rows:
        by_run.setdefault(row.run_id, []).append(row)
    if as_json:
        document: dict[str, Any] = {"rows": records(rows), "notes": list(notes)}
        if store is not None and rows:
            document |= {"run_ids": list(by_run), "store": str(store)}
        print_json(document)
        return
    out = console()
    for note in notes:
        out.print(f"note: {note}", markup=False, soft_wrap=True, style="dim")
    for own in by_run.values():
        out.print(_table(own))
    for words in dict.fromkeys(filter(None, map(price_words, rows))):
        out.print(words, markup=False, soft_wrap=True)
    definitions.show(out, rows, explain=explain)
    if store is not None and rows:
        out.print(f"run {', '.join(by_run)} is stored in {store}", markup=False, soft_wrap=True)


def _table(rows: Sequence[Row]) -> FoldingTable:
    """The figures of one device."""
    first = rows[0]
    plural = "s" * (first.chips > 1)
    table = FoldingTable(
        title=f"{first.workload} {first.preset} on {first.chips} {first.device} chip{plural}"
        f" ({first.evidence})"
    )
    for heading in ("case", "metric", "estimate", "90 % interval", "bound by"):
        right = heading == "estimate"
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading == "metric")
    last = None
    for row in rows:
        case, *cells = map(escape, _cells(row))
        table.add_row("" if case == last else case, *cells)
        last = case
    return table


def _cells(row: Row) -> tuple[str, ...]:
    params = json.loads(row.params)
    hidden = {"seed", "software"}
    case = " ".join(f"{k}={v}" for k, v in params.items() if k not in hidden)
    estimate = json.loads(row.environment).get("estimate", {})
    if row.value is None:
        return case, row.metric, quantity.MISSING, row.reason or "", ""
    low, high = estimate.get("low_90"), estimate.get("high_90")
    between = ""
    if low is not None and high is not None:
        between = f"{quantity.quantity(low, row.unit)} … {quantity.quantity(high, row.unit)}"
    bound = str(estimate.get("bound", ""))
    return case, row.metric, quantity.quantity(row.value, row.unit), between, bound


def show_validation(validation: Mapping[str, Any], *, as_json: bool) -> None:
    """Errors of a validation: overall, by device, source and kind, and what was left out."""
    if as_json:
        print_json(validation)
        return
    out = console()
    used, total = validation["rows_used"], validation["rows_total"]
    share = 100 * used / total if total else 0.0
    out.print(
        f"{validation['file']}: {used} of {total} rows used ({share:.0f} %),"
        f" {validation['rows_skipped']} skipped, {validation['rows_implausible']} implausible;"
        f" fit {validation['fit']}",
        markup=False,
        soft_wrap=True,
    )
    seen = validation["rows_of_fitted_sources"]
    if seen:
        out.print(
            f"note: {seen} rows are of sources that the fit has seen: their error says how well it"
            " fits, not how well it predicts (docs/estimate-accuracy.md)",
            markup=False,
            soft_wrap=True,
        )
    overall = {
        "rows": used,
        "median_abs_pct_err": validation["median_abs_pct_err"],
        "p90_abs_pct_err": validation["p90_abs_pct_err"],
        "coverage_90": validation["coverage_90"],
    }
    if used:
        out.print(_groups("all rows", {"all": overall}))
        for what in ("device", "source", "kind"):
            out.print(_groups(f"by {what}", validation[f"by_{what}"]))
    for question, order in (("faster per chip", "faster"), ("cheaper at list prices", "cheaper")):
        pairs = validation["pairs"][order]
        if pairs["pairs"]:
            out.print(
                f"{question}: named rightly in {pairs['right']} of {pairs['pairs']} TPU–GPU pairs"
                f" ({100 * pairs['share']:.1f} %)"
            )
        else:
            out.print(f"{question}: no TPU–GPU pair of comparable rows")
    for reason, count in sorted(validation["skipped"].items(), key=lambda item: -item[1]):
        out.print(f"skipped {count}: {reason}", markup=False, soft_wrap=True)
    for flagged in validation["implausible"][:MOST_GROUPS]:
        out.print(
            f"implausible, line {flagged['line']} ({flagged['source']}): {flagged['reason']}",
            markup=False,
            soft_wrap=True,
        )


def _groups(title: str, groups: Mapping[str, Mapping[str, float]]) -> FoldingTable:
    table = FoldingTable(title=title)
    table.add_column(title.removeprefix("by "))
    for heading in ("rows", "median error", "90th percentile", "in the 90 % interval"):
        table.add_column(heading, justify="right")
    for name, group in list(groups.items())[:MOST_GROUPS]:
        table.add_row(
            escape(name),
            str(group["rows"]),
            f"{group['median_abs_pct_err']:.1f} %",
            f"{group['p90_abs_pct_err']:.1f} %",
            f"{100 * group['coverage_90']:.0f} %",
        )
    return table
