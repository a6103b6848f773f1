"""The child process that compiles StableHLO for a TPU that is not there:
``python -m tpubench.suite.libtpu_compile``.

libtpu brings the compiler of every TPU generation and needs no TPU for a named topology; jax is
only the way to call it. Reads one JSON request from standard input and writes the answer to the
file descriptor given as its only argument; see :func:`compile_program`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

_OUT_OF_HBM = re.compile(r"RESOURCE_EXHAUSTED|HbmOom|exceed\w* (?:available )?HBM", re.I)


def compile_program(request: dict[str, Any]) -> dict[str, Any]:
    """Compile one exported program for a topology.

    request: ``mlir`` (file), ``topology`` (libtpu's name, ``v6e:2x2``), ``args`` (as exported),
    ``resident_bytes`` (what a device holds besides), ``hlo`` (the file to write).
    The answer: ``compile_time_s``, ``memory`` (bytes by kind), ``devices`` (in the topology),
    versions; or ``out_of_memory``, the compiler's own words; or ``error``.
    """
    import jax
    import numpy as np
    from jax._src import compiler
    from jax._src.interpreters import mlir
    from jax._src.lib import xla_client
    from jax._src.lib.mlir import ir
    from jax.experimental import topologies

    try:
        described = topologies.get_topology_desc(
            topology_name=request["topology"], platform="tpu"
        )
    except jax.errors.JaxRuntimeError as error:
        return {"error": f"libtpu does not know the topology: {_first_line(error)}"}
    devices = list(described.devices)[: request["devices"]]
    count = len(devices)
    if count < request["devices"]:
        return {"error": f"the topology has {count} devices, {request['devices']} are needed"}
    with mlir.make_ir_context():
        module = ir.Module.parse(Path(request["mlir"]).read_text(encoding="utf-8"))
        annotate(ir, module, request["args"], request["resident_bytes"], count)
        options = compiler.get_compile_options(
            num_replicas=1,
            num_partitions=count,
            device_assignment=np.array([[device.id for device in devices]]),
        )
        options.executable_build_options.use_spmd_partitioning = count > 1
        options.executable_build_options.use_shardy_partitioner = False
        began = time.perf_counter()
        try:
            executable = devices[0].client.compile(
                module, xla_client.DeviceList(tuple(devices)), options
            )
        except jax.errors.JaxRuntimeError as error:
            if _OUT_OF_HBM.search(str(error)):
                return {"out_of_memory": str(error), "versions": versions()}
            return {"error": f"the compiler refused it: {_first_line(error)}"}
        took = time.perf_counter() - began
    stats = executable.get_compiled_memory_stats()
    Path(request["hlo"]).write_text(executable.hlo_modules()[0].to_string(), encoding="utf-8")
    return {
        "compile_time_s": took,
        "memory": {
            "arguments": stats.argument_size_in_bytes,
            "outputs": stats.output_size_in_bytes,
            "aliased": stats.alias_size_in_bytes,
            "temporary": stats.temp_size_in_bytes,
            "code": stats.generated_code_size_in_bytes,
        },
        "devices": count,
        "versions": versions(),
    }


def annotate(ir: Any, module: Any, args: list[dict[str, Any]], resident: int, count: int) -> None:
    """Say of each argument of ``main`` how it is cut and which output replaces it in place.

    ``resident`` bytes a device are added as arguments that nothing reads: the layers that are not
    in this program still fill the memory.
    """
    (main,) = [op for op in module.body.operations if op.name.value == "main"]
    if len(args) != len(main.arguments):
        raise SystemExit(f"{len(main.arguments)} arguments, {len(args)} described")
    attributes = []
    for arg, described in zip(main.arguments, args, strict=True):
        entry = {}
        if count > 1:
            rank, cut = len(ir.RankedTensorType(arg.type).shape), described["cut"]
            entry["mhlo.sharding"] = ir.StringAttr.get(_sharding(rank, cut, count))
        if described["becomes"] is not None:
            index = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), described["becomes"])
            entry["tf.aliasing_output"] = index
        attributes.append(entry)
    # Below 2 GiB each: a larger array of bytes has no 32-bit index.
    while resident > 0:
        size = min(resident, 2**30)
        with ir.InsertionPoint(main.entry_block), ir.Location.unknown():
            kind = ir.RankedTensorType.get([size * count], ir.IntegerType.get_signless(8))
            main.entry_block.add_argument(kind, ir.Location.unknown())
        entry = {}
        if count > 1:
            entry["mhlo.sharding"] = ir.StringAttr.get(_sharding(1, 0, count))
        attributes.append(entry)
        resident -= size
    main.attributes["function_type"] = ir.TypeAttr.get(
        ir.FunctionType.get([a.type for a in main.arguments], main.type.results)
    )
    main.arg_attrs = ir.ArrayAttr.get([ir.DictAttr.get(entry) for entry in attributes])
    if count > 1:
        # What replaces an argument is cut like it; every chip gets the whole of the rest.
        cuts = {arg["becomes"]: arg["cut"] for arg in args if arg["becomes"] is not None}
        shapes = [ir.RankedTensorType(kind).shape for kind in main.type.results]
        main.attributes["res_attrs"] = ir.ArrayAttr.get(
            [
                ir.DictAttr.get(
                    {"mhlo.sharding": ir.StringAttr.get(_sharding(len(s), cuts.get(i), count))}
                )
                for i, s in enumerate(shapes)
            ]
        )


def _sharding(rank: int, cut: int | None, count: int) -> str:
    if cut is None:
        return "{replicated}"
    shape = ",".join(str(count if i == cut else 1) for i in range(rank))
    return f"{{devices=[{shape}]<=[{count}]}}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).strip().splitlines()[0].split())[:300]


def versions() -> dict[str, str]:
    """Versions that decide what is compiled."""
    from importlib.metadata import version

    return {name: version(name) for name in ("libtpu", "jax", "jaxlib")}


def main() -> None:
    """Entry of the child."""
    request = json.loads(sys.stdin.readline())
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as pipe:
        json.dump(compile_program(request), pipe)


if __name__ == "__main__":
    main()
