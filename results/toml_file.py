"""Text and TOML that a user hands over: bounded, and every complaint one line with the file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results import regular_file

MAX_BYTES = 2 << 20
"""Nobody writes more than this by hand; parsing much more could take the machine down."""

MAX_DOTS = 300
"""Dots in a line: reading a key of n parts takes time in n²."""

LEAST = 1e-15
"""Smallest number above zero that is believed; quotients of smaller ones overflow."""


def read_text(path: Path, max_bytes: int) -> str:
    """The file's text; UsageError when it is absent, no regular file, larger than ``max_bytes`` or
    not UTF-8.
    """
    try:
        data = regular_file.read_bounded(path, max_bytes)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_document(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; UsageError with file and reason when it is none."""
    text = read_text(path, MAX_BYTES)
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise UsageError(f"{path}: a line with more than {MAX_DOTS} dots, not read")
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{path} is not valid TOML: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {printable(str(error))}") from None
    for key, number in _tiny(content):
        raise UsageError(
            f"{path}: {key_path(key)}: {number:g} is neither zero nor at least {LEAST:g}"
        )
    return content


def key_path(location: tuple[str | int, ...]) -> str:
    """``plan.price[3]`` for a place in a document."""
    key = ""
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        else:
            key += f".{printable(part)}" if key else printable(part)
    return key or "file"


def printable(text: str) -> str:
    """``text`` on one line of bounded length."""
    one = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in one)[:300]


def _tiny(content: object) -> Iterator[tuple[tuple[str | int, ...], float]]:
    """Numbers too close to zero to be meant, with their keys."""
    # Not recursive: dotted keys nest deeper than Python calls can.
    left: list[tuple[tuple[str | int, ...], object]] = [((), content)]
    while left:
        key, value = left.pop()
        if isinstance(value, float) and 0 < abs(value) < LEAST:
            yield key, value
        elif isinstance(value, dict):
            left += [((*key, name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            left += [((*key, index), inner) for index, inner in enumerate(value)]
