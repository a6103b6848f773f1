"""What a compiled TPU program will do, read from its optimised HLO as libtpu serialises it.

libtpu writes its own cost estimate, ``estimated_cycles``, on most operations of the scheduled
entry computation, and on every buffer the memory it lives in (0 is HBM, 1 on-chip). What it does
not cost - asynchronous copies, collectives, kernels given as machine code, gathers, in-place
updates - is counted here, so that the estimate can add it and say so.

Field numbers are those of xla/service/hlo.proto and xla/xla_data.proto.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from tpubench.errors import RunFailedError
from tpubench.suite.compiling.wire import fields, integers

_ITEM_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 2, 8: 4, 9: 8, 10: 2, 11: 4, 12: 8, 16: 2, 19: 1,
    20: 1, 21: 0.5, 22: 0.5,
}  # fmt: skip
"""Bytes of an element by PrimitiveType: PRED, S8-S64, U8-U64, F16-F64, BF16, F8, S4, U4."""
_COLLECTIVES = (
    "all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
)  # fmt: skip
_FREE = {
    "parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "partition-id",
    "replica-id", "iota", "reshape", "opt-barrier", "async-update",
}  # fmt: skip
"""Operations that take no time of their own."""
_INTERNAL_CALLS = {"X64SplitLow", "X64SplitHigh", "X64Combine", "ConcatBitcast", "AllocateBuffer"}
"""Custom calls by which the compiler names something it does for nothing."""
_CYCLES = re.compile(rb'"estimated_cycles":"(\d+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An exchange: its kind, the bytes of one device's result, how many devices take part."""

    kind: str
    bytes: int
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCost:
    """The compiler's estimate of one run of a program on one device, and what it leaves out.

    cycles: sum over all operations that carry an estimate.
    streaming_cycles: the part of it in operations that read or write HBM themselves.
    streaming_bytes: HBM bytes of those operations.
    prefetch_bytes: HBM bytes moved by asynchronous copies, which carry no cycles.
    uncovered: operations without cycles, by name.
    custom_calls: kernels given as machine code, by target.
    """

    cycles: float
    streaming_cycles: float
    streaming_bytes: float
    prefetch_bytes: float
    collectives: tuple[Exchange, ...] = ()
    uncovered: Mapping[str, int] = field(default_factory=dict)
    custom_calls: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Array:
    size: float
    """Bytes."""
    hbm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Op:
    id: int
    opcode: str
    arrays: tuple[_Array, ...]
    """Those of its result; of each part when that is a tuple."""
    operands: tuple[int, ...]
    calls: int | None
    number: int
    """Of a parameter."""
    target: str
    cycles: int | None
    group: int
    """Devices that exchange with each other; 0 when it does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Computation:
    ops: tuple[_Op, ...]
    root: int


def cost(module: bytes, *, devices: int = 1, elsewhere: Collection[int] = ()) -> ProgramCost:
    """The cost of a serialised HloModuleProtoWithConfig; RunFailedError when it is not one.

    devices: of the whole slice, for an exchange that does not name its members.
    elsewhere: arguments whose traffic is accounted for by other means (the caches, which the
    attention added by the estimate reads): copying them about costs nothing here.
    """
    try:
        computations, entry = _parse(module)
    except (ValueError, KeyError, TypeError) as error:
        raise RunFailedError(
            f"the compiled program cannot be read: libtpu changed ({error})"
        ) from None
    arrays = {op.id: op.arrays for op in entry.ops}
    for known in _renamed(entry, elsewhere):
        arrays[known] = ()
    cycles = streaming_cycles = streaming_bytes = prefetch_bytes = 0.0
    uncovered: Counter[str] = Counter()
    custom_calls: Counter[str] = Counter()
    collectives: list[Exchange] = []
    for op in entry.ops:
        called = computations.get(op.calls or 0)
        exchange = _collective(op, computations, devices)
        if exchange is not None:
            collectives.append(exchange)
            uncovered[exchange.kind] += 1
        elif op.opcode in _FREE or op.opcode.endswith("-done"):
            continue
        elif op.opcode in {"copy-start", "async-start"}:
            uncovered[op.opcode] += 1
            # Without an operand its computation makes what it writes: nothing is read.
            if op.operands and arrays.get(op.operands[0]):
                prefetch_bytes += _prefetched(op)
        elif op.opcode == "custom-call":
            if op.target not in _INTERNAL_CALLS:
                custom_calls[op.target] += 1
                uncovered[op.opcode] += 1
        else:
            moved = _hbm_bytes(op, called, arrays)
            if op.cycles is None:
                uncovered[op.opcode] += 1
                prefetch_bytes += moved
                continue
            cycles += op.cycles
            if moved:
                streaming_cycles += op.cycles
                streaming_bytes += moved
    return ProgramCost(
        cycles=cycles,
        streaming_cycles=streaming_cycles,
        streaming_bytes=streaming_bytes,
        prefetch_bytes=prefetch_bytes,
        collectives=tuple(collectives),
        uncovered=dict(uncovered),
        custom_calls=dict(custom_calls),
    )


def _parse(module: bytes) -> tuple[dict[int, _Computation], _Computation]:
    (inner,) = [value for number, value in fields(module) if number == 1]
    if isinstance(inner, int):
        raise ValueError("not a module")
    computations, entry = {}, 0
    for number, value in fields(inner):
        if number == 3 and isinstance(value, bytes):
            known, computation = _computation(value)
            computations[known] = computation
        elif number == 6 and isinstance(value, int):
            entry = value
    return computations, computations[entry]


def _computation(data: bytes) -> tuple[int, _Computation]:
    known = root = 0
    ops = []
    for number, value in fields(data):
        if number == 2 and isinstance(value, bytes):
            ops.append(_op(value))
        elif number == 5 and isinstance(value, int):
            known = value
        elif number == 6 and isinstance(value, int):
            root = value
    return known, _Computation(ops=tuple(ops), root=root)


def _op(data: bytes) -> _Op:
    opcode = target = ""
    known = parameter = group = 0
    operands: list[int] = []
    calls: list[int] = []
    cycles: int | None = None
    arrays: tuple[_Array, ...] = ()
    for number, value in fields(data):
        if isinstance(value, bytes):
            if number == 2:
                opcode = value.decode()
            elif number == 3:
                arrays = tuple(_arrays(value))
            elif number == 28:
                target = value.decode()
            elif number == 43:
                match = _CYCLES.search(value)
                cycles = int(match[1]) if match else None
            elif number == 49:
                group = max(group, _members(value))
            elif number == 87:
                group = max(group, _listed(value))
        if number == 35 and isinstance(value, int):
            known = value
        elif number == 9 and isinstance(value, int):
            parameter = value
        elif number == 36:
            operands += integers(value)
        elif number == 38:
            calls += integers(value)
    return _Op(
        id=known,
        opcode=opcode,
        arrays=arrays,
        operands=tuple(operands),
        calls=calls[0] if calls else None,
        number=parameter,
        target=target,
        cycles=cycles,
        group=group,
    )


def _arrays(shape: bytes) -> Iterator[_Array]:
    kind, count, space = 0, 1, 0
    parts: list[bytes] = []
    for number, value in fields(shape):
        if number == 2 and isinstance(value, int):
            kind = value
        elif number == 3:
            count *= math.prod(integers(value))
        elif number == 4 and isinstance(value, bytes):
            parts.append(value)
        elif number == 5 and isinstance(value, bytes):
            space = next((v for n, v in fields(value) if n == 8 and isinstance(v, int)), 0)
    for part in parts:
        yield from _arrays(part)
    if kind in _ITEM_BYTES:
        yield _Array(size=count * _ITEM_BYTES[kind], hbm=space == 0)


def _members(group: bytes) -> int:
    """Devices of a ReplicaGroup."""
    return sum(len(integers(value)) for number, value in fields(group) if number == 1)


def _listed(devices: bytes) -> int:
    """Devices of each group of a CollectiveDeviceListProto: as lists, or as a regular pattern."""
    for number, value in fields(devices):
        if number == 1 and isinstance(value, bytes):
            return _members(value)
        if number == 2 and isinstance(value, bytes):
            return next((v for n, v in fields(value) if n == 2 and isinstance(v, int)), 0)
    return 0


def _renamed(entry: _Computation, numbers: Collection[int]) -> set[int]:
    """The arguments of those numbers, and what is only another name or a copy of them."""
    renamed = {op.id for op in entry.ops if op.opcode == "parameter" and op.number in numbers}
    same = {"bitcast", "copy-start", "copy-done", "dynamic-update-slice", "copy"}
    for op in entry.ops:
        if op.opcode in same and op.operands and op.operands[0] in renamed:
            renamed.add(op.id)
    return renamed


def _total(arrays: tuple[_Array, ...]) -> float:
    return sum(array.size for array in arrays)


def _hbm(arrays: tuple[_Array, ...]) -> float:
    return sum(array.size for array in arrays if array.hbm)


def _prefetched(op: _Op) -> float:
    """Bytes that an asynchronous copy moves to or from HBM: those of its destination.

    Its result holds destination, source and a few bytes of context, in either order.
    """
    sizes = [array for array in op.arrays if array.size > 8]
    if not any(array.hbm for array in sizes):
        return 0.0
    return min(array.size for array in sizes)


def _hbm_bytes(
    op: _Op, called: _Computation | None, arrays: Mapping[int, tuple[_Array, ...]]
) -> float:
    """HBM bytes that an operation reads and writes itself."""
    if op.opcode == "dynamic-update-slice":
        return 2 * _total(arrays.get(op.operands[1], ()))
    read, written = 0.0, _hbm(op.arrays)
    for index, operand in enumerate(op.operands):
        size = _hbm(arrays.get(operand, ()))
        if size and called is not None:
            size = min(size, _read_inside(called, index, size))
        read += size
    if called is not None:
        inside = {inner.id: inner for inner in called.ops}
        root = inside.get(called.root)
        if root is not None and root.opcode in {"dynamic-update-slice", "scatter"}:
            update = inside.get(root.operands[1 if root.opcode != "scatter" else -1])
            written = min(written, _total(update.arrays) if update else written)
    return read + written


def _read_inside(called: _Computation, index: int, size: float) -> float:
    """Bytes that a fusion reads of its ``index``-th operand: a gather reads only what it picks."""
    names = {op.id for op in called.ops if op.opcode == "parameter" and op.number == index}
    picked = 0.0
    for op in called.ops:
        if not names & set(op.operands):
            continue
        if op.opcode in {"bitcast", "reshape"}:
            names.add(op.id)
        elif op.opcode in {"gather", "dynamic-slice", "slice"}:
            picked += _total(op.arrays)
        elif op.opcode in {"dynamic-update-slice", "scatter"} and op.operands[0] in names:
            continue
        else:
            return size
    return picked


def _collective(op: _Op, computations: Mapping[int, _Computation], devices: int) -> Exchange | None:
    """The exchange that an operation is, or that is inside what it calls, however deep."""
    kind = op.opcode.removesuffix("-start")
    if kind in _COLLECTIVES:
        sizes = [array.size for array in op.arrays]
        started = op.opcode != kind  # its result then holds operand and result
        size = max(sizes, default=0.0) if started else sum(sizes)
        return Exchange(kind=kind, bytes=int(size), devices=op.group or devices)
    called = computations.get(op.calls or 0)
    for inner in called.ops if called is not None else ():
        inside = _collective(inner, computations, devices)
        if inside is not None:
            return inside
    return None
