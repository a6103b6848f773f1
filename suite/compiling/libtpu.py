"""The child process that compiles StableHLO for a TPU that is not there:
``python -m tpubench.suite.compiling.libtpu``.

libtpu brings the compiler of every TPU generation, and needs no TPU for a topology that is named.
It is called through its C interface, by ctypes: nothing of it but the library itself is needed.
Reads one JSON request from standard input and writes the answer to the file named by its only
argument; see :func:`compile_all`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import re
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite.compiling.stablehlo import annotated
from tpubench.suite.compiling.wire import message
from tpubench.suite.lifeline import die_with_parent

_HEADER = 40
"""Bytes of the function table before its first pointer (pjrt_c_api.h, PJRT_Api)."""

# Slots of the function table (pjrt_c_api.h, version 0.116).
_ERROR_DESTROY, _ERROR_MESSAGE, _PLUGIN_INITIALIZE = 0, 1, 3
_DESCRIPTION_ID, _EXECUTABLE_DESTROY, _OPTIMIZED_PROGRAM = 23, 40, 48
_TOPOLOGY_CREATE, _TOPOLOGY_DEVICES, _COMPILE, _MEMORY_STATS = 82, 86, 89, 96

_OUT_OF_HBM = re.compile(r"CompileTimeHbmOom|RESOURCE_EXHAUSTED.*HBM", re.S)
_MEMORY = ("code", "arguments", "outputs", "aliased", "temporary")
"""The figures of PJRT_Executable_GetCompiledMemoryStats, in order, int64 each."""


class Plugin:
    """libtpu's function table. Each function takes one structure: its size, a null, the fields."""

    def __init__(self, library: Path) -> None:
        get = ctypes.CDLL(str(library)).GetPjrtApi
        get.restype = ctypes.c_void_p
        self._table: int = get()
        self.call(_PLUGIN_INITIALIZE)

    def call(self, slot: int, *fields: int, room: int = 0) -> tuple[int, ...]:
        """The structure's 8-byte fields after a call, results included.

        ``room``: fields beyond ``fields`` for results. RunFailedError with the library's message.
        """
        count = 2 + len(fields) + room
        args = (ctypes.c_uint64 * count)(8 * count, 0, *fields)
        error = self._function(slot)(ctypes.addressof(args))
        if error:
            raise RunFailedError(self._words(error))
        return tuple(args[2:])

    def _function(self, slot: int) -> Any:
        address = ctypes.c_void_p.from_address(self._table + _HEADER + 8 * slot).value
        return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(address or 0)

    def _words(self, error: int) -> str:
        args = (ctypes.c_uint64 * 5)(40, 0, error, 0, 0)
        self._function(_ERROR_MESSAGE)(ctypes.addressof(args))
        words = ctypes.string_at(args[3], args[4]).decode("utf-8", "replace")
        freed = (ctypes.c_uint64 * 3)(24, 0, error)
        self._function(_ERROR_DESTROY)(ctypes.addressof(freed))
        return words


def compile_all(request: dict[str, Any]) -> dict[str, Any]:
    """Compile exported programs for a topology.

    request: ``topology`` (libtpu's name, ``v6e:2x2``), ``chip_config``, ``devices``,
    ``programs`` (each with ``mlir``, the file to read, ``args``, ``result_cut`` and
    ``resident_bytes`` as exported, and ``hlo``, the file to write).
    The answer: ``versions`` and ``programs``, in order, each with ``compile_time_s`` and
    ``memory`` (bytes a device, by kind), or ``out_of_memory``, the compiler's own words, or
    ``error``. UsageError for a topology that libtpu does not know, RunFailedError where it has
    other devices than asked for.
    """
    plugin = Plugin(_library())
    try:
        topology = _topology(plugin, request["topology"], request["chip_config"])
    except RunFailedError as error:
        words = _first_line(str(error))
        raise UsageError(f"libtpu knows no topology {request['topology']}: {words}") from None
    devices = _devices(plugin, topology)
    if len(devices) != request["devices"]:
        raise RunFailedError(
            f"{request['topology']} has {len(devices)} devices, not {request['devices']}"
        )
    programs = [compile_program(plugin, topology, devices, each) for each in request["programs"]]
    return {"programs": programs, "versions": versions()}


