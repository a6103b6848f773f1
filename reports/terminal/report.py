"""What ``tpubench report`` does and prints: the files, then what the first screen says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tpubench.costs.allocation.answer import PlanAnswer, allocate
from tpubench.costs.allocation.stored import newest
from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.prices import Price, today
from tpubench.errors import UsageError
from tpubench.reports import page, plan_words
from tpubench.reports.answers.settings import parse
from tpubench.reports.terminal import console, print_json, warn_unreadable
from tpubench.reports.terminal.answers import show_answers
from tpubench.reports.terminal.narrow import narrow, say
from tpubench.results.listing import files
from tpubench.results.plain_text import warn
from tpubench.results.select import select_for_report
from tpubench.results.store import default_store


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What the command line asks of a report."""

    selectors: Sequence[str]
    table: dict[str, Price]
    store: Path | None
    out: Path
    settings: Sequence[str]
    formats: Sequence[str]
    pngs: bool
    as_json: bool


def facts(asked: ReportOptions) -> Path:
    """Write the report of stored facts and print its first screen; the path of its first file."""
    turned = parse(asked.settings)
    folder = asked.store or default_store()
    kept, complaints = newest(folder)
    for complaint in complaints:
        warn(f"left out: {complaint}")
    if kept is not None and not asked.selectors and not files(folder):
        return _show_plan(kept, asked)
    scan, note = select_for_report(asked.store, asked.selectors)
    warn_unreadable(scan.unreadable)
    if note is not None:
        print(f"tpubench: note: {note}", file=sys.stderr)
    written = page.write(
        with_list_prices(scan, asked.table),
        asked.out,
        table=asked.table,
        settings=turned,
        pngs=asked.pngs,
        formats=asked.formats,
        plan=kept,
    )
    if asked.as_json:
        paths = [str(path) for path in written.paths]
        plan_too = {} if kept is None else {"plan": kept.to_json()}
        print_json({"written": paths, "answers": written.answers.to_json()} | plan_too)
    else:
        for path in written.paths:
            print(path)
        show_answers(_out(), written.answers)
        if kept is not None:
            _say_plan(kept)
    return written.paths[0]


def plan(path: Path, asked: ReportOptions) -> Path:
    """Solve the plan, write its report and print its verdict; the path of its first file.

    UsageError with selectors, or for a plan that cannot be read or solved.
    """
    if asked.selectors:
        raise UsageError("--plan takes its facts from the plan: leave the selectors out")
    folder = asked.store or default_store()
    return _show_plan(allocate(path, asked.table, folder, today(), settings=asked.settings), asked)


def _show_plan(answer: PlanAnswer, asked: ReportOptions) -> Path:
    written = page.write_plan(answer, asked.out, pngs=asked.pngs, formats=asked.formats)
    if asked.as_json:
        print_json({"written": [str(one) for one in written], "plan": answer.to_json()})
    else:
        for one in written:
            print(one)
        _say_plan(answer)
    return written[0]


def _say_plan(answer: PlanAnswer) -> None:
    terminal = _out()
    say(terminal, answer.name, bold=True)
    for sentence in plan_words.answer(answer.verdict):
        say(terminal, sentence.text, bold=sentence.strong)


def _out() -> Console:
    return console() if sys.stdout.isatty() else narrow()
