"""Any Thrift compact-protocol struct as a tree that can be changed and written back.

Parquet's footer and page headers are such structs. Format: the Apache Thrift project's
doc/specs/thrift-compact-protocol.md. A struct is a list of fields ``[id, type, value]``, a list is
``[element type, values]``; numbers are ints (bools 0 or 1), binaries are bytes.
"""

from __future__ import annotations

import struct
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
INTEGERS = {BYTE, I16, I32, I64}

Field = list[Any]
Struct = list[Field]


def decode(data: bytes, at: int = 0) -> tuple[Struct, int]:
    """The struct that begins at ``at``, and where it ends. IndexError or ValueError if there is
    none.
    """
    fields: Struct = []
    last = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        kind, step = head & 15, head >> 4
        if step:
            last += step
        else:
            last, at = _zigzag(data, at)
        value, at = _value(data, at, kind, in_field=True)
        fields.append([last, kind, value])


def encode(fields: Struct) -> bytes:
    """The bytes of a struct; ids in any order."""
    out = bytearray()
    last = 0
    for number, kind, value in fields:
        kind = (TRUE if value else FALSE) if kind in {TRUE, FALSE} else kind
        step = number - last
        if 0 < step <= 15:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            out += _unsigned(_folded(number))
        if kind not in {TRUE, FALSE}:
            out += _encoded(kind, value)
        last = number
    out.append(0)
    return bytes(out)


def get(fields: Struct, number: int) -> Any:
    """Value of a field, or None."""
    return next((value for known, _, value in fields if known == number), None)


def put(fields: Struct, number: int, kind: int, value: Any) -> None:
    """Set a field, in its place by id."""
    for field in fields:
        if field[0] == number:
            field[1:] = [kind, value]
            return
    fields.append([number, kind, value])
    fields.sort(key=lambda field: int(field[0]))


def drop(fields: Struct, number: int) -> None:
    """Remove a field."""
    fields[:] = [field for field in fields if field[0] != number]


def _value(data: bytes, at: int, kind: int, *, in_field: bool) -> tuple[Any, int]:
    if kind in {TRUE, FALSE}:
        return (int(kind == TRUE), at) if in_field else (int(data[at] == TRUE), at + 1)
    if kind == BYTE:
        return data[at], at + 1
    if kind in INTEGERS:
        return _zigzag(data, at)
    if kind == DOUBLE:
        return struct.unpack_from("<d", data, at)[0], at + 8
    if kind == BINARY:
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a text runs over the end")
        return data[at : at + size], at + size
    if kind in {LIST, SET}:
        head = data[at]
        size, at = (head >> 4, at + 1) if head >> 4 < 15 else _varint(data, at + 1)
        if size > len(data):
            raise ValueError("a list runs over the end")
        values = []
        for _ in range(size):
            value, at = _value(data, at, head & 15, in_field=False)
            values.append(value)
        return [head & 15, values], at
    if kind == STRUCT:
        return decode(data, at)
    raise ValueError(f"unknown type {kind}")


def _encoded(kind: int, value: Any) -> bytes:
    if kind in {TRUE, FALSE}:
        return bytes([TRUE if value else FALSE])
    if kind == BYTE:
        return bytes([value & 255])
    if kind in INTEGERS:
        return _unsigned(_folded(value))
    if kind == DOUBLE:
        return struct.pack("<d", value)
    if kind == BINARY:
        return _unsigned(len(value)) + bytes(value)
    if kind in {LIST, SET}:
        element, values = value
        short = len(values) < 15
        head = bytes([(len(values) if short else 15) << 4 | element])
        size = b"" if short else _unsigned(len(values))
        return head + size + b"".join(_encoded(element, item) for item in values)
    return encode(value)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 70:
            raise ValueError("an endless number")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return value >> 1 ^ -(value & 1), at


def _folded(value: int) -> int:
    """Zigzag in 64 bits."""
    return (value << 1 ^ value >> 63) & 0xFFFFFFFFFFFFFFFF


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
