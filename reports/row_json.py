"""Stored rows as JSON values."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import Any

from tpubench.results.row import COLUMNS, Row


def records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows as JSON values: what is stored as the text of a JSON object is that object."""
    return [
        {
            **cells(row),
            "params": json_object(row.params),
            "environment": json_object(row.environment),
        }
        for row in rows
    ]


def cells(row: Row) -> dict[str, Any]:
    """A row by column, its JSON columns as the text that is stored."""
    return {name: json_value(getattr(row, name)) for name in COLUMNS}


def json_object(text: str) -> Any:
    """The object that a JSON column holds; of a column that holds none, its text."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (TypeError, ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def json_value(value: Any) -> Any:
    """What JSON has no type for, as text."""
    return value.isoformat() if isinstance(value, dt.datetime) else value
