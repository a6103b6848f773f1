"""Rows that were read and checked before, kept so that no command checks them again.

A store has no index, and a command that wants ten rows of a million would have to read, unpack and
check them all. So what a file held when it was checked is kept outside the store, in
``$XDG_CACHE_HOME/tpubench/stores/``: *segments*, Parquet files of many files' rows, each with an
index of those files and of the size, times and inode that they had. A file that looks otherwise
now, or is new, is read anew with every check. Nothing here is believed that does not match its own
SHA-256, and nothing here is needed: without it, or when it is damaged, files are read as ever.

Segments are immutable and are named at random, so any number of processes may add some at once.
"""

from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.errors import TpubenchError
from tpubench.results import cache_folder, shares
from tpubench.results.listing import Unreadable
from tpubench.results.row import arrow_schema
from tpubench.results.store import load

if TYPE_CHECKING:
    import pyarrow as pa

CHECKS = 1
"""Raise it when :func:`.store.load` gets stricter: what was kept before is read again."""
FEW = 32
"""Files that are read faster than a segment of them is made."""
ROWS_A_SEGMENT, ROWS_A_GROUP = 1 << 17, 1 << 13
_PARTS = 256
YOUNG_S = 2.0
"""A file that changed so lately may change again without its times showing it."""
_KEPT_S = 3600.0
"""How long a segment that nobody needs is left for those who are reading it."""
_SMALL_BYTES, _MANY_SMALL = 1 << 20, 16
"""Beyond so many small segments their files are read again, into one."""
FILE, ROW = "tpubench.file", "tpubench.row"
"""Columns of a segment: number of the file in its index, and of the row in the file."""

State = tuple[int, ...]
"""Size, times of change of content and of inode (ns), inode and device of a file."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """A Parquet file of rows, and the file of the store behind each number in column ``FILE``."""

    path: Path
    files: tuple[tuple[str, State], ...]


@dataclass(slots=True, kw_only=True)
class Known:
    """What is kept of the files that were asked for.

    live: of each segment, the numbers of files that are as they were, and the place of each among
    those asked for. left: those to be read, with their places.
    """

    live: dict[Segment, dict[int, int]] = field(default_factory=dict)
    left: list[tuple[int, Path]] = field(default_factory=list)


def known(store: Path, paths: Sequence[Path]) -> Known:
    """Which of these files need no reading, from what is kept, and from what is kept after this."""
    folder = folder_of(store)
    if folder is None or len(paths) <= FEW:
        return Known(left=list(enumerate(paths)))
    # The larger one has what smaller ones were gathered into.
    segments = sorted(_segments(folder), key=lambda segment: len(segment.files))
    looked_up = _look_up(store, paths, segments)
    small = [each for each in looked_up.live if each.path.stat().st_size < _SMALL_BYTES]
    if len(small) > _MANY_SMALL:
        looked_up = _look_up(store, paths, [each for each in looked_up.live if each not in small])
    if len(looked_up.left) <= FEW:
        return looked_up
    left = shares.stretches([path for _, path in looked_up.left])
    parts = shares.spread(keep, [(store, stretch, folder) for stretch in left])
    fresh = [segment for part in parts for segment in part]
    if not fresh:
        return looked_up
    again = _look_up(store, paths, [*looked_up.live, *fresh])
    _forget(folder, again.live)
    return again


def folder_of(store: Path) -> Path | None:
    """Where rows of a store are kept, made if need be; None where nothing can be or may be."""
    base = cache_folder.root()
    if base is None or not store.is_dir():
        return None
    name = hashlib.sha256(os.fsencode(store.resolve())).hexdigest()[:32]
    folder = base / "stores" / name
    return folder if cache_folder.usable(folder) else None


def state_of(path: Path) -> State | None:
    """What a file looks like from outside; None for none."""
    try:
        status = path.stat()
    except OSError:
        return None
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_size, *times, status.st_ino, status.st_dev)


def _look_up(store: Path, paths: Sequence[Path], segments: Iterable[Segment]) -> Known:
    where: dict[str, tuple[Segment, int, State]] = {}
    for segment in segments:
        for number, (name, state) in enumerate(segment.files):
            where[name] = (segment, number, state)
    looked_up = Known()
    skipped = len(str(store)) + 1
    for place, path in enumerate(paths):
        name = str(path)[skipped:] if str(path).startswith(f"{store}/") else ""
        kept = where.get(name)
        if kept is None or kept[2] != state_of(path):
            looked_up.left.append((place, path))
        else:
            looked_up.live.setdefault(kept[0], {})[kept[1]] = place
    return looked_up


def keep(share: tuple[Path, Sequence[Path], Path]) -> list[Segment]:
    """The segments of some files of a store, in a folder; fewer where there is no room for them:
    the others are read every time.
    """
    fresh: list[Segment] = []
    with contextlib.suppress(OSError):
        for segment in _keep(*share):
            fresh.append(segment)
    return fresh


def _keep(store: Path, paths: Sequence[Path], folder: Path) -> Iterator[Segment]:
    """Read files with every check, and keep their rows; those with columns of later versions, and
    those that cannot be read, are not kept.
    """
    parts: list[pa.Table] = []
    files: list[tuple[str, State]] = []
    rows = 0
    skipped = len(str(store)) + 1
    for path in paths:
        before, now = state_of(path), time.time_ns()
        try:
            table = load(path)
        except TpubenchError:
            continue
        if before is None or state_of(path) != before or table.schema.names != arrow_schema().names:
            continue
        if now - max(before[1:3]) < YOUNG_S * 1e9:
            continue
        parts.append(_narrow(table, len(files)))
        files.append((str(path)[skipped:], before))
        rows += table.num_rows
        if len(parts) >= _PARTS:  # a table of few rows takes as much room as one of many
            parts = [_gathered(parts)]
        if rows >= ROWS_A_SEGMENT:
            yield _write(store, folder, _gathered(parts), files)
            parts, files, rows = [], [], 0
    if parts:
        yield _write(store, folder, _gathered(parts), files)


def _gathered(parts: Sequence[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _narrow(table: pa.Table, number: int) -> pa.Table:
    """Rows with their place, each text once, and times as numbers, which need no time zone."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in table.column_names:
        cells = table[name]
        if pa.types.is_timestamp(cells.type):
            cells = cells.cast(pa.int64())
        elif pa.types.is_string(cells.type):
            cells = cells.dictionary_encode()
        columns[name] = cells
    count = table.num_rows
    columns[FILE] = integers([number] * count)
    columns[ROW] = integers(range(count))
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def integers(values: Iterable[int]) -> pa.Array:
    """Of 32 bits, without the pandas that pyarrow loads to look at a Python object."""
    import pyarrow as pa

    packed = array.array("i", values)
    return pa.Array.from_buffers(pa.int32(), len(packed), [None, pa.py_buffer(packed.tobytes())])


