"""What people say of a run: tags and notes, beside its facts and apart from them.

Each saying is one immutable file ``<store>/<run_id>/<time>-<random>.label.json``, so that writers
need not know of each other, a merge of stores is a copy of files, and nothing said is overwritten.
A tag is on a run if the last saying that names it puts it there; notes add up.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results.store import write_once

SUFFIX = ".label.json"
LONGEST_NOTE = 2000
_MOST_BYTES = 64 * 1024
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNote:
    """A sentence about a run. at: UTC, ISO 8601."""

    at: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """All that is said of a run, oldest first; ``unreadable``: files of labels that are none."""

    tags: tuple[str, ...] = ()
    notes: tuple[RunNote, ...] = ()
    unreadable: tuple[Path, ...] = ()


def of_run(store: Path, run_id: str) -> Labels:
    """Tags and notes of one run."""
    return _folded(sorted((store / run_id).glob(f"*{SUFFIX}")))


def of_store(store: Path) -> dict[str, Labels]:
    """Tags and notes of every run that has any, by run id."""
    by_run: dict[str, list[Path]] = {}
    for path in sorted(store.glob(f"*/*{SUFFIX}")):
        if not path.parent.name.startswith("."):
            by_run.setdefault(path.parent.name, []).append(path)
    return {run_id: _folded(paths) for run_id, paths in by_run.items()}


def say(
    store: Path,
    run_id: str,
    *,
    tags: Sequence[str] = (),
    untags: Sequence[str] = (),
    note: str | None = None,
) -> Path:
    """Store one saying about a run that is in the store.

    UsageError for a tag or note that will not do, or where the disk refuses.
    """
    for tag in (*tags, *untags):
        if not _TAG.fullmatch(tag):
            raise UsageError(
                f"{tag[:70]!r} is no tag: letters, digits, . _ - and at most 64 of them"
            )
    both = set(tags) & set(untags)
    if both:
        raise UsageError(f"tag {sorted(both)[0]!r} is both put and removed")
    if note is not None:
        note = " ".join(note.split())
        if not note or len(note) > LONGEST_NOTE or not note.isprintable():
            raise UsageError(f"a note is 1 to {LONGEST_NOTE} characters that can be printed")
    now = dt.datetime.now(dt.UTC)
    content = {
        "schema_version": 1,
        "at": now.isoformat(),
        "tags": list(tags),
        "untags": list(untags),
        "note": note,
    }
    name = f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}{SUFFIX}"
    final = store / run_id / name
    try:
        write_once(final, json.dumps(content, ensure_ascii=False).encode())
    except OSError as error:
        raise UsageError(f"cannot store {final}: {error.strerror}") from None
    return final


def _folded(paths: Iterable[Path]) -> Labels:
    tags: dict[str, None] = {}
    notes: list[RunNote] = []
    unreadable: list[Path] = []
    for path in paths:
        said = _read(path)
        if said is None:
            unreadable.append(path)
            continue
        tags |= dict.fromkeys(said["tags"])
        for tag in said["untags"]:
            tags.pop(tag, None)
        if said["note"]:
            notes.append(RunNote(at=said["at"], text=said["note"]))
    return Labels(tags=tuple(tags), notes=tuple(notes), unreadable=tuple(unreadable))


def _read(path: Path) -> dict[str, Any] | None:
    """One saying; None for a file that is none."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb") as stream:
            said = json.loads(stream.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    tags, untags, note, at = (said.get(key) for key in ("tags", "untags", "note", "at"))
    lists = all(
        isinstance(each, list) and all(isinstance(t, str) and _TAG.fullmatch(t) for t in each)
        for each in (tags, untags)
    )
    texts = isinstance(at, str) and at.isprintable() and (note is None or isinstance(note, str))
    if not lists or not texts or (note and not note.isprintable()):
        return None
    return {"tags": tags, "untags": untags, "note": note, "at": at}
