"""What the pages of a Parquet file say of themselves, read without unpacking any.

pyarrow trusts a page's header: a few hundred kilobytes may unpack to gigabytes, and a run length
may stand for a hundred million values. So the headers are read first, from the file's bytes
(PageHeader in parquet.thrift of apache/parquet-format).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.results.thrift_compact import I32, STRUCT, ThriftError, key, read_struct

DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3
_TYPE, _UNPACKED, _PACKED, _COUNT = key(1, I32), key(2, I32), key(3, I32), key(1, I32)
_BODY = {DATA_PAGE: key(5, STRUCT), DICTIONARY_PAGE: key(7, STRUCT), DATA_PAGE_V2: key(8, STRUCT)}
"""Type of a page to the part of its header that says more."""
_ENCODING = {DATA_PAGE: key(2, I32), DICTIONARY_PAGE: key(2, I32), DATA_PAGE_V2: key(4, I32)}


class PagesError(Exception):
    """Pages that cannot be what a chunk's metadata says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """The pages of one column chunk together. Sizes in bytes."""

    unpacked: int
    longest: int
    """Size of the largest page, unpacked: no single value is larger."""
    encodings: frozenset[int]


def read_pages(data: bytes, start: int, end: int, values: int) -> Pages:
    """The pages in ``data[start:end]`` that hold ``values`` values (nulls count).

    PagesError when they run over the end, contradict each other, or are of an unknown kind.
    """
    at, seen, unpacked, longest = start, 0, 0, 0
    encodings = set()
    while seen < values:
        try:
            header, at = read_struct(data, at)
            kind, size, packed = header[_TYPE], header[_UNPACKED], header[_PACKED]
            body = header[_BODY[kind]]
            count, encoding = body[_COUNT], body[_ENCODING[kind]]
        except (ThriftError, KeyError):
            raise PagesError("a page has no readable header") from None
        if min(size, packed, count) < 0:
            raise PagesError("a page's header holds impossible sizes")
        at += packed
        if at > end:
            raise PagesError("its pages run over the end of their column")
        if kind != DICTIONARY_PAGE:
            if not count:  # it would not end the search
                raise PagesError("a page holds no value")
            seen += count
        elif unpacked:
            raise PagesError("a dictionary is not its column's first page")
        encodings.add(encoding)
        unpacked += size
        longest = max(longest, size)
    if seen != values:
        raise PagesError("its pages hold more values than its metadata says")
    return Pages(unpacked=unpacked, longest=longest, encodings=frozenset(encodings))