def _write(
    store: Path, folder: Path, table: pa.Table, files: Sequence[tuple[str, State]]
) -> Segment:
    import pyarrow.parquet as pq

    name = secrets.token_hex(8)
    path = folder / f"{name}.parquet"
    temporary = folder / f".{name}.tmp"
    order = [(column, "ascending") for column in ("metric", "device", "params", FILE, ROW)]
    try:
        table = table.take(_ordered(table, order))
        pq.write_table(table, temporary, compression="zstd", row_group_size=ROWS_A_GROUP)
        with temporary.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        temporary.rename(path)
        index = json.dumps(
            {
                "checks": CHECKS,
                "columns": arrow_schema().names,
                "store": str(store.resolve()),
                "sha256": sha256,
                "files": files,
            }
        ).encode("ascii")
        temporary.write_bytes(hashlib.sha256(index).hexdigest().encode() + b"\n" + index)
        temporary.rename(path.with_suffix(".json"))
    finally:
        temporary.unlink(missing_ok=True)
    return Segment(path=path, files=tuple(files))


def _ordered(table: pa.Table, order: Sequence[tuple[str, str]]) -> pa.Array:
    """Places of the rows in an order; a text counts by its place in the dictionary, since rows
    that belong together need to lie together and no more.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = {}
    for name, _ in order:
        cells = table[name]
        if pa.types.is_dictionary(cells.type):
            cells = pa.chunked_array([chunk.indices for chunk in cells.chunks])
        keys[name] = cells
    return pc.sort_indices(
        pa.Table.from_arrays(list(keys.values()), names=list(keys)), sort_keys=list(order)
    )


def _segments(folder: Path) -> Iterator[Segment]:
    """The segments whose index and rows are as they were written."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            seal, _, text = path.read_bytes().partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != seal:
                continue
            index = json.loads(text)
            if index["checks"] != CHECKS or index["columns"] != arrow_schema().names:
                continue
            rows = path.with_suffix(".parquet")
            with rows.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != index["sha256"]:
                    continue
            files = tuple((name, tuple(state)) for name, state in index["files"])
            yield Segment(path=rows, files=files)


def _forget(folder: Path, live: Iterable[Segment]) -> None:
    """Remove what nobody has needed for an hour."""
    needed = {segment.path.stem for segment in live}
    limit = time.time() - _KEPT_S
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if (
                path.name.strip(".").partition(".")[0] not in needed
                and path.stat().st_mtime < limit
            ):
                path.unlink()


def read_left(known: Known) -> tuple[list[tuple[int, pa.Table]], list[Unreadable]]:
    """The files that are not kept, each with its place, and those that cannot be read."""
    tables, unreadable = [], []
    for place, path in known.left:
        try:
            tables.append((place, load(path)))
        except TpubenchError as error:
            unreadable.append(Unreadable(path=path, error=error))
    return tables, unreadable