def compile_program(
    plugin: Plugin, topology: int, devices: Sequence[int], program: dict[str, Any]
) -> dict[str, Any]:
    """Compile one program for all of ``devices``; see :func:`compile_all`."""
    stablehlo = annotated(
        Path(program["mlir"]).read_text(encoding="utf-8"),
        program["args"],
        result_cut=program["result_cut"],
        resident=program["resident_bytes"],
        devices=len(devices),
    ).encode()
    options = compile_options(devices)
    # Kept in names of their own: the structure holds only their addresses.
    code, form = ctypes.create_string_buffer(stablehlo), ctypes.create_string_buffer(b"mlir")
    given = (ctypes.c_uint64 * 6)(
        48, 0, ctypes.addressof(code), len(stablehlo), ctypes.addressof(form), 4
    )
    chosen = ctypes.create_string_buffer(options)
    began = time.perf_counter()
    try:
        *_, executable = plugin.call(
            _COMPILE,
            topology,
            ctypes.addressof(given),
            ctypes.addressof(chosen),
            len(options),
            0,
            room=1,
        )
    except RunFailedError as error:
        if _OUT_OF_HBM.search(str(error)):
            return {"out_of_memory": str(error)[:2000]}
        return {"error": _first_line(str(error))}
    took = time.perf_counter() - began
    _, *sizes = plugin.call(_MEMORY_STATS, executable, room=20)
    Path(program["hlo"]).write_bytes(_optimised(plugin, executable))
    plugin.call(_EXECUTABLE_DESTROY, executable)
    return {"compile_time_s": took, "memory": dict(zip(_MEMORY, sizes, strict=False))}


def compile_options(devices: Sequence[int]) -> bytes:
    """A CompileOptionsProto: one replica, as many partitions as devices, cut by XLA's SPMD pass.

    Field numbers: xla/pjrt/proto/compile_options.proto and xla/xla_data.proto.
    """
    places = [message({1: [device]}) for device in devices]
    assignment = message({1: [1], 2: [len(devices)], 3: places})
    build = message(
        {
            1: [2**64 - 1],  # device_ordinal: none
            4: [1],  # num_replicas
            5: [len(devices)],  # num_partitions
            6: [int(len(devices) > 1)],  # use_spmd_partitioning
            9: [assignment],
        }
    )
    return message({3: [build]})


def _topology(plugin: Plugin, name: str, chip_config: str) -> int:
    text = ctypes.create_string_buffer(name.encode())
    key = ctypes.create_string_buffer(b"chip_config_name")
    value = ctypes.create_string_buffer(chip_config.encode())
    # PJRT_NamedValue: size, null, name and its length, type (0: a string), value and its length.
    option = (ctypes.c_uint64 * 7)(
        56, 0, ctypes.addressof(key), 16, 0, ctypes.addressof(value), len(chip_config)
    )
    *_, topology = plugin.call(
        _TOPOLOGY_CREATE, ctypes.addressof(text), len(name), ctypes.addressof(option), 1, room=1
    )
    return topology


def _devices(plugin: Plugin, topology: int) -> list[int]:
    """Ids of the topology's devices."""
    _, array, count = plugin.call(_TOPOLOGY_DEVICES, topology, room=2)
    described = struct.unpack(f"<{count}Q", ctypes.string_at(array, 8 * count))
    return [plugin.call(_DESCRIPTION_ID, each, room=1)[1] & 0xFFFFFFFF for each in described]


def _optimised(plugin: Plugin, executable: int) -> bytes:
    """The compiled program, a serialised HloModuleProtoWithConfig."""
    form = ctypes.create_string_buffer(b"hlo_with_config")
    program = (ctypes.c_uint64 * 6)(48, 0, 0, 0, ctypes.addressof(form), 15)
    plugin.call(_OPTIMIZED_PROGRAM, executable, ctypes.addressof(program))
    size = program[3]
    room = ctypes.create_string_buffer(size)
    program[2] = ctypes.addressof(room)
    plugin.call(_OPTIMIZED_PROGRAM, executable, ctypes.addressof(program))
    return room.raw[:size]


def _library() -> Path:
    spec = importlib.util.find_spec("libtpu")
    if spec is None or spec.origin is None:
        raise RunFailedError("its Python has no libtpu: pip install 'tpubench[compile]' there")
    return Path(spec.origin).parent / "libtpu.so"


def _first_line(text: str) -> str:
    return " ".join(text.strip().splitlines()[0].split())[:300]


def versions() -> dict[str, str]:
    """Versions that decide what is compiled."""
    from importlib.metadata import version

    return {"libtpu": version("libtpu")}


def main() -> None:
    """Entry of the child."""
    die_with_parent()
    try:
        answer = compile_all(json.loads(sys.stdin.readline()))
    except UsageError as error:
        answer = {"unusable": str(error)}
    except RunFailedError as error:
        answer = {"error": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
