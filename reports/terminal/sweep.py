"""A sweep on a terminal: its cells, what each will take or took; one JSON document with --json."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from tpubench.reports.console import console
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import print_json
from tpubench.results.plain_text import plain
from tpubench.results.sweep_report import CellReport, SweepReport, Watch

_STYLE = {"failed": "red", "refused": "red", "ran": "green", "done": "green"}


def watcher(*, show: bool) -> Watch:
    """Prints a line when a cell begins, and one when it has ended badly."""

    def watch(entry: CellReport, number: int, total: int, left_s: float | None) -> None:
        if not show:
            return
        ended = entry.took_s is not None
        if ended and entry.state == "ran":
            return
        words = f"{entry.state}: {entry.reason}" if ended else "begins"
        left = f" · {duration(left_s)} left" if left_s and not ended else ""
        text = f"cell {number}/{total} {entry.id} {entry.label}: {words}{left}"
        print(plain(text), file=sys.stderr, flush=True)

    return watch


def show(report: SweepReport, *, as_json: bool, planned: bool) -> None:
    """Every cell and its state, and how many there are of each."""
    if as_json:
        print_json(_document(report))
        return
    out = console()
    table = FoldingTable(title=escape(f"sweep {report.name} · {report.store}"))
    table.add_column("cell", no_wrap=True)
    table.add_column("what")
    table.add_column("state", no_wrap=True)
    table.add_column("expected" if planned else "took", justify="right", no_wrap=True)
    table.add_column("memory", justify="right", no_wrap=True)
    priced = any(entry.usd is not None for entry in report.entries)
    if priced:
        table.add_column("$", justify="right", no_wrap=True)
    for entry in report.entries:
        style = _STYLE.get(entry.state)
        state = f"[{style}]{entry.state}[/]" if style else entry.state
        table.add_row(
            entry.id,
            escape(entry.label),
            state,
            _expected(entry) if planned else duration(entry.took_s),
            "–" if entry.needed_bytes is None else f"{entry.needed_bytes / 1e9:.3g} GB",
            *([_usd(entry.usd)] if priced else []),
        )
    out.print(table)
    for entry in report.entries:
        if entry.reason:
            out.print(f"{entry.id} {entry.state}: {entry.reason}", markup=False, soft_wrap=True)
    out.print(_summary(report, planned=planned), markup=False, soft_wrap=True)
    if report.cut_short:
        out.print(f"{report.cut_short}; --resume goes on", markup=False, soft_wrap=True)


def show_written(paths: Sequence[Path], left: Sequence[CellReport], *, as_json: bool) -> None:
    """What to submit, and which cells are not in it."""
    if as_json:
        print_json(
            {
                "files": [str(path) for path in paths],
                "left_out": {e.id: e.reason or e.state for e in left},
            }
        )
        return
    for path in paths:
        print(path)
    for entry in left:
        print(plain(f"not in it: {entry.id} {entry.label}: {entry.reason or entry.state}"))


def duration(seconds: float | None) -> str:
    """``40 s``, ``12 min``, ``3.5 h``."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _expected(entry: CellReport) -> str:
    if entry.expected_s is None or not entry.to_run:
        return "–"
    at_least = "≥ " if entry.basis == "at least" else ""
    return f"{at_least}{duration(entry.expected_s)}"


def _usd(usd: float | None) -> str:
    return "–" if usd is None else f"{usd:.2f}"


def _summary(report: SweepReport, *, planned: bool) -> str:
    counts = Counter(entry.state for entry in report.entries)
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    text = f"{len(report.entries)} cells: {said}"
    missing = [entry for entry in report.entries if entry.to_run]
    if planned and missing:
        seconds = [entry.expected_s for entry in missing if entry.expected_s is not None]
        least = any(entry.basis == "at least" for entry in missing)
        if seconds:
            text += f"; {'at least ' if least else 'about '}{duration(sum(seconds))}"
        if any(entry.usd is not None for entry in missing):
            text += f" and $ {sum(entry.usd or 0.0 for entry in missing):.2f}"
            text += " (list prices)" if any(entry.at_list_price for entry in missing) else ""
    return text


def _document(report: SweepReport) -> dict[str, Any]:
    return {
        "name": report.name,
        "store": str(report.store),
        "cut_short": report.cut_short,
        "cells": [
            {
                "id": entry.id,
                "label": entry.label,
                "command": entry.command,
                "state": entry.state,
                "reason": entry.reason,
                "missing_repetitions": entry.missing,
                "expected_s": entry.expected_s,
                "expected_from": entry.basis,
                "needed_bytes_per_chip": entry.needed_bytes,
                "usd": entry.usd,
                "at_list_price": entry.at_list_price,
                "run_id": entry.run_id,
                "took_s": entry.took_s,
            }
            for entry in report.entries
        ],
    }
