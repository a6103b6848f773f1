"""Files that a user hands over: bounded reading, and TOML checked against a model.

Every complaint is one line that names file, key and reason.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tpubench.errors import UsageError

MAX_BYTES = 2 << 20
"""Nobody writes more than this by hand; parsing much more could take the machine down."""

MAX_DOTS = 300
"""Dots in a line: reading a key of n parts takes time in n²."""

SHOWN_ERRORS = 3

LEAST = 1e-15
"""Smallest number above zero that is believed; quotients of smaller ones overflow."""


class Checked(BaseModel):
    """Base of every table of such a file: no unknown keys, no silent conversion, no NaN."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True
    )


Model = TypeVar("Model", bound=Checked)


def read_text(path: Path, max_bytes: int) -> str:
    """The file's text; UsageError when it is absent, larger than ``max_bytes`` or not UTF-8."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise UsageError(
                f"{path} is {size / 1e6:.0f} MB; files above {max_bytes / 1e6:.0f} MB are not read"
            )
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if len(data) > max_bytes:
        raise UsageError(f"{path}: more than {max_bytes / 1e6:.0f} MB, not read")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_toml(path: Path, model: type[Model]) -> Model:
    """The file as ``model``; UsageError with file, key and reason when it is not one."""
    text = read_text(path, MAX_BYTES)
    if any(line.count(".") > MAX_DOTS for line in text.splitlines()):
        raise UsageError(f"{path}: a line with more than {MAX_DOTS} dots, not read")
    try:
        content = tomllib.loads(text)
    except RecursionError:
        raise UsageError(f"{path} is not valid TOML: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {_line(str(error))}") from None
    for key, number in _tiny(content):
        raise UsageError(f"{path}: {_key(key)}: {number:g} is neither zero nor at least {LEAST:g}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(path, error)) from None


def explain(path: Path, error: ValidationError) -> str:
    """One line for a failed check: the first complaints by key, and how many more there are."""
    complaints = [
        f"{_key(found['loc'])}: {_line(found['msg'].removeprefix('Value error, '))}"
        for found in error.errors(include_url=False, include_input=False)
    ]
    more = len(complaints) - SHOWN_ERRORS
    tail = f" (and {more} more)" if more > 0 else ""
    return f"{path}: {'; '.join(complaints[:SHOWN_ERRORS])}{tail}"


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


def _key(location: tuple[str | int, ...]) -> str:
    key = ""
    for part in location:
        key += f"[{part}]" if isinstance(part, int) else f".{_line(part)}" if key else _line(part)
    return key or "file"


def _line(text: str) -> str:
    one = " ".join(text.split())
    return "".join(character if character.isprintable() else "?" for character in one)[:300]
