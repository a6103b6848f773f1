"""The many files of a run as few, no row lost: what a store of years needs, one run at a time.

A run's new folder is made beside it, out of sight: its rows in one file (or as many as a reader
takes), everything else linked as it is. Then both folders are exchanged by one system call, so
that a reader, or a machine that dies, sees the run before or after, never neither and never both.
What a writer put into the old folder meanwhile is moved over before that goes. A compaction that
was killed is finished, or undone, by the next one.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.errors import DamagedError, TpubenchError, UsageError
from tpubench.results import object_storage, parquet_layout, seal, store
from tpubench.results.listing import files
from tpubench.results.row import arrow_schema
from tpubench.results.sealing import chain as chains
from tpubench.results.sealing import manifest

if TYPE_CHECKING:
    import pyarrow as pa

QUIET_S = 3600.0
"""A run whose folder changed later than this may still be written to, and is left alone."""
ASIDE = ".compacting-"
_MERGED = "compact-"
_RECORD = ".compacted.json"
"""In the new folder: the old one's name from then on, and the files whose rows were merged."""
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""
_AT_FDCWD = -100


@dataclass(slots=True, kw_only=True)
class Compacted:
    """What was done. left_out: what was not, in sentences."""

    runs: int = 0
    files_before: int = 0
    files_after: int = 0
    rows: int = 0
    left_out: list[str] = field(default_factory=list)


def compact(folder: Path, *, quiet_s: float = QUIET_S) -> Compacted:
    """Merge the files of each run of a store that has several and has been quiet for so long.

    UsageError for a store without results, and where the file system cannot exchange two folders;
    nothing has changed then.
    """
    if object_storage.of(folder) is not None:
        raise UsageError(
            f"{folder} mirrors a bucket, where two folders cannot be exchanged: merge it into a"
            " folder, and compact that"
        )
    listing = files(folder)
    if not listing:
        raise UsageError(f"there are no results in {folder}")
    finish(folder)
    done = Compacted(left_out=[str(bad.error) for bad in listing.unreadable])
    by_run: dict[Path, list[Path]] = {}
    for path in files(folder):
        if path.parent.parent == folder:
            by_run.setdefault(path.parent, []).append(path)
    chain = chains.read(folder)
    for run, paths in by_run.items():
        if len(paths) > 1:
            _run(run, paths, quiet_s, chain, done)
    return done


def finish(folder: Path) -> None:
    """What an earlier compaction left when it was killed: old folders out of sight."""
    for aside in sorted(folder.glob(f"{ASIDE}*")):
        run = folder / aside.name.removeprefix(ASIDE).rpartition("~")[0]
        if _record(run)["aside"] == aside.name:  # they were exchanged: this is the old one
            _bring_over(aside, run)
        shutil.rmtree(aside)


def _run(
    run: Path, paths: Sequence[Path], quiet_s: float, chain: chains.Chain, done: Compacted
) -> None:
    changed = max(path.lstat().st_mtime for path in (run, *paths))
    if time.time() - changed < quiet_s:
        done.left_out.append(f"{run} changed lately: its run may not have ended")
        return
    odd = [entry.name for entry in os.scandir(run) if not entry.is_file(follow_symlinks=False)]
    if odd:
        done.left_out.append(f"{run} holds {odd[0][:60]!r}, which is no file: left as it is")
        return
    covered = manifest.covered(run) | chains.covered(chain, run.name)
    groups: dict[bool, dict[Path, pa.Table]] = {True: {}, False: {}}
    for path in paths:
        try:
            table = store.load(path)
        except TpubenchError as error:
            done.left_out.append(str(error))
            continue
        if table.schema.equals(arrow_schema()) and set(table["run_id"].to_pylist()) == {run.name}:
            sealed = covered.get(path.name)
            groups[sealed is not None and manifest.file_sha256(path) == sealed][path] = table
    # What nobody sealed is not merged with what somebody did, lest it seem covered.
    merging = [tables for tables in groups.values() if len(tables) > 1]
    if not merging:
        return
    aside = run.with_name(f"{ASIDE}{run.name}~{secrets.token_hex(4)}")
    aside.mkdir()
    try:
        merged = 0
        for tables in merging:
            new = _merge(aside, list(tables.values()))
            merged += len(new)
            if tables is groups[True]:
                seals = {path.name: manifest.seal_of(path) for path in new}
                manifest.write(aside, seals, run_id=run.name, replaces=[p.name for p in tables])
        tables = {path: table for tables in merging for path, table in tables.items()}
        names = {path.name for path in tables}
        for entry in os.scandir(run):
            if entry.name not in names and not entry.name.startswith("."):
                _link(Path(entry.path), aside / entry.name)
        _write_record(aside, names)
        _exchange(run, aside)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UsageError(f"cannot compact {run}: {error.strerror}; nothing changed") from None
    _bring_over(aside, run)
    shutil.rmtree(aside)
    done.runs += 1
    done.files_before += len(tables)
    done.files_after += merged
    done.rows += sum(table.num_rows for table in tables.values())


def _link(path: Path, target: Path) -> None:
    """The same file in another folder; a copy where the file system has no links."""
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in store.NO_LINKS:
            raise
        shutil.copy2(path, target)


def _merge(aside: Path, tables: Sequence[pa.Table]) -> list[Path]:
    """Write the rows in order, read them again, and say in which files they are."""
    import pyarrow as pa

    table = pa.concat_tables(tables)
    most = parquet_layout.FREE_ROWS
    new: list[Path] = []
    for start in range(0, table.num_rows, most):
        name = f"{_MERGED}{secrets.token_hex(4)}-{len(new):03}"
        new.append(store.write_into(aside, name, table.slice(start, most)))
    again = [store.load(path) for path in new]
    if seal.columns_sha256(pa.concat_tables(again)) != seal.columns_sha256(table):
        raise DamagedError(f"{aside} does not hold the rows that were written to it")
    return new


def _bring_over(old: Path, run: Path) -> None:
    """Move what a writer put into the old folder while its rows were being merged."""
    merged = set(_record(run)["files"])
    for entry in sorted(old.iterdir()):
        new = entry.name not in merged and not entry.name.startswith(".")
        if new and not (run / entry.name).exists():
            entry.rename(run / entry.name)
    store.sync_directory(run)


def _record(run: Path) -> dict[str, Any]:
    try:
        said = json.loads((run / _RECORD).read_bytes())
        return {"aside": str(said["aside"]), "files": list(said["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {"aside": "", "files": []}


def _write_record(aside: Path, names: Iterable[str]) -> None:
    with (aside / _RECORD).open("x", encoding="utf-8") as stream:
        json.dump({"aside": aside.name, "files": sorted(names)}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    store.sync_directory(aside)


def _exchange(a: Path, b: Path) -> None:
    """Exchange two folders by one call. OSError where the file system cannot."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    store.sync_directory(a.parent)
