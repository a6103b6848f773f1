"""Whether a Parquet file may be read at all: its layout and its size, before any page is unpacked.

A stored file may come from anybody. Footer, schema, counts and page headers are checked against
what a fact needs and against limits on work and memory, in bytes that are held in memory, so that
what is checked is what is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tpubench.results import parquet_footer
from tpubench.results.parquet_footer import BYTE_ARRAY, Footer, FooterError, shown
from tpubench.results.parquet_pages import PagesError, read_pages
from tpubench.results.row import SCHEMA_VERSION, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MAX_FILE_BYTES = 256 << 20
MAX_TABLE_BYTES = 256 << 20
"""Of a file's pages, unpacked, and again of its rows in memory."""
FREE_BYTES, MOST_UNPACKED = 64 << 20, 32
"""Beyond the free ones, times that a file may grow when it is unpacked."""
FREE_ROWS, BYTES_A_ROW = 10_000, 16
"""Rows beyond the free ones must take this much of the file: equal rows take nothing."""
MAX_ROW_GROUPS, MAX_COLUMNS = 1024, 256

ENCODINGS = {0, 2, 3, 8}
"""PLAIN, PLAIN_DICTIONARY, RLE and RLE_DICTIONARY of parquet.thrift. The delta encodings of text
can say one long text thousands of times.
"""
_BYTES_A_VALUE = 8
_WORTH_THREADS = 1 << 20
_VERSION = "schema_version"


class LayoutError(Exception):
    """A file that is not what a fact is stored as, or too much of it. One line."""


class NewerLayoutError(LayoutError):
    """A file of a schema version that is not known yet."""


def read_table(data: bytes) -> tuple[pa.Table, Footer]:
    """The rows of a file that is laid out as tpubench's are, and its footer. LayoutError, or what
    pyarrow raises.

    data: the whole file. Columns beyond :func:`arrow_schema` are kept if they are plain.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = parquet_footer.read_footer(data)
    except FooterError as error:
        raise LayoutError(str(error)) from None
    _check_counts(footer, len(data))
    most = min(MAX_TABLE_BYTES, max(FREE_BYTES, MOST_UNPACKED * len(data)))
    widest = _check_chunks(footer, data, most)
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    ours = file.schema_arrow.equals(arrow_schema())
    if not ours:
        _check_version_column(file)
        _check_schema(file.schema_arrow)
    rows_at_once = max(1, most // max(1, widest))
    if rows_at_once >= footer.rows:
        table = file.read(use_threads=len(data) > _WORTH_THREADS)
    else:
        table = _in_batches(file, min(rows_at_once, 1 << 16), most)
    _check_version(table)
    return (table if ours else _as_ours(table)), footer


def _as_ours(table: pa.Table) -> pa.Table:
    """With our columns' types to the letter: other writers name a list's elements otherwise."""
    import pyarrow as pa

    expected = arrow_schema()
    fields = [
        field.with_type(expected.field(field.name).type) if field.name in expected.names else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def _check_counts(footer: Footer, file_bytes: int) -> None:
    rows, columns, groups = footer.rows, len(footer.leaves), len(footer.groups)
    most = max(FREE_ROWS, file_bytes // BYTES_A_ROW)
    if rows > most:
        raise LayoutError(
            f"it says that it has {rows:,} rows; in {file_bytes:,} bytes at most {most:,} are read"
        )
    if columns > MAX_COLUMNS or groups > MAX_ROW_GROUPS:
        raise LayoutError(
            f"it has {columns:,} columns in {groups:,} row groups;"
            f" at most {MAX_COLUMNS} in {MAX_ROW_GROUPS} are read"
        )


def _check_chunks(footer: Footer, data: bytes, most: int) -> int:
    """Most bytes that the texts of one row can have.

    most: bytes that all pages may take, unpacked.
    """
    unpacked = values = widest = 0
    for group in footer.groups:
        texts = 0
        for chunk in group:
            try:
                pages = read_pages(data, chunk.start, chunk.end, chunk.values)
            except PagesError as error:
                raise LayoutError(f"column {shown(chunk.leaf.path)}: {error}") from None
            if not pages.encodings <= ENCODINGS:
                raise LayoutError(
                    f"column {shown(chunk.leaf.path)} is encoded in a way that no tpubench writes"
                )
            unpacked += pages.unpacked
            values += chunk.values
            if chunk.leaf.kind == BYTE_ARRAY:
                texts += pages.longest
        widest = max(widest, texts)
        if max(unpacked, values * _BYTES_A_VALUE) > most:
            raise LayoutError(f"it unpacks to more than {most:,} bytes, too many to read")
    return widest


def _check_version_column(file: pq.ParquetFile) -> None:
    """Before the schema, which another version may have changed."""
    import pyarrow as pa

    schema = file.schema_arrow
    if schema.names.count(_VERSION) == 1 and schema.field(_VERSION).type == pa.int64():
        _check_version(file.read([_VERSION], use_threads=False))


def _check_version(table: pa.Table) -> None:
    import pyarrow.compute as pc

    newest = pc.max(table[_VERSION]).as_py()
    if newest is not None and newest > SCHEMA_VERSION:
        raise NewerLayoutError(
            f"has schema version {newest}, this tpubench reads up to {SCHEMA_VERSION}:"
            " upgrade tpubench"
        )


def _check_schema(schema: pa.Schema) -> None:
    import pyarrow as pa

    expected = arrow_schema()
    if schema.equals(expected):
        return
    names = set(schema.names)
    missing = [name for name in expected.names if name not in names]
    if missing:
        raise LayoutError(f"it is not a tpubench file: it lacks {', '.join(missing)}")
    if len(names) < len(schema.names):
        twice = next(name for name in schema.names if schema.names.count(name) > 1)
        raise LayoutError(f"it has two columns {_quoted(twice)}")
    for field in schema:
        index = expected.get_field_index(field.name)
        if index >= 0:
            if field.type != expected.field(index).type:
                wanted = expected.field(index).type
                raise LayoutError(f"column {field.name} is {_quoted(field.type)}, not {wanted}")
        elif not _plain(field.type) and not (
            pa.types.is_list(field.type) and _number(field.type.value_type)
        ):
            raise LayoutError(
                f"column {_quoted(field.name)} is {_quoted(field.type)}, which no tpubench writes"
            )


def _plain(kind: pa.DataType) -> bool:
    import pyarrow as pa

    stamp = pa.timestamp("us", tz="UTC")
    return _number(kind) or kind in {pa.string(), pa.large_string(), pa.bool_(), stamp}


def _number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind))


def _in_batches(file: pq.ParquetFile, rows: int, most: int) -> pa.Table:
    """The rows, a few at a time, as long as they fit: texts may be said over and over."""
    import pyarrow as pa

    batches, size = [], 0
    for batch in file.iter_batches(batch_size=rows):
        size += batch.nbytes
        if size > most:
            raise LayoutError(f"its rows take more than {most:,} bytes, too many to read")
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def _quoted(value: object) -> str:
    text = repr(str(value))
    return text if len(text) <= 60 else f"{text[:60]}…"
