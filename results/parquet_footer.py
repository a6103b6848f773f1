"""A Parquet footer, read and checked here before pyarrow sees it.

pyarrow 26 ends the process (``abort``) when it is asked for the metadata of some damaged footers,
so what a stored file may look like is decided first: flat columns and lists of plain values, in
chunks whose places, types and counts agree (FileMetaData in parquet.thrift of
apache/parquet-format).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.results.thrift_compact import (
    I32,
    I64,
    LIST,
    STRUCT,
    TEXT,
    Fields,
    ThriftError,
    key,
    read_struct,
)

MAX_BYTES = 1 << 20
BYTE_ARRAY = 6
_TYPES = {0, 1, 2, 4, 5, BYTE_ARRAY}
"""BOOLEAN, INT32, INT64, FLOAT, DOUBLE, BYTE_ARRAY."""
_CODECS = {0, 1, 6}
"""UNCOMPRESSED, SNAPPY, ZSTD: what tpubench, DuckDB and pandas write. Every other one would be a
decoder more to trust.
"""
_REPEATED = 2
_MAGIC = b"PAR1"

# FileMetaData
_SCHEMA, _ROWS, _GROUPS, _ENCRYPTION = key(2, LIST), key(3, I64), key(4, LIST), key(8, STRUCT)
# SchemaElement
_TYPE, _REPETITION, _NAME, _CHILDREN = key(1, I32), key(3, I32), key(4, TEXT), key(5, I32)
# RowGroup
_COLUMNS, _GROUP_ROWS = key(1, LIST), key(3, I64)
# ColumnChunk
_ELSEWHERE, _META = key(1, TEXT), key(3, STRUCT)
_ENCRYPTED = (key(8, STRUCT), key(9, TEXT))
# ColumnMetaData
_PATH, _CODEC, _VALUES, _PACKED = key(3, LIST), key(4, I32), key(5, I64), key(7, I64)
_DATA, _DICTIONARY = key(9, I64), key(11, I64)


class FooterError(Exception):
    """A footer that no stored file has. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A column that holds values. ``path``: its name and those of the groups it is in."""

    path: tuple[bytes, ...]
    kind: int
    """Physical type, by its number in parquet.thrift."""

    @property
    def flat(self) -> bool:
        """At most one value a row."""
        return len(self.path) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The values of a column in a row group: bytes ``start`` to ``end`` of the file."""

    leaf: Leaf
    values: int
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What matters of a footer: rows in all, and the chunks of each row group."""

    rows: int
    leaves: tuple[Leaf, ...]
    groups: tuple[tuple[Chunk, ...], ...]


def read_footer(data: bytes) -> Footer:
    """The footer of a whole file. FooterError when it is none that a stored file has."""
    if len(data) < 12 or data[-4:] != _MAGIC or data[:4] != _MAGIC:
        raise FooterError("it is not a Parquet file, or was cut short")
    size = int.from_bytes(data[-8:-4], "little")
    if size > min(len(data) - 12, MAX_BYTES):
        raise FooterError(f"its footer has {size:,} bytes, which it cannot have")
    start = len(data) - 8 - size
    try:
        fields, _ = read_struct(data[start:-8], 0)
        if _ENCRYPTION in fields:
            raise FooterError("it is encrypted")
        leaves = _leaves(fields[_SCHEMA])
        groups = tuple(_chunks(group, leaves, start) for group in fields[_GROUPS])
        rows: int = fields[_ROWS]
        in_groups = [group[_GROUP_ROWS] for group in fields[_GROUPS]]
    except ThriftError as error:
        raise FooterError(f"its footer is unreadable: {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError):
        raise FooterError("its footer lacks what every footer has") from None
    if sum(in_groups) != rows or min(in_groups, default=0) < 0:
        raise FooterError("its row groups have another number of rows than it says")
    for chunks, count in zip(groups, in_groups, strict=True):
        for chunk in chunks:
            if chunk.values != count if chunk.leaf.flat else chunk.values < count:
                name = shown(chunk.leaf.path)
                raise FooterError(f"column {name} has another number of values than there are rows")
    return Footer(rows=rows, leaves=leaves, groups=groups)


def shown(path: tuple[bytes, ...]) -> str:
    """A column's name, fit for a one-line message."""
    text = repr(b".".join(path).decode("utf-8", "replace"))
    return text if len(text) <= 60 else f"{text[:60]}…"


def _leaves(schema: list[Fields]) -> tuple[Leaf, ...]:
    """Columns in their order. A list is a group that holds a repeated group that holds its
    elements; no other nesting is taken.
    """
    root, left = schema[0], schema[1:]
    leaves = []
    tops = 0
    while left:
        tops += 1
        path = [left[0][_NAME]]
        if _CHILDREN in left[0]:
            outer, middle, *left = left
            if outer[_CHILDREN] != 1 or outer.get(_REPETITION) == _REPEATED or not left:
                raise FooterError(f"column {shown((path[0],))} is nested, as no tpubench writes")
            if middle.get(_CHILDREN) != 1 or middle.get(_REPETITION) != _REPEATED:
                raise FooterError(f"column {shown((path[0],))} is nested, as no tpubench writes")
            path += [middle[_NAME], left[0][_NAME]]
        leaf, left = left[0], left[1:]
        if _CHILDREN in leaf or leaf.get(_REPETITION) == _REPEATED:
            raise FooterError(f"column {shown((path[0],))} is nested, as no tpubench writes")
        if leaf[_TYPE] not in _TYPES:
            raise FooterError(f"column {shown((path[0],))} is of a type that no tpubench writes")
        leaves.append(Leaf(path=tuple(path), kind=leaf[_TYPE]))
    if root[_CHILDREN] != tops:
        raise FooterError("its schema does not add up")
    return tuple(leaves)


def _chunks(group: Fields, leaves: tuple[Leaf, ...], end: int) -> tuple[Chunk, ...]:
    columns = group[_COLUMNS]
    if len(columns) != len(leaves):
        raise FooterError("a row group lacks a column")
    return tuple(_chunk(column, leaf, end) for column, leaf in zip(columns, leaves, strict=True))


def _chunk(column: Fields, leaf: Leaf, end: int) -> Chunk:
    name = shown(leaf.path)
    meta = column[_META]
    if column.get(_ELSEWHERE):
        raise FooterError(f"column {name} lies in another file")
    if any(mark in column for mark in _ENCRYPTED):
        raise FooterError(f"column {name} is encrypted")
    if tuple(meta[_PATH]) != leaf.path or meta[_TYPE] != leaf.kind:
        raise FooterError(f"column {name} is another in its row group than in the schema")
    if meta[_CODEC] not in _CODECS:
        raise FooterError(f"column {name} is compressed in a way that no tpubench writes")
    first, dictionary = meta[_DATA], meta.get(_DICTIONARY)
    if dictionary is not None and 0 < dictionary < first:
        first = dictionary
    last = first + meta[_PACKED]
    if not 4 <= first <= last <= end:
        raise FooterError(f"column {name} lies outside the file")
    return Chunk(leaf=leaf, values=meta[_VALUES], start=first, end=last)
