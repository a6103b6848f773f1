"""Where facts live: a folder of immutable Parquet files, one for each repetition of a case.

There is no index to corrupt and no lock to wait for: a writer makes a temporary file, syncs it,
and links it to its final name, which fails if that name exists. A reader lists the folder. Parquet
page checksums do not cover the footer, so each file also carries a SHA-256 of all its bytes
(:mod:`.seal`); a file that does not match is reported and the others load.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import functools
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.errors import DamagedError, TpubenchError, UsageError
from tpubench.results import object_storage, parquet_layout, regular_file, row_check, seal
from tpubench.results.listing import Listing
from tpubench.results.listing import Unreadable as Unreadable
from tpubench.results.listing import files as files
from tpubench.results.parquet_footer import Footer
from tpubench.results.row import Row, arrow_schema, to_table

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST_KEY = b"tpubench.rows_sha256"
"""Of files without a seal that the first versions wrote: :func:`digest`."""
COLUMNS_KEY = b"tpubench.columns_sha256"
DEFAULT_STORE = "bench-results"
_PROBE_BYTES = 1 << 16
"""About what a repetition takes: a full disk still has room for an empty file."""
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
_ROWS_AT_ONCE = 4096
"""Rows that are Python objects at the same time while they are hashed."""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class NotStoredError(TpubenchError):
    """The disk refused what was measured: it is full, or fails. What was stored before stays."""

    exit_code = 5


class NewerSchemaError(TpubenchError):
    """A file written by a newer, incompatible tpubench."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """All rows of a store that could be read, and what could not.

    drawn: which of the rows that were selected these are, in words; None where they are all.
    """

    table: pa.Table
    unreadable: list[Unreadable]
    drawn: str | None = None


def default_store() -> Path:
    """``$TPUBENCH_STORE`` if set, else ``bench-results`` in the working directory."""
    return object_storage.located(os.environ.get("TPUBENCH_STORE") or DEFAULT_STORE)


def is_named_by_environment() -> bool:
    """Whether ``$TPUBENCH_STORE`` says where the store is."""
    return bool(os.environ.get("TPUBENCH_STORE"))


def prepare(store: Path) -> None:
    """Make the folder and prove that it can be written, before an hour of measuring.

    UsageError when it cannot; NotStoredError when it is full.
    """
    probe = store / f".probe-{secrets.token_hex(4)}"
    try:
        store.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(_PROBE_BYTES))
        probe.unlink()
        object_storage.probe(store)
    except OSError as error:
        kind = NotStoredError if error.errno in _FULL else UsageError
        raise kind(f"store {store} cannot be written: {_why(error)}") from None


def get_ready() -> None:
    """Import what rows and files need, half a second of a processor: while nothing is measured, and
    not between two cases."""
    import pyarrow.parquet  # noqa: F401
    import scipy.special  # noqa: F401

    to_table([])  # pyarrow looks for pandas as it makes its first array


def write(store: Path, name: str, rows: list[Row]) -> Path:
    """Store ``rows`` as one new immutable file ``<store>/<run_id>/<name>.parquet``.

    More rows than a reader takes in a file go into further ones, ``<name>-2`` and so on, before it.
    Returns only when all files and their directory entries are on disk. NotStoredError when the
    disk refuses (full, read-only), UsageError when the name is taken or a row would not be read
    again; nothing half-written is ever visible.
    """
    if not rows:
        raise ValueError("a file needs at least one row")
    most = parquet_layout.FREE_ROWS
    for start in range((len(rows) - 1) // most * most, 0, -most):
        write_table(store, f"{name}-{start // most + 1}", to_table(rows[start : start + most]))
    return write_table(store, name, to_table(rows[:most]))


def write_table(store: Path, name: str, table: pa.Table) -> Path:
    """As :func:`write`, of rows in a table that one file takes; the first row names the run."""
    return write_into(store / str(table["run_id"][0].as_py()), name, table)


def write_into(folder: Path, name: str, table: pa.Table) -> Path:
    """As :func:`write_table`, into a folder; NotStoredError and UsageError as there."""
    import pyarrow.parquet as pq

    why = row_check.problem(table)
    if why is not None:
        raise UsageError(f"cannot store {name}: {why}")
    table = table.replace_schema_metadata({COLUMNS_KEY: seal.columns_sha256(table)})
    final = folder / f"{name}.parquet"
    try:
        packed = io.BytesIO()
        pq.write_table(table, packed, compression="zstd", write_page_checksum=True)
        write_once(final, seal.sealed(packed.getvalue()))
    except FileExistsError:
        raise UsageError(f"{final} exists already: facts are never overwritten") from None
    except OSError as error:
        raise NotStoredError(
            f"cannot store {final}: {_why(error)}; what had ended before is kept"
        ) from None
    return final


def write_once(final: Path, data: bytes) -> None:
    """A new file, whole or not at all, on disk with its directory entries when this returns; of a
    store in a bucket, there as well.

    FileExistsError when the name is taken, any other OSError as the disk refuses.
    """
    object_storage.put(final, data)
    folder = final.parent
    temporary = folder / f".{final.name}.{secrets.token_hex(6)}.tmp"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        publish(temporary, final)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    for directory in (folder, folder.parent):
        sync_directory(directory)


def load(path: Path) -> pa.Table:
    """One file, verified: its layout and size before it is unpacked, page checksums, the digest of
    its rows, and that each row is a fact.

    DamagedError when it cannot be read or anything does not match, NewerSchemaError when the layout
    is from the future. Columns this version does not know are kept.
    """
    import pyarrow as pa

    try:
        data = regular_file.read_bounded(path, parquet_layout.MAX_FILE_BYTES)
        table, footer = parquet_layout.read_table(data)
        table.validate(full=True)
        why = row_check.problem(table) or _not_as_stored(data, footer, table)
    except OSError as error:
        # pyarrow's errors of damaged pages are OSErrors too, without a number.
        state = "cannot be read" if error.errno else "is damaged"
        raise DamagedError(f"{path} {state}: {_why(error)}") from None
    except parquet_layout.NewerLayoutError as error:
        raise NewerSchemaError(f"{path} {error}") from None
    except parquet_layout.LayoutError as error:
        raise DamagedError(f"{path} is no result file: {error}") from None
    except (pa.ArrowException, ValueError, MemoryError, OverflowError, IndexError) as error:
        raise DamagedError(f"{path} is damaged: {_why(error)}") from None
    if why is not None:
        raise DamagedError(f"{path} is damaged: {why}")
    return table.replace_schema_metadata(None)


def _not_as_stored(data: bytes, footer: Footer, table: pa.Table) -> str | None:
    """What differs from what was stored: any byte, or of a file without a seal, any cell."""
    whole = seal.holds(data, footer)
    if whole is not None:
        return None if whole else "its bytes do not match their SHA-256"
    kept = table.schema.metadata or {}
    stored, again = kept.get(COLUMNS_KEY), seal.columns_sha256
    if stored is None:
        stored, again = kept.get(DIGEST_KEY), digest
    if stored is None or stored.decode("ascii", "replace") != again(table):
        return "its rows do not match their SHA-256"
    return None


def scan(paths: Iterable[Path]) -> Scan:
    """Every readable row of these files, and what was left out, of listing them too."""

    tables = []
    unreadable = list(paths.unreadable) if isinstance(paths, Listing) else []
    for path in paths:
        try:
            tables.append(load(path))
        except TpubenchError as error:
            unreadable.append(Unreadable(path=path, error=error))
    table = together(tables) if tables else arrow_schema().empty_table()
    return Scan(table=table, unreadable=unreadable)


def together(tables: list[pa.Table]) -> pa.Table:
    """One table. Columns unknown to this version that have types which do not go together are
    left out of it.
    """
    import pyarrow as pa

    kinds: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            kinds.setdefault(field.name, set()).add(field.type)
    known = set(arrow_schema().names)
    clashing = {name for name, types in kinds.items() if len(types) > 1} - known
    if clashing:
        tables = [
            table.drop_columns([name for name in table.column_names if name in clashing])
            for table in tables
        ]
    return pa.concat_tables(tables, promote_options="default")


def digest(table: pa.Table) -> str:
    """SHA-256 of the rows themselves, whatever the encoding of the file that holds them."""
    sha = hashlib.sha256()
    encode = json.JSONEncoder(sort_keys=True, default=_json_value, ensure_ascii=False).encode
    for start in range(0, table.num_rows, _ROWS_AT_ONCE):
        for record in records(table.slice(start, _ROWS_AT_ONCE)):
            sha.update(encode(record).encode("utf-8", "surrogatepass") + b"\n")
    return sha.hexdigest()


def records(
    table: pa.Table, shown: Callable[[str, str], str] | None = None
) -> list[dict[str, Any]]:
    """The table as dictionaries. Equal texts of a column are one object: a store has few of them,
    and those of a million rows would not fit beside each other.

    shown: what is to stand in a column for a text.
    """
    names = table.column_names
    columns = [
        _cells(column, shown and functools.partial(shown, name))
        for name, column in zip(names, table.columns, strict=True)
    ]
    return [dict(zip(names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _cells(column: pa.ChunkedArray, shown: Callable[[str], str] | None) -> list[Any]:
    """Its cells as Python objects, without the pandas that pyarrow loads for a timestamp."""
    import pyarrow as pa

    stamps = column.type == pa.timestamp("us", tz="UTC")
    if stamps:
        column = column.cast(pa.int64())
    if stamps or pa.types.is_string(column.type):
        column = column.dictionary_encode()
    cells: list[Any] = []
    if not pa.types.is_dictionary(column.type):
        cells += column.to_pylist()
        return cells
    for chunk in column.chunks:
        words = chunk.dictionary.to_pylist()
        if stamps:
            words = [_EPOCH + dt.timedelta(microseconds=word) for word in words]
        elif shown is not None:
            words = [shown(word) for word in words]
        cells += [None if place is None else words[place] for place in chunk.indices.to_pylist()]
    return cells


def iter_rows(table: pa.Table, shown: Callable[[str, str], str] | None = None) -> Iterator[Row]:
    """Stored records as :class:`Row`, ``shown`` as in :func:`records`; columns unknown to this
    version are left out.
    """
    names = arrow_schema().names
    for record in records(table.select(names), shown):
        yield Row(**record)


def _json_value(value: Any) -> str:
    return str(value.isoformat()) if hasattr(value, "isoformat") else repr(value)


def publish(temporary: Path, final: Path) -> None:
    """Give a whole file its name. FileExistsError where that is taken; OSError of the disk."""
    try:
        final.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        # A file system without hard links. Run ids are random, so nobody else takes the name
        # between these two lines.
        if final.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.replace(final)


def sync_directory(directory: Path) -> None:
    """Have the entries of a folder on disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _why(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
