"""Solved plans kept beside the facts of a store, so that a report shows them without solving again.

One JSON file each under ``plans/`` of the store, newest name last; never written over.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from tpubench.costs.allocation.answer import PlanAnswer
from tpubench.costs.userfile import explain, read_text
from tpubench.errors import TpubenchError, UsageError

FOLDER = "plans"
SUFFIX = ".plan.json"
MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A file's content. ``schema`` changes when older programs cannot read it."""

    schema: int
    answer: PlanAnswer


SCHEMA = 1
_FILE = TypeAdapter(_Kept)


def keep(answer: PlanAnswer, store: Path, now: dt.datetime) -> Path:
    """Store the answer and return its file; UsageError when the folder cannot be written."""
    folder = store / FOLDER
    path = folder / f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}{SUFFIX}"
    temporary = folder / f".{path.name}.tmp"
    try:
        folder.mkdir(exist_ok=True)
        temporary.write_bytes(_FILE.dump_json(_Kept(schema=SCHEMA, answer=answer)))
        os.link(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot store the plan in {store}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def newest(store: Path) -> tuple[PlanAnswer | None, list[str]]:
    """The newest plan of a store that can be read, and a sentence on each newer one that cannot."""
    complaints: list[str] = []
    for path in sorted((store / FOLDER).glob(f"*{SUFFIX}"), reverse=True):
        try:
            return _read(path), complaints
        except TpubenchError as error:
            complaints.append(str(error))
    return None, complaints


def _read(path: Path) -> PlanAnswer:
    try:
        kept = _FILE.validate_json(read_text(path, MAX_BYTES))
    except ValidationError as error:
        raise UsageError(f"{explain(path, error)}; is it a plan that tpubench stored?") from None
    if kept.schema != SCHEMA:
        raise UsageError(f"{path}: written by another version of tpubench (schema {kept.schema})")
    try:
        json.dumps(kept.answer.to_json(), allow_nan=False)
    except ValueError:
        raise UsageError(f"{path}: a figure in it is no finite number") from None
    if not kept.answer.cash:
        raise UsageError(f"{path}: it has no year")
    return kept.answer
