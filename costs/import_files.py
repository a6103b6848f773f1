"""``tpubench import``: files of another tool into the store, each file once.

One command is one run; each file becomes one stored file, named by the hash of what it says and of
what the command line added, so that the same import twice stores nothing twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpubench.costs.imported import CPU, NOT_STATED, UNKNOWN_DEVICE, Given, Origin, to_rows
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError
from tpubench.results import fingerprint, store
from tpubench.results.figure import new_run_id
from tpubench.results.importers import NO_MODEL, Imported, Plain, Rejected, read_results
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.sealing import manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was imported. ``run_id`` and ``store`` are None when nothing was stored."""

    run_id: str | None
    store: Path | None
    rows: list[Row]
    rejected: list[Rejected]
    already: list[Path]
    """Files that the store has already, with the same additions."""
    notes: list[str]
    """What the files leave open, devices that are not known, figures that cannot be."""


_NAMED = 3
"""Devices or figures that a note names; the rows have them all."""


def import_files(
    format_name: str,
    paths: Sequence[Path],
    given: Given,
    folder: Path,
    now: dt.datetime,
    *,
    dry_run: bool = False,
    impossible: Callable[[Row], str | None] = lambda row: None,
) -> ImportReport:
    """Read every path, then store; UsageError before anything is stored when one cannot be read.

    ``impossible`` says why a figure cannot be, if it cannot: its row keeps it, and says so.
    """
    run_id = new_run_id(now)
    taken: set[tuple[object, ...]] = set()
    parts: dict[str, list[Row]] = {}
    rejected: list[Rejected] = []
    already: list[Path] = []
    wrong: list[str] = []
    for path in paths:
        imported = read_results(format_name, path)
        sha256 = _sha256(imported, given)
        name = f"import-{sha256[:16]}"
        if name in parts or any(folder.glob(f"*/{name}.parquet")):
            already.append(path)
            continue
        origin = Origin(format_name=imported.format_name, file=path.name, sha256=sha256)
        converted = to_rows(imported.records, given, origin, run_id=run_id, now=now, taken=taken)
        doubted = [(row, impossible(row)) for row in converted]
        parts[name] = [_marked(row, why) for row, why in doubted]
        wrong += [
            f"{row.metric} of {row.preset}: {why}"
            for row, why in doubted
            if why and METRICS[row.metric].per_chip_of is None
        ]
        rejected += [
            Rejected(where=f"{path.name}: {one.where}", reason=one.reason)
            for one in imported.rejected
        ]
    rows = [row for part in parts.values() for row in part]
    if not rows and not already:
        why = f": {rejected[0].where}: {rejected[0].reason}" if rejected else ""
        raise UsageError(f"nothing could be imported{why}")
    stored = bool(rows) and not dry_run
    if stored:
        store.prepare(folder)
        manifest.close([store.write(folder, name, part) for name, part in parts.items() if part])
    return ImportReport(
        run_id=run_id if stored else None,
        store=folder if stored else None,
        rows=rows,
        rejected=rejected,
        already=already,
        notes=[*_doubts(wrong), *_notes(rows)],
    )


def settings(texts: Sequence[str]) -> dict[str, Plain]:
    """``key=value`` texts; numbers become numbers. UsageError when one is no pair."""
    values: dict[str, Plain] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"--set {text!r} is not KEY=VALUE")
        values[key.strip()] = _number(value.strip())
    return values


def day(text: str | None) -> dt.date | None:
    """An ISO date; UsageError when it is none."""
    try:
        return None if text is None else dt.date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--date {text!r} is not a date like 2026-11-22") from None


def _number(text: str) -> Plain:
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if abs(value) < 1e18:
            return value
    return text


def _sha256(imported: Imported, given: Given) -> str:
    """Hash of the records themselves: the folder a file lies in makes no other result of it.

    In the words of ``repr``: a class or a field of theirs that is renamed would let every file be
    imported once more.
    """
    return fingerprint.sha256([repr(imported.records), repr(given)])


def _marked(row: Row, why: str | None) -> Row:
    if why is None:
        return row
    return replace(row, reason="; ".join(part for part in (why, row.reason) if part))


def _doubts(wrong: Sequence[str]) -> list[str]:
    if not wrong:
        return []
    more = f"; {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
    return [
        f"{len(wrong)} figure{'s are' if len(wrong) > 1 else ' is'} more than the hardware can do,"
        f" each marked in its row: {'; '.join(wrong[:_NAMED])}{more}"
    ]


def _unlisted(rows: Sequence[Row]) -> list[str]:
    """Devices as the files write them that the device table does not have."""
    usual = {*devices(), UNKNOWN_DEVICE, CPU}
    return list(dict.fromkeys(row.device for row in rows if row.device not in usual))


def _notes(rows: Sequence[Row]) -> list[str]:
    """What the files do not say and the command line can."""
    notes = []
    unlisted = _unlisted(rows)
    if unlisted:
        more = f" and {len(unlisted) - _NAMED} more" if len(unlisted) > _NAMED else ""
        notes.append(
            f"not in the device table, kept as written: {', '.join(unlisted[:_NAMED])}{more};"
            " there is no peak and no price for it, or give --device NAME (tpubench list devices)"
        )
    if any(row.device == UNKNOWN_DEVICE for row in rows):
        notes.append("no device is named: give --device NAME, or there is no price and no roofline")
    if any(not row.chips for row in rows):
        notes.append("no number of chips is stated: give --chips N, or there is no figure per chip")
    if any(row.preset == NO_MODEL for row in rows):
        notes.append("no model is named: give --model NAME")
    if any(row.dtype == NOT_STATED for row in rows):
        notes.append("no precision is stated: give --dtype NAME to compare with other results")
    return notes
