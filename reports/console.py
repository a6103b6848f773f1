"""The console that tables and sentences are printed on: what is printed stays text."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tpubench.results.plain_text import plain
from tpubench.results.store import default_store


class PlainConsole(Console):
    """Styles come from us alone: escapes inside a text are shown, not obeyed.

    rich measures and draws every string through ``render_str``.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(plain(text), **options)


def console() -> Console:
    """Standard output: as wide as it needs to be where it is not a terminal."""
    if sys.stdout.isatty():
        return PlainConsole(emoji=False)
    return PlainConsole(width=200, no_color=True, highlight=False, emoji=False)


def error_console() -> Console:
    """Standard error."""
    return PlainConsole(stderr=True, emoji=False)


def next_step(out: Console, command: str, store: Path, purpose: str = "") -> None:
    """The command that goes on from here, as it can be typed: with its store, if not the usual."""
    named = "" if store == default_store() else f" --store {shlex.quote(str(store))}"
    why = f"    ({purpose})" if purpose else ""
    out.print(f"next: tpubench {command}{named}{why}", markup=False, soft_wrap=True, style="dim")
