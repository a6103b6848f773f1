"""The runs of a store: which there are, taking one out of sight, and bringing it back.

A deleted run is moved, by one rename, to ``<store>/.deleted/``, where no reader looks: a reader
sees all of it or nothing, a run that is still being written goes on in a new folder, and nothing
is gone before its owner empties that folder.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results import labels, object_storage
from tpubench.results.calibration import results_of
from tpubench.results.labels import Labels
from tpubench.results.row import Row
from tpubench.results.sealing import chain
from tpubench.results.select import select
from tpubench.results.store import files, iter_rows

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


def runs(rows: Iterable[Row], said: dict[str, Labels]) -> list[Run]:
    """The runs that these rows are of, by id; what measured the machine is not counted."""
    by_run: dict[str, list[Row]] = {}
    for row in rows:
        by_run.setdefault(row.run_id, []).append(row)
    return sorted(
        (
            _run(run_id, results_of(own), said.get(run_id, Labels()))
            for run_id, own in by_run.items()
        ),
        key=lambda run: (
            run.run_id
        ),  # as 'latest' goes; others' results may be older than their import
    )


def _run(run_id: str, rows: Sequence[Row], said: Labels) -> Run:
    def distinct(name: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(str(getattr(row, name)) for row in rows))

    repetitions = {
        (row.workload, row.preset, row.params, row.device, row.repetition): row.status
        for row in rows
    }
    return Run(
        run_id=run_id,
        started_at=min(row.started_at for row in rows),
        evidence=distinct("evidence"),
        workloads=distinct("workload"),
        presets=distinct("preset"),
        devices=distinct("device"),
        cases=len({(row.workload, row.preset, row.params, row.device) for row in rows}),
        repetitions=len(repetitions),
        rows=len(rows),
        failed=sum(status in {"failed", "invalid"} for status in repetitions.values()),
        git_sha=rows[0].git_sha,
        labels=said,
    )


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


def size_bytes(store: Path, run_id: str) -> int:
    """Bytes of a run's files."""
    return sum(path.lstat().st_size for path in (store / run_id).rglob("*") if path.is_file())


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
    """Runs that the selectors pick (all without any), and what was left out, in words."""
    listing = files(store)
    if not listing:
        raise UsageError(
            f"there are no results in {store}: run a workload first, or name --store",
            left_out=[str(bad.error) for bad in listing.unreadable],
        )
    found = select(store, selectors)
    said = labels.of_store(store)
    left_out = [str(bad.error) for bad in found.unreadable]
    left_out += [f"{path} is no label" for each in said.values() for path in each.unreadable]
    return runs(iter_rows(found.table), said), left_out
