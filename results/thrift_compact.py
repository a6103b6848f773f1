"""Structs in Thrift's compact protocol, read from bytes that anybody may have written.

Parquet's footer and page headers are such structs (doc/specs/thrift-compact-protocol.md of Apache
Thrift). Where two readers could see different things in the same bytes, nothing is read: a field
that comes twice or out of order, a number without end.
"""

from __future__ import annotations

from typing import Any

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
I32, I64, TEXT, LIST, STRUCT = _I32, _I64, _BINARY, _LIST, _STRUCT

_MAX_DEPTH = 12

Fields = dict[int, Any]
"""Values by ``key(id, type)``; texts are bytes. Of other types than those, None."""


class ThriftError(Exception):
    """Bytes that are no struct."""


def key(number: int, kind: int) -> int:
    """Key of a field: one of another type is another field, as for Thrift's own readers."""
    return number << 4 | kind


def read_struct(data: bytes, at: int) -> tuple[Fields, int]:
    """The struct that begins at ``at``, and where it ends. ThriftError when there is none."""
    try:
        return _struct(data, at, 0)
    except IndexError:
        raise ThriftError("it ends too soon") from None


def _struct(data: bytes, at: int, depth: int) -> tuple[Fields, int]:
    if depth > _MAX_DEPTH:
        raise ThriftError("it is nested too deeply")
    fields: Fields = {}
    last = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        kind, step = head & 15, head >> 4
        number = last + step
        if not step:
            number, at = _integer(data, at)
        if number <= last:
            raise ThriftError("its fields are out of order")
        last = number
        if kind in (_TRUE, _FALSE):
            fields[number << 4 | kind] = None
        else:
            fields[number << 4 | kind], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (_I32, _I64):
        # Most numbers are small; this is most of the time that a footer takes.
        byte = data[at]
        if byte < 128:
            return byte >> 1 ^ -(byte & 1), at + 1
        number, at = _integer(data, at)
        if kind == _I32 and not -(2**31) <= number < 2**31:
            raise ThriftError("a number is too large for its type")
        return number, at
    if kind == _BINARY:
        size, at = _unsigned(data, at)
        if size > len(data) - at:
            raise ThriftError("a text runs over the end")
        return data[at : at + size], at + size
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _LIST:
        return _list(data, at, depth)
    if kind == _I16:
        return None, _integer(data, at)[1]
    if kind in (_BYTE, _TRUE, _FALSE):
        return None, at + 1
    if kind == _DOUBLE:
        return None, at + 8
    raise ThriftError(f"it holds a value of type {kind}")


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > _MAX_DEPTH:
        raise ThriftError("it is nested too deeply")
    size, kind = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _unsigned(data, at)
    if size > len(data) - at:
        raise ThriftError("a list runs over the end")
    values = []
    for _ in range(size):
        value, at = _value(data, at, kind, depth + 1)
        values.append(value)
    return values, at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    folded, at = _unsigned(data, at)
    return folded >> 1 ^ -(folded & 1), at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >= 2**64:
                break
            return value, at
        shift += 7
    raise ThriftError("a number without end")
