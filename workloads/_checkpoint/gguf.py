"""The GGUF container: header values and where each tensor lies.

Format: the GGUF specification of the ggml project (docs/gguf.md there), versions 2 and 3, little
endian. The ``gguf`` package has a reader too; this one reads a vocabulary of 50 000 in a tenth of
a second instead of four, and is safe on hostile files: every length is checked against the bytes
that are left before anything is read or repeated that many times.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tpubench.suite.workload import open_regular
from tpubench.workloads._checkpoint.header import quoted, refused

_FLOAT32, _BOOL, _STRING, _ARRAY = 6, 7, 8, 9
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Value type to its code for ``struct``."""

_MAX_DIMENSIONS = 4
_MAX_HEADER_BYTES = 64 << 20
_MAX_ELEMENTS = 1 << 22
"""Of all arrays together; a vocabulary and its merges take a tenth of that. Each becomes a Python
object of some fifty bytes.
"""
_ELEMENTS_AN_ENTRY = 64
"""What a key or a tensor counts for."""
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """A stored tensor: shape with the rows first, ggml type number, first byte in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFile:
    """An opened file: values by key, tensors by name, and its bytes, mapped."""

    path: Path
    values: Mapping[str, object]
    tensors: Mapping[str, GgufTensor]
    data: np.ndarray[tuple[int], np.dtype[np.uint8]]


class _FormatError(Exception):
    """What is wrong with the bytes; becomes a UsageError naming the file."""


def read_gguf(path: Path) -> GgufFile:
    """Maps a file and reads its header; UsageError when it is damaged or not GGUF."""
    try:
        with open_regular(path) as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise refused(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, MemoryError):
        raise refused(path, "the file is empty, or too large to map") from None
    try:
        values, tensors = _parse(_Cursor(data))
    except _FormatError as why:
        raise refused(path, str(why)) from None
    return GgufFile(
        path=path, values=values, tensors=tensors, data=np.frombuffer(data, dtype=np.uint8)
    )


class _Cursor:
    """Reads on through the header; :class:`_FormatError` where the file ends too soon."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 0
        self.elements = _MAX_ELEMENTS

    def skip(self, length: int) -> int:
        """Moves past ``length`` bytes and says where they start."""
        start = self.offset
        if length > len(self.data) - start:
            raise _FormatError("the file is truncated: it ends within its header")
        if start + length > _MAX_HEADER_BYTES:
            raise _FormatError(f"its header has more than {_MAX_HEADER_BYTES:,} bytes")
        self.offset = start + length
        return start

    def count(self, length: int) -> None:
        """Takes so many elements off those that a header may have."""
        self.elements -= length
        if self.elements < 0:
            raise _FormatError(f"its header has more than {_MAX_ELEMENTS:,} elements")

    def scalar(self, code: str) -> int | float | bool:
        """One little-endian number."""
        layout = "<" + code
        start = self.skip(struct.calcsize(layout))
        value: int | float | bool = struct.unpack_from(layout, self.data, start)[0]
        return value

    def integer(self, code: str) -> int:
        return int(self.scalar(code))

    def string(self) -> str:
        length = self.integer("Q")
        start = self.skip(length)
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise _FormatError("the file is damaged: text in its header is not UTF-8") from None

    def value(self) -> object:
        kind = self.integer("I")
        if kind == _ARRAY:
            return self.array()
        return self.single(kind)

    def single(self, kind: int) -> object:
        if kind == _STRING:
            return self.string()
        if kind not in _SCALARS:
            raise _FormatError(
                f"the file is damaged: its header has a value of unknown type {kind}"
            )
        value = self.scalar(_SCALARS[kind])
        # The shortest decimal that is this float32: 1e-05, not 9.999999747378752e-06.
        return float(str(np.float32(value))) if kind == _FLOAT32 else value

    def array(self) -> list[object]:
        kind, length = self.integer("I"), self.integer("Q")
        self.count(length)
        if kind == _STRING:
            return [self.string() for _ in range(length)]
        if kind not in _SCALARS:
            raise _FormatError(
                f"the file is damaged: its header has an array of unknown type {kind}"
            )
        dtype = np.dtype("<" + _SCALARS[kind]) if kind != _BOOL else np.dtype("?")
        start = self.skip(length * dtype.itemsize)
        numbers: list[object] = np.frombuffer(self.data, dtype, length, start).tolist()
        return numbers


def _parse(cursor: _Cursor) -> tuple[dict[str, object], dict[str, GgufTensor]]:
    if cursor.data[:4] != b"GGUF":
        raise _FormatError("not a GGUF file")
    cursor.skip(4)
    version = cursor.integer("I")
    if version not in (2, 3):
        raise _FormatError(
            f"GGUF version {version} is not supported: versions 2 and 3, little endian"
        )
    n_tensors, n_values = cursor.integer("Q"), cursor.integer("Q")
    cursor.count(_ELEMENTS_AN_ENTRY * (n_tensors + n_values))
    values: dict[str, object] = {}
    for _ in range(n_values):
        key = cursor.string()
        if key in values:
            raise _FormatError(f"the file is damaged: {quoted(key)} appears twice")
        values[key] = cursor.value()
    stored: dict[str, GgufTensor] = {}
    for _ in range(n_tensors):
        name = cursor.string()
        n_dimensions = cursor.integer("I")
        if name in stored or not 1 <= n_dimensions <= _MAX_DIMENSIONS:
            raise _FormatError(f"the file is damaged: bad entry for tensor {quoted(name)}")
        shape = tuple(cursor.integer("Q") for _ in range(n_dimensions))
        kind, start = cursor.integer("I"), cursor.integer("Q")
        stored[name] = GgufTensor(shape=shape[::-1], kind=kind, start=start)
    alignment = values.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise _FormatError(f"the file is damaged: alignment {quoted(alignment)} is no power of two")
    first = -(-cursor.offset // alignment) * alignment
    tensors = {
        name: GgufTensor(shape=tensor.shape, kind=tensor.kind, start=first + tensor.start)
        for name, tensor in stored.items()
    }
    return values, tensors
