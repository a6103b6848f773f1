"""Text and tables for 80 columns: where years do not fit side by side they go on below."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape

from tpubench.reports.tables import FoldingTable

WIDTH = 80


def narrow() -> Console:
    """Plain text of 80 columns."""
    return Console(width=WIDTH, no_color=True, highlight=False, emoji=False)


def say(out: Console, text: str, *, bold: bool = False) -> None:
    """A line as it is, wrapped between words."""
    out.print(text, markup=False, style="bold" if bold else None)


def table(title: str, left: Sequence[str], right: Sequence[str]) -> FoldingTable:
    """A table whose figures on the right are never cut: words on the left fold instead."""
    grid = FoldingTable(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in left:
        grid.add_column(heading)
    for heading in right:
        grid.add_column(heading, justify="right", no_wrap=True)
    return grid


def by_year(
    out: Console,
    title: str,
    left: Sequence[str],
    years: Sequence[int],
    rows: Mapping[tuple[str, ...], Mapping[int, str]],
) -> None:
    """A table of years, continued below where they do not fit beside each other."""
    words = [
        max([len(left[i])] + [len(key[i]) for key in rows], default=0) for i in range(len(left))
    ]
    room = min(out.width, WIDTH) if not sys.stdout.isatty() else out.width
    room -= sum(min(w, 24) + 3 for w in words)
    widths = [
        max([len(str(year))] + [len(part) for row in rows.values() for part in [row.get(year, "")]])
        for year in years
    ]
    start = 0
    while start < len(years):
        end, used = start, 0
        while end < len(years) and (end == start or used + widths[end] + 3 <= room):
            used += widths[end] + 3
            end += 1
        shown = years[start:end]
        part = table(title if start == 0 else f"{title}, continued", left, [*map(str, shown)])
        for key, row in rows.items():
            if any(row.get(year) for year in shown):
                part.add_row(*map(escape, key), *(row.get(year, "") for year in shown))
        out.print(part)
        start = end
