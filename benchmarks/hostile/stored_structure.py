"""Stored files with any field of the footer or of a page header changed, or a page's content."""

from __future__ import annotations

import base64
import copy
import io
import random
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hostile import thrift_compact as thrift
from hostile.stored import NUMBERS, Base, Parts, chunks, sealed, tail
from hostile.thrift_compact import BINARY, I32, I64, INTEGERS, LIST, STRUCT, Struct


def _spots(fields: Struct) -> list[tuple[list[Any], int, int]]:
    """Every value in a tree as (list that holds it, index there, type)."""
    spots: list[tuple[list[Any], int, int]] = []

    def visit(holder: list[Any], index: int, kind: int) -> None:
        value = holder[index]
        spots.append((holder, index, kind))
        if kind == STRUCT:
            for entry in value:
                visit(entry, 2, entry[1])
        elif kind in {LIST, thrift.SET}:
            for place in range(len(value[1])):
                visit(value[1], place, value[0])

    for entry in fields:
        visit(entry, 2, entry[1])
    return spots


def _disturb(fields: Struct, rng: random.Random) -> None:
    """Change one value somewhere in a tree."""
    holder, index, kind = rng.choice(_spots(fields))
    value = holder[index]
    if kind in INTEGERS:
        near = [value + 1, value - 1, value * 2, -value, value ^ 1 << rng.randrange(33)]
        holder[index] = rng.choice([*NUMBERS, *near])
    elif kind == BINARY:
        cutting = value[: rng.randrange(len(value) + 1)]
        holder[index] = rng.choice([b"", cutting, value * 2, b"\xff\xfe", b"\x00", b"a" * 70_000])
    elif kind in {LIST, thrift.SET}:
        items = value[1]
        how = rng.randrange(6)
        if how == 0:
            items.clear()
        elif how == 1 and items:
            items.append(copy.deepcopy(rng.choice(items)))
        elif how == 2 and items:
            items.pop(rng.randrange(len(items)))
        elif how == 3:
            rng.shuffle(items)
        elif how == 4 and items:
            items.extend([items[0]] * rng.choice([10, 1000, 30_000]))
        else:
            holder[index] = [rng.randrange(1, 13), items] if not items else [value[0], items[:1]]
    elif kind == STRUCT:
        if value and rng.random() < 0.5:
            value.pop(rng.randrange(len(value)))
        else:
            value.append([rng.randrange(1, 20), I32, rng.choice(NUMBERS)])
            value.sort(key=lambda entry: int(entry[0]))
    elif kind in {thrift.TRUE, thrift.FALSE}:
        holder[index] = 1 - value


def footer(base: Base, rng: random.Random) -> bytes:
    tree = copy.deepcopy(base.parts.footer)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        _disturb(tree, rng)
    size = int.from_bytes(base.data[-8:-4], "little")
    return base.data[: -8 - size] + tail(thrift.encode(tree))


def column_types(base: Base, rng: random.Random) -> bytes:
    """Physical, logical, repetition type, codec, encoding, counts of one column."""
    parts = copy.deepcopy(base.parts)
    element = rng.choice(thrift.get(parts.footer, 2)[1][1:])
    meta = rng.choice(chunks(parts.footer))
    for _ in range(rng.randint(1, 3)):
        changes: list[Callable[[], object]] = [
            lambda: thrift.put(element, 1, I32, rng.randrange(-1, 9)),
            lambda: thrift.put(element, 2, I32, rng.choice(NUMBERS)),
            lambda: thrift.put(element, 3, I32, rng.randrange(-1, 4)),
            lambda: thrift.put(element, 5, I32, rng.choice([1, 2, 5, -1, 2**31 - 1])),
            lambda: thrift.put(element, 6, I32, rng.randrange(-1, 24)),
            lambda: thrift.put(element, 10, STRUCT, [[rng.randrange(1, 19), STRUCT, []]]),
            lambda: thrift.put(element, 4, BINARY, rng.choice([b"run_id", b"", b"value"])),
            lambda: thrift.put(meta, 1, I32, rng.randrange(-1, 9)),
            lambda: thrift.put(meta, 2, LIST, [I32, [rng.randrange(0, 12)] * 3]),
            lambda: thrift.put(meta, 4, I32, rng.randrange(-1, 10)),
            lambda: thrift.put(meta, 5, I64, rng.choice(NUMBERS)),
            lambda: thrift.put(parts.footer, 3, I64, rng.choice(NUMBERS)),
            lambda: thrift.put(thrift.get(parts.footer, 4)[1][0], 3, I64, rng.choice(NUMBERS)),
        ]
        rng.choice(changes)()
    return parts.whole()


