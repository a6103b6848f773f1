"""Small files that stand for very much: runs of equal rows, pages that unpack to gigabytes."""

from __future__ import annotations

import copy
import json
import random

import pyarrow as pa

from hostile import thrift_compact as thrift
from hostile.stored import Base, Parts, chunks, sealed, stored
from hostile.thrift_compact import I32, I64


def repeated(base: Base, rng: random.Random) -> bytes:
    """Millions of equal rows in a few kilobytes: every page one run of one dictionary entry."""
    count = rng.choice([10_000, 30_000, 100_000, 10**6, 10**7, 10**8, 2**31 - 1])
    return equal_rows(base, count)


def equal_rows(base: Base, count: int) -> bytes:
    """A file that says its first row ``count`` times, by run lengths."""
    one = Parts(stored(base.table.slice(0, 1)))
    run = _run(count)
    for meta, pages in zip(chunks(one.footer), one.pages, strict=True):
        path = thrift.get(meta, 3)[1]
        header, _ = pages[-1]
        data = thrift.get(header, 5)
        has_levels = _nullable(base.table.schema, path)
        null = base.rows[0][path[0].decode()] is None
        levels = b""
        if len(path) > 1:  # samples: one a row, so that repetition levels are all 0
            levels += _sized(run + b"\x00") + _sized(run + b"\x03")
        elif has_levels:
            levels += _sized(run + (b"\x00" if null else b"\x01"))
        # Bit width 1, one run of entry 0; booleans have no dictionary.
        boolean = thrift.get(meta, 1) == 0
        body = b"" if null else bytes((count + 7) // 8) if boolean else b"\x01" + run + b"\x00"
        if boolean and count > 10**7:
            body = b""
        thrift.put(data, 1, I32, count)
        thrift.drop(data, 5)
        pages[-1] = (header, sealed(header, levels + body))
        thrift.put(meta, 5, I64, count)
        thrift.drop(meta, 12)
    thrift.put(one.footer, 3, I64, count)
    thrift.put(thrift.get(one.footer, 4)[1][0], 3, I64, count)
    return one.whole()


def _run(count: int) -> bytes:
    value, out = count << 1, bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _sized(levels: bytes) -> bytes:
    return len(levels).to_bytes(4, "little") + levels


def _nullable(schema: pa.Schema, path: list[bytes]) -> bool:
    return bool(schema.field(path[0].decode()).nullable)


def bomb(base: Base, rng: random.Random) -> bytes:
    """A page that unpacks to a hundred megabytes or more, whatever the footer says."""
    parts = copy.deepcopy(base.parts)
    pages = rng.choice(parts.pages)
    place = rng.randrange(len(pages))
    header, _ = pages[place]
    size = rng.choice([100, 600, 1500]) << 20
    pages[place] = (header, sealed(header, bytes(size)))
    return parts.whole()


def long_dictionary(base: Base, rng: random.Random) -> bytes:
    """One long text, told once and used by every row."""
    size, count = rng.choice([(1 << 20, 5000), (10_000, 15_000), (8 << 20, 2000)])
    name = rng.choice(["reason", "preset", "params", "environment", "price_id"])
    text = "y" * size if name != "params" else json.dumps({"a": "y" * size})
    wide = base.table.slice(0, 1)
    place = wide.column_names.index(name)
    wide = wide.set_column(place, wide.schema.field(name), pa.array([text]))
    return equal_rows(Like(wide), count)


class Like(Base):
    def __init__(self, table: pa.Table) -> None:
        self.table, self.rows = table, table.to_pylist()
