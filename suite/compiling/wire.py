"""Protocol buffers on the wire: enough to write a few options and to read a large program.

No schema: a message is its field numbers (protobuf.dev, "Encoding").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


def message(fields: Mapping[int, Sequence[int | bytes]]) -> bytes:
    """A message of integers and byte strings by field number, in the order given."""
    out = bytearray()
    for number, values in fields.items():
        for value in values:
            if isinstance(value, int):
                out += varint(number << 3) + varint(value)
            else:
                out += varint(number << 3 | 2) + varint(len(value)) + value
    return bytes(out)


def varint(value: int) -> bytes:
    """An unsigned integer in groups of seven bits, the least first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; fixed-width values come as bytes. ValueError when damaged."""
    at, end = 0, len(data)
    while at < end:
        key, at = _read(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _read(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _read(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} is not one")
        if at + size > end:
            raise ValueError("a field is longer than its message")
        yield number, data[at : at + size]
        at += size


def integers(value: int | bytes) -> list[int]:
    """The values of a repeated integer field, packed or not."""
    if isinstance(value, int):
        return [value]
    values, at = [], 0
    while at < len(value):
        number, at = _read(value, at)
        values.append(number)
    return values


def _read(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number does not end")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