def offsets(base: Base, rng: random.Random) -> bytes:
    tree = copy.deepcopy(base.parts.footer)
    near = (0, 4, 5, len(base.data) - 8, len(base.data), len(base.data) + 1)
    for _ in range(rng.randint(1, 4)):
        meta = rng.choice(chunks(tree))
        number = rng.choice([6, 7, 9, 10, 11, 14])
        thrift.put(meta, number, I64, rng.choice([*NUMBERS, *near]))
    size = int.from_bytes(base.data[-8:-4], "little")
    return base.data[: -8 - size] + tail(thrift.encode(tree))


def statistics(base: Base, rng: random.Random) -> bytes:
    """Statistics of chunk or page that are absurd, of the wrong length, or lie."""
    parts = copy.deepcopy(base.parts)
    index = rng.randrange(len(parts.pages))
    meta = chunks(parts.footer)[index]
    values = [b"", b"\x00", b"\xff" * 8, struct.pack("<d", float("nan")), b"z" * 100_000]
    lies = [[n, BINARY, rng.choice(values)] for n in (1, 2, 5, 6)]
    lies[2:2] = [[3, I64, rng.choice(NUMBERS)], [4, I64, rng.choice(NUMBERS)]]
    if rng.random() < 0.6:
        thrift.put(meta, 12, STRUCT, lies)
    else:
        header = parts.pages[index][-1][0]
        thrift.put(thrift.get(header, 5), 5, STRUCT, lies)
    return parts.whole()


def nested(base: Base, rng: random.Random) -> bytes:
    """A column wrapped in groups, few or very many; or groups that hold too much or too little."""
    parts = copy.deepcopy(base.parts)
    elements = thrift.get(parts.footer, 2)[1]
    at = rng.randrange(1, len(elements))
    depth = rng.choice([1, 2, 20, 1000, 50_000])
    wrap = [[3, I32, rng.randrange(3)], [4, BINARY, b"g"], [5, I32, 1]]
    if rng.random() < 0.3:
        thrift.put(elements[0], 5, I32, rng.choice(NUMBERS))
    elements[at:at] = [copy.deepcopy(wrap) for _ in range(depth)]
    return parts.whole()


def arrow_schema(base: Base, rng: random.Random) -> bytes:
    """The serialised Arrow schema that pyarrow keeps beside Parquet's own, changed or replaced."""
    other = pa.schema(
        [
            pa.field("x", pa.dictionary(pa.int8(), pa.string())),
            pa.field("y", pa.map_(pa.string(), pa.list_(pa.float16()))),
        ]
    )
    out = io.BytesIO()
    pq.write_table(other.empty_table(), out)
    keys = thrift.get(base.parts.footer, 5)[1]
    (held,) = [thrift.get(pair, 2) for pair in keys if thrift.get(pair, 1) == b"ARROW:schema"]
    (foreign,) = [
        thrift.get(pair, 2)
        for pair in thrift.get(Parts(out.getvalue()).footer, 5)[1]
        if thrift.get(pair, 1) == b"ARROW:schema"
    ]
    raw = bytearray(base64.b64decode(held))
    for _ in range(rng.randint(1, 6)):
        raw[rng.randrange(len(raw))] = rng.choice([0, 255, 127, 1, rng.randrange(256)])
    text = rng.choice([base64.b64encode(raw), base64.b64encode(raw), foreign, b"!", b""])
    parts = copy.deepcopy(base.parts)
    for pair in thrift.get(parts.footer, 5)[1]:
        if thrift.get(pair, 1) == b"ARROW:schema":
            thrift.put(pair, 2, BINARY, text)
    return parts.whole()


def page_header(base: Base, rng: random.Random) -> bytes:
    parts = copy.deepcopy(base.parts)
    for _ in range(rng.choice([1, 1, 2, 5])):
        pages = rng.choice(parts.pages)
        _disturb(rng.choice(pages)[0], rng)
    return parts.whole()


def page_body(base: Base, rng: random.Random) -> bytes:
    """The content of a page changed before compression, its checksum right."""
    parts = copy.deepcopy(base.parts)
    for _ in range(rng.choice([1, 1, 3])):
        pages = rng.choice(parts.pages)
        place = rng.randrange(len(pages))
        header, body = pages[place]
        plain = bytearray(pa.decompress(body, thrift.get(header, 2), codec="zstd", asbytes=True))
        for _ in range(rng.randint(1, 4)):
            if plain:
                hit = rng.randrange(len(plain))
                plain[hit : hit + rng.choice([1, 1, 4])] = rng.choice(
                    [b"\xff", b"\x00", b"\xff\xff\xff\x7f", b"\x80", rng.randbytes(1)]
                )
        if rng.random() < 0.2:
            plain += rng.randbytes(rng.choice([1, 100]))
        pages[place] = (header, sealed(header, bytes(plain)))
    return parts.whole()


def swapped(base: Base, rng: random.Random) -> bytes:
    """Pages of one column where another's should be."""
    parts = copy.deepcopy(base.parts)
    a, b = rng.sample(range(len(parts.pages)), 2)
    parts.pages[a], parts.pages[b] = parts.pages[b], parts.pages[a]
    return parts.whole()
