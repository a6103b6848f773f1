"""What ``tpubench report`` does and prints: the files, then what the first screen says."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tpubench.costs.allocation.answer import allocate
from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.prices import Price, today
from tpubench.errors import UsageError
from tpubench.reports import page, plan_words
from tpubench.reports.answers.settings import parse
from tpubench.reports.terminal import console, print_json, warn_unreadable
from tpubench.reports.terminal_answers import show_answers
from tpubench.reports.terminal_plan import narrow, say
from tpubench.results import plain_text
from tpubench.results.select import select_for_report
from tpubench.results.store import default_store


def facts(
    selectors: Sequence[str],
    table: dict[str, Price],
    store: Path | None,
    out: Path,
    settings: Sequence[str],
    *,
    pngs: bool,
    as_json: bool,
) -> Path:
    """Write the page of stored facts and print its first screen; the page's path."""
    turned = parse(settings)
    found, note = select_for_report(store, selectors)
    warn_unreadable(found.unreadable)
    if note is not None:
        plain_text.note(note)
    written = page.write(
        with_list_prices(found, table), out, table=table, settings=turned, pngs=pngs
    )
    if as_json:
        paths = [str(path) for path in written.paths]
        print_json({"written": paths, "answers": written.answers.to_json()})
    else:
        for path in written.paths:
            print(path)
        show_answers(_out(), written.answers)
    return written.paths[0]


def plan(
    path: Path,
    selectors: Sequence[str],
    table: dict[str, Price],
    store: Path | None,
    out: Path,
    settings: Sequence[str],
    *,
    as_json: bool,
) -> Path:
    """Solve the plan, write its page and print its verdict; the page's path."""
    if selectors:
        raise UsageError("--plan takes its facts from the plan: leave the selectors out")
    answer = allocate(path, table, store or default_store(), today(), settings=settings)
    written = page.write_plan(answer, out)
    if as_json:
        print_json({"written": [str(one) for one in written], "plan": answer.to_json()})
    else:
        for one in written:
            print(one)
        terminal = _out()
        for sentence in plan_words.answer(answer.verdict):
            say(terminal, sentence.text, bold=sentence.strong)
    return written[0]


def _out() -> Console:
    return console() if sys.stdout.isatty() else narrow()
