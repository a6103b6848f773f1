"""The runs of a store: which there are, taking one out of sight, and bringing it back.

A deleted run is moved, by one rename, to ``<store>/.deleted/``, where no reader looks: a reader
sees all of it or nothing, a run that is still being written goes on in a new folder, and nothing
is gone before its owner empties that folder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results import labels, object_storage
from tpubench.results.calibration import CALIBRATION_MARK
from tpubench.results.labels import Labels
from tpubench.results.rows import Rows
from tpubench.results.sealing import chain
from tpubench.results.select import narrowed, select
from tpubench.results.store import files

DELETED = ".deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run in few words. failed: repetitions that are not ok."""

    run_id: str
    started_at: dt.datetime
    evidence: tuple[str, ...]
    workloads: tuple[str, ...]
    presets: tuple[str, ...]
    devices: tuple[str, ...]
    cases: int
    repetitions: int
    rows: int
    failed: int
    git_sha: str | None
    labels: Labels


_COLUMNS = (
    *("run_id", "started_at", "evidence", "workload", "preset", "device", "params", "repetition"),
    *("status", "git_sha", "environment"),
)
_ASK = f"""
    , marked AS (SELECT *, contains(environment, '{CALIBRATION_MARK}') AS context FROM selected),
    own AS (
        SELECT * FROM marked
        WHERE NOT context OR run_id NOT IN (SELECT run_id FROM marked WHERE NOT context)
    ),
    repetitions AS (
        SELECT run_id, bool_or(status IN ('failed', 'invalid')) AS failed FROM own
        GROUP BY run_id, workload, preset, params, device, repetition
    ),
    counted AS (
        SELECT run_id, count(*) AS repetitions, count(*) FILTER (failed) AS failed
        FROM repetitions GROUP BY run_id
    )
    SELECT
        run_id, min(started_at) AS started_at,
        list(DISTINCT evidence ORDER BY evidence) AS evidence,
        list(DISTINCT workload ORDER BY workload) AS workloads,
        list(DISTINCT preset ORDER BY preset) AS presets,
        list(DISTINCT device ORDER BY device) AS devices,
        count(DISTINCT (workload, preset, params, device)) AS cases,
        any_value(counted.repetitions) AS repetitions, count(*) AS rows,
        any_value(counted.failed) AS failed, any_value(git_sha) AS git_sha
    FROM own JOIN counted USING (run_id) GROUP BY run_id ORDER BY run_id
"""
"""What measured the machine is not counted, but where there is nothing else."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _listed(rows: Rows, said: dict[str, Labels]) -> list[Run]:
    """The runs that these rows are of, by id, as 'latest' goes; others' results may be older than
    their import.
    """
    listed = []
    for line in rows.ask(_ASK, _COLUMNS).to_pylist():
        started = _EPOCH + dt.timedelta(microseconds=line.pop("started_at"))
        cells: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
        own = said.get(line["run_id"], Labels())
        listed.append(Run(started_at=started, labels=own, **cells))
    return listed


def one(store: Path, selector: str) -> str:
    """The id of the one run that a selector names and that lies in a folder of its own.

    UsageError where it names none, several, or a run whose rows lie elsewhere.
    """
    if _is_folder_of(store, selector):  # whatever it holds, damaged files too
        return selector
    if "=" in selector:
        raise UsageError(f"{selector!r}: name one run, by its id or as 'latest'")
    ids = sorted(set(select(store, [selector]).table["run_id"].to_pylist()))
    if len(ids) != 1:
        raise UsageError(f"{selector!r} names {len(ids)} runs: {', '.join(ids[:4]) or 'none'}")
    (run_id,) = ids
    if not _is_folder_of(store, run_id):
        raise UsageError(f"the rows of {run_id} do not lie in a folder {store / run_id}")
    return str(run_id)


def _is_folder_of(store: Path, run_id: str) -> bool:
    """Whether it names a plain folder right in the store; a run id may have come from anybody."""
    plain = Path(run_id).name == run_id and not run_id.startswith(".")
    return plain and (store / run_id).is_dir() and not (store / run_id).is_symlink()


def delete(store: Path, run_id: str) -> Path:
    """Move a run out of sight; returns where it is kept. UsageError where the disk refuses."""
    aside = store / DELETED
    number = 1
    try:
        aside.mkdir(exist_ok=True)
        while True:
            kept = aside / (run_id if number == 1 else f"{run_id}~{number}")
            if not kept.exists():
                break
            number += 1
        (store / run_id).rename(kept)
        for path in sorted(kept.iterdir()):
            object_storage.move(store / run_id / path.name, path)
        chain.record(store, "deleted", run_id)
    except OSError as error:
        raise UsageError(f"cannot delete {store / run_id}: {error.strerror}") from None
    return kept


def deleted(store: Path) -> list[str]:
    """Ids of the runs that were deleted and are kept, oldest first."""
    names = (path.name.partition("~")[0] for path in (store / DELETED).glob("*") if path.is_dir())
    return sorted(set(names))


def restore(store: Path, run_id: str) -> int:
    """Put a deleted run back; how many files came. Nothing in place is replaced.

    UsageError for a run that was not deleted here, or where the disk refuses.
    """
    if run_id not in deleted(store):
        known = ", ".join(deleted(store)[-4:]) or "none"
        raise UsageError(f"no deleted run {run_id!r} in {store}; deleted: {known}")
    came = 0
    try:
        for kept in sorted((store / DELETED).glob(f"{run_id}*")):
            if kept.name.partition("~")[0] != run_id:
                continue
            (store / run_id).mkdir(exist_ok=True)
            for path in sorted(kept.iterdir()):
                target = store / run_id / path.name
                if target.exists():
                    raise UsageError(f"{target} exists: {path} is left where it is")
                path.rename(target)
                object_storage.move(path, target)
                came += 1
            kept.rmdir()
        chain.record(store, "restored", run_id)
    except OSError as error:
        raise UsageError(f"cannot restore {run_id}: {error.strerror}") from None
    return came


def stored_runs(store: Path, selectors: Sequence[str]) -> tuple[list[Run], list[str]]:
    """Runs that the selectors pick (all without any), and what was left out, in words.

    UsageError for an empty store, and for selectors that pick nothing.
    """
    listing = files(store)
    if not listing:
        raise UsageError(
            f"there are no results in {store}: run a workload first, or name --store",
            left_out=[str(bad.error) for bad in listing.unreadable],
        )
    rows = narrowed(store, selectors)
    said = labels.of_store(store)
    left_out = [str(bad.error) for bad in rows.unreadable]
    left_out += [f"{path} is no label" for each in said.values() for path in each.unreadable]
    return _listed(rows, said), left_out
