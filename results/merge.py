"""Several stores into one: every row once, no row lost, and what contradicts itself named.

Files are copied as they are, unless some of their rows are there already: then the others go into
a file of their own. Two rows are the same fact when :func:`.summary.row_key` says so; the same fact
with other content is a conflict, and the one in place stays.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tpubench.errors import TpubenchError, UsageError
from tpubench.results import labels, store
from tpubench.results.row import Row, arrow_schema
from tpubench.results.runs import deleted
from tpubench.results.sealing import manifest
from tpubench.results.summary import row_key


@dataclass(slots=True, kw_only=True)
class Merged:
    """What a merge did, or would do. Conflicts and what was left out are sentences."""

    rows: int = 0
    files: int = 0
    labels: int = 0
    runs: set[str] = field(default_factory=set)
    there_already: int = 0
    conflicts: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.conflicts and not self.left_out


def merge(sources: Sequence[Path], into: Path, *, dry_run: bool = False) -> Merged:
    """Bring every row and label of ``sources`` into the store ``into``.

    UsageError, before anything is written, for a source without results or one that is the target.
    """
    for source in sources:
        listing = store.files(source)
        if not listing:
            left_out = [str(bad.error) for bad in listing.unreadable]
            raise UsageError(f"there are no results in {source}", left_out=left_out)
        if source.resolve() == into.resolve():
            raise UsageError(f"{source} is the store to merge into")
    if not dry_run:
        store.prepare(into)
    done = Merged()
    facts = {row_key(row): _content(row) for row in _rows(into, done)}
    gone = set(deleted(into))
    written: list[Path] = []
    for source in sources:
        listing = store.files(source)
        done.left_out += [str(bad.error) for bad in listing.unreadable]
        seals = {folder: manifest.covered(folder) for folder in {path.parent for path in listing}}
        for path in listing:
            _file(path, into, facts, gone, done, seals, written, dry_run=dry_run)
        _labels(source, into, done, dry_run=dry_run)
    manifest.close(written, split=False)  # what nobody had sealed stays without a seal
    return done


def _rows(folder: Path, done: Merged) -> list[Row]:
    scan = store.scan(store.files(folder))
    done.left_out += [str(bad.error) for bad in scan.unreadable]
    return list(store.iter_rows(scan.table))


def _file(
    path: Path,
    into: Path,
    facts: dict[tuple[object, ...], str],
    gone: set[str],
    done: Merged,
    seals: Mapping[Path, Mapping[str, str]],
    written: list[Path],
    *,
    dry_run: bool,
) -> None:
    """Bring over the rows of one file that are not there yet."""
    try:
        table = store.load(path)
    except TpubenchError as error:
        done.left_out.append(str(error))
        return
    rows = list(store.iter_rows(table))
    new: dict[str, list[Row]] = {}
    for row in rows:
        key, content = row_key(row), _content(row)
        if Path(row.run_id).name != row.run_id or row.run_id.startswith("."):
            done.left_out.append(f"{path}: {row.run_id[:80]!r} is no run id")
        elif row.run_id in gone:
            done.left_out.append(
                f"{path}: run {row.run_id} was deleted in {into}: restore it first"
            )
            return
        elif key not in facts:
            facts[key] = content
            new.setdefault(row.run_id, []).append(row)
        elif facts[key] == content:
            done.there_already += 1
        else:
            done.conflicts.append(
                f"{path}: {row.metric} of {row.workload} {row.preset}, repetition"
                f" {row.repetition} of run {row.run_id}, is another there"
            )
    if not new:
        return
    whole = len(new) == 1 and sum(map(len, new.values())) == len(rows)
    unknown = [name for name in table.column_names if name not in arrow_schema().names]
    if unknown and not whole:
        done.left_out.append(f"{path}: columns of a newer tpubench: {', '.join(unknown)}")
    sealed = seals.get(path.parent, {}).get(path.name) == manifest.file_sha256(path)
    for run_id, part in new.items():
        done.rows += len(part)
        done.files += 1
        done.runs.add(run_id)
        if dry_run:
            continue
        name = path.stem
        if (into / run_id / path.name).exists():
            name = f"{name}-{secrets.token_hex(4)}"
        target = into / run_id / f"{name}.parquet"
        if whole:
            _copy(path, target)
        else:
            store.write(into, name, part)
        if sealed:
            written.append(target)


def _labels(source: Path, into: Path, done: Merged, *, dry_run: bool) -> None:
    """Copy what is said of the runs that are in the target now."""
    for run_id, said in labels.of_store(source).items():
        done.left_out += [f"{path} is no label" for path in said.unreadable]
        for path in sorted((source / run_id).glob(f"*{labels.SUFFIX}")):
            target = into / run_id / path.name
            if path in said.unreadable or not (target.parent.is_dir() or dry_run):
                continue
            if not target.exists():
                done.labels += 1
                if not dry_run:
                    _copy(path, target)
            elif target.read_bytes() != path.read_bytes():
                done.conflicts.append(f"{path}: {target} says something else")


def _copy(path: Path, target: Path) -> None:
    """A copy under a name that nobody has, on disk when this returns."""
    try:
        store.write_once(target, path.read_bytes())
    except FileExistsError:
        raise UsageError(f"{target} exists already: facts are never overwritten") from None
    except OSError as error:
        raise UsageError(f"cannot store {target}: {error.strerror}") from None


def _content(row: Row) -> str:
    """SHA-256 of all that a row says."""
    text = repr([getattr(row, name) for name in arrow_schema().names])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
