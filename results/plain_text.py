"""Text that somebody else wrote, as it may stand on a terminal, in a line, in a table of cells.

A terminal obeys what it is sent: a stored name may clear the screen, rename the window or hide the
line above it. So whatever is printed goes through here, at the few places that print.
"""

from __future__ import annotations

import re
import sys

_UNSEEN_CLASS = (
    # Controls, lone surrogates, marks that reorder text, line separators, non-characters.
    "\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"
    "\\ufeff\\ufffe\\uffff"
)
_UNSEEN = re.compile(f"[{_UNSEEN_CLASS}]")
_UNSEEN_BUT_LINES = re.compile(f"(?![\\n\\t])[{_UNSEEN_CLASS}]")
_SPACES = re.compile(r"\s+")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")  # the last four are full-width


def plain(text: str) -> str:
    """``text`` without characters that are unseen or reorder what is around them; lines stay."""
    return _UNSEEN_BUT_LINES.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """``text`` on one line, without such characters."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", _SPACES.sub(" ", text)).strip()


def plural(count: int, word: str) -> str:
    """``1 repetition``, ``3 repetitions``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def json_text(document: str) -> str:
    """A JSON document whose strings hold such characters as escapes only."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


def cell(text: str) -> str:
    """``text`` as a spreadsheet shows it, never taking it for a formula."""
    return f"'{plain(text)}" if text.startswith(_FORMULA) else plain(text)


def warn(text: str) -> None:
    """A warning on standard error: one line."""
    print(f"tpubench: warning: {one_line(text)}", file=sys.stderr)


def note(text: str) -> None:
    """A remark on standard error: one line."""
    print(f"tpubench: note: {one_line(text)}", file=sys.stderr)
