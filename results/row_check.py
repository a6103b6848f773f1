"""Whether the cells of a table are facts: what :class:`Row` demands, and no more than it can hold.

Column by column in Arrow, so that it costs no Python work a row. A writer asks before it stores, a
reader before it believes: nothing is written that would not be read again. No kernel is given a
Python value: pyarrow would import pandas to see whether it is one of its arrays.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from tpubench.results.row import Better, Evidence, Status, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa

LEAST, MOST = 1e-100, 1e100
"""Size of any figure that is not 0: far beyond anything real, and squares of it still fit."""
MOST_COUNT = 2**40
MOST_TEXT, MOST_JSON = 1 << 16, 1 << 20
"""Bytes of a text, and of a JSON object."""
MOST_SAMPLES = 1_000_000
"""Of one figure."""
MAX_DEPTH = 16
"""Of a JSON object: what is derived from it is nested in turn."""
_OBJECTS = ("environment", "params")
_CHOICES = {
    "evidence": get_args(Evidence),
    "status": get_args(Status),
    "better": get_args(Better),
}
_DAY_US = 86_400 * 10**6
_FIRST_US, _LAST_US = -719_161 * _DAY_US, 2_932_895 * _DAY_US
"""A day inside the years 1 and 9999, which are Python's, so that any time zone still fits."""


def problem(table: pa.Table) -> str | None:
    """Why some row of ``table`` is no fact, in a few words; None when all are.

    table: at least the columns of :func:`arrow_schema`, of its types.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    small = table.nbytes <= MOST_TEXT
    for field in arrow_schema():
        cells, name = table[field.name], field.name
        if cells.null_count and not field.nullable:
            return f"column {name} lacks a value"
        if field.type == pa.string():
            if small:
                continue
            most = MOST_JSON if name in _OBJECTS else MOST_TEXT
            longest = pc.max(pc.binary_length(cells)).as_py() or 0
            if longest > most:
                return f"column {name} holds a text of {longest:,} bytes, at most {most:,} are read"
        elif field.type == pa.int64():
            if not _within(cells, 0, MOST_COUNT):
                return f"column {name} holds an impossible count"
        elif field.type == pa.float64():
            if not _believable(cells):
                return f"column {name} holds an impossible number"
        elif field.type == pa.list_(pa.float64()):
            numbers = pc.list_flatten(cells)
            if numbers.null_count or not _believable(numbers):
                return f"column {name} holds an impossible number"
            if (pc.max(pc.list_value_length(cells)).as_py() or 0) > MOST_SAMPLES:
                return f"column {name} holds more than {MOST_SAMPLES:,} of one figure"
        elif pa.types.is_timestamp(field.type) and not _within(
            cells.cast(pa.int64()), _FIRST_US, _LAST_US
        ):
            return f"column {name} holds an impossible time"
    return _word_problem(table) or _missing_problem(table)


def _word_problem(table: pa.Table) -> str | None:
    import pyarrow.compute as pc

    for name, known in _CHOICES.items():
        for word in pc.unique(table[name]).to_pylist():
            if word not in known:
                return f"{name} {_quoted(word)} is not one of {known}"
    for name in _OBJECTS:
        for text in pc.unique(table[name]).to_pylist():
            try:
                _check_object(text, _DECODERS[name])
            except (ValueError, RecursionError) as error:
                return f"column {name} holds {_quoted(text)}, which is no JSON object: {error}"
    return None


def _missing_problem(table: pa.Table) -> str | None:
    import pyarrow.compute as pc

    valued = pc.is_valid(table["value"])
    if not set(pc.unique(table["status"].filter(valued)).to_pylist()) <= {"ok"}:
        return "a row that is not ok has a value"
    reasons = pc.binary_length(table["reason"].filter(pc.invert(valued)))
    if reasons.null_count or not _within(reasons, 1, MOST_TEXT):
        return "a row has neither a value nor a reason"
    return None


def _believable(numbers: pa.ChunkedArray) -> bool:
    """Whether each is 0 or of a size that can be meant; NaN and infinities are not. Nulls are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pc.all(pc.is_finite(numbers)).as_py() is False:
        return False
    size = pc.abs(numbers)
    return _within(size.filter(size.cast(pa.bool_())), LEAST, MOST)


def _within(numbers: pa.ChunkedArray, least: float, most: float) -> bool:
    """Whether each is in [least, most]. Nulls are."""
    import pyarrow.compute as pc

    ends = pc.min_max(numbers).as_py()
    return ends["min"] is None or bool(least <= ends["min"] and ends["max"] <= most)


def _check_object(text: str, decoder: json.JSONDecoder) -> None:
    """ValueError when ``text`` is no JSON object that can be written again and shown."""
    value = decoder.decode(text)
    if not isinstance(value, dict):
        raise ValueError("it is something else")
    left: list[tuple[Any, int]] = [(value, 1)]
    while left:
        part, depth = left.pop()
        if isinstance(part, str):
            part.encode()  # half a surrogate pair is no character
        elif isinstance(part, dict | list):
            if depth > MAX_DEPTH:
                raise ValueError("it is nested too deeply")
            inner = [*part.keys(), *part.values()] if isinstance(part, dict) else part
            left += [(item, depth + 1) for item in inner]


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is beyond reason")
    return number


def _int(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("a number is beyond reason")
    return int(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


_DIGITS = 19
_DECODERS = {
    "params": json.JSONDecoder(parse_float=_float, parse_int=_int, parse_constant=_constant),
    # A check of a run that went wrong may be recorded as NaN there; nothing is computed from it.
    "environment": json.JSONDecoder(parse_int=_int),
}


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
