"""Files from anybody, read with care: bounded, checked, and every complaint names its place.

A :class:`Node` is a value in a JSON document that knows its file and its path in it. Asking for a
number that is text, negative or absurd is a UsageError of one line; a number that the file leaves
out, or writes as null, NaN or Infinity, is None.
"""

from __future__ import annotations

import datetime as dt
import functools
import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError

MAX_BYTES = 32 << 20
"""Parsed JSON takes up to some 25 times its size; real result files are far smaller."""
MAX_FILES = 20_000
"""Files of a results tree that are looked at."""
MAX_DEPTH = 24
LARGEST = 1e18
"""No count, rate or time in a result file is near it."""
SHOWN = 200


def read_text(path: Path) -> str:
    """The file's text; UsageError when it is absent, no plain file, too large or not UTF-8."""
    try:
        # Opening a pipe would wait for its writer for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"cannot read {path}: it is not a plain file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a usable path"
        raise UsageError(f"cannot read {path}: {why}") from None
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: more than {MAX_BYTES / 1e6:.0f} MB, not read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_json(path: Path) -> Node:
    """The document's root; UsageError when it is not JSON, or names a key twice in one object."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return parse(read_text(path), path)
    document = _read_once(path, state.st_mtime_ns, state.st_size)
    if isinstance(document, UsageError):
        raise document
    return document


@functools.lru_cache(maxsize=1)
def _read_once(path: Path, changed_ns: int, size: int) -> Node | UsageError:
    """A file is parsed once, however many formats ask whether it is theirs."""
    try:
        return parse(read_text(path), path)
    except UsageError as error:
        return error


def parse(text: str, path: Path, where: str = "") -> Node:
    """JSON text found at ``where`` in ``path``; UsageError, naming both, when it is none."""
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise UsageError(f"{_place(path, where)} is not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{_place(path, where)} is not valid JSON: {one_line(error)}") from None
    return Node(path=path, where=where, value=value)


def plain_files(root: Path, name: str) -> Iterator[Path]:
    """Files called ``name`` under ``root`` in order; links are not followed, out or round.

    UsageError beyond :data:`MAX_FILES` files or :data:`MAX_DEPTH` folders deep.
    """
    seen = 0
    for folder, folders, files in os.walk(root, followlinks=False):
        depth = len(Path(folder).relative_to(root).parts)
        if depth > MAX_DEPTH:
            raise UsageError(f"{root}: folders more than {MAX_DEPTH} deep, not read")
        folders.sort()
        seen += len(files)
        if seen > MAX_FILES:
            raise UsageError(f"{root}: more than {MAX_FILES:,} files; name a folder inside it")
        path = Path(folder, name)
        if name in files and not path.is_symlink():
            yield path


def one_line(text: object) -> str:
    """Text for a message: one line, printable, of bounded length."""
    line = " ".join(str(text).split())
    return "".join(c if c.isprintable() else "?" for c in line)[:SHOWN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value of a JSON document and where it stands. A missing key gives a Node of None."""

    path: Path
    where: str
    value: Any

    def __getitem__(self, key: str) -> Node:
        """The entry of that key; UsageError when this is neither an object nor missing."""
        inner = f"{self.where}.{key}" if self.where else key
        if self.value is None:
            return Node(path=self.path, where=inner, value=None)
        if not isinstance(self.value, dict):
            raise self.error("is not an object")
        return Node(path=self.path, where=inner, value=self.value.get(key))

    def first(self, *keys: str) -> Node:
        """The first of these entries that is there."""
        nodes = [self[key] for key in keys]
        return next((node for node in nodes if node.value is not None), nodes[0])

    def items(self) -> list[Node]:
        """The elements of a list (none when it is missing); UsageError when it is none."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error("is not a list")
        return [
            Node(path=self.path, where=f"{self.where}[{i}]", value=v)
            for i, v in enumerate(self.value)
        ]

    def entries(self) -> list[Node]:
        """The values of an object (none when it is missing); UsageError when it is none."""
        if self.value is None:
            return []
        if not isinstance(self.value, dict):
            raise self.error("is not an object")
        return [self[key] for key in self.value]

    def text(self) -> str | None:
        """A text on one line; None when missing or empty."""
        if self.value is None:
            return None
        if not isinstance(self.value, str):
            raise self.error("is not a text")
        return one_line(self.value) or None

    def number(self, scale: float = 1.0) -> float | None:
        """A number of at least zero times ``scale``; None when missing or not finite."""
        value = self.value
        if isinstance(value, str) and value.lower() in {"", "nan", "inf", "-inf", "infinity"}:
            return None
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error("is not a number")
        if value < 0:
            raise self.error("is negative")
        if value > LARGEST:
            raise self.error("is beyond all reason")
        return float(value) * scale

    def count(self) -> int | None:
        """A whole number of at least zero, also where it is written as text or as 8.0."""
        value = self.value
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
            return int(value.strip()[:18])
        number = self.number()
        if number is None:
            return None
        if number != int(number):
            raise self.error("is not a whole number")
        return int(number)

    def numbers(self, scale: float = 1.0) -> tuple[float, ...]:
        """A list of numbers times ``scale``, those that are missing or not finite left out."""
        numbers = [node.number(scale) for node in self.items()]
        return tuple(number for number in numbers if number is not None)

    def time(self) -> dt.datetime | None:
        """A moment (UTC): seconds since 1970, ISO text, or ``YYYYMMDD-HHMMSS``; None if unclear."""
        value = self.value
        try:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return dt.datetime.fromtimestamp(value, tz=dt.UTC)
            if isinstance(value, str) and len(value) == 15:
                return dt.datetime.strptime(value, "%Y%m%d-%H%M%S").replace(tzinfo=dt.UTC)
            if isinstance(value, str):
                time = dt.datetime.fromisoformat(value)
                return time if time.tzinfo else time.replace(tzinfo=dt.UTC)
        except (ValueError, OverflowError, OSError):
            return None
        return None

    def error(self, what: str) -> UsageError:
        """The complaint that this value ``what``."""
        return UsageError(f"{_place(self.path, self.where)} {what}")


def _place(path: Path, where: str) -> str:
    return f"{path}: {one_line(where)}" if where else str(path)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in members if names.count(name) > 1)
        raise ValueError(f"key {one_line(twice)!r} appears twice in one object")
    return members
