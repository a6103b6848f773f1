"""Exports one program to StableHLO, in a child: ``python -m tpubench.suite.compiling.export``.

It needs TorchTPU (``tpubench[compile]``) and no TPU. The module stands on the meta device, so no
weight is allocated; TorchTPU lowers it as it would for a TPU. It wants a PJRT client for that, even
though nothing is executed: it gets one that can do nothing else (``trace_client.c``).

Reads one JSON request from standard input and writes the answer to the file named by its only
argument; see :func:`export`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.lifeline import die_with_parent
from tpubench.suite.workload import Case, Program


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Export programs of a case.

    request: ``cache`` (a folder), ``case`` (the fields of :class:`Case`), ``chips``, ``kernel``
    (whether attention is lowered to TorchTPU's own kernel), ``programs`` (each with ``phase``,
    ``depth`` and ``mlir``, the file to write).
    The answer: ``versions``, and ``programs``, in order, each with ``args`` (one for each argument
    of ``main``: name, bytes, cut dimension, number of the output that replaces it),
    ``result_cut``, ``resident_bytes`` (what a device holds besides, at full depth), ``attention``
    (each call that was met), ``context`` and ``flops`` (of all chips, without attention).
    """
    case = Case(**request["case"])
    exported = [
        _export(case, wanted, request["chips"], kernel=request["kernel"])
        for wanted in request["programs"]
    ]
    return {"programs": exported, "versions": versions()}


def _export(case: Case, wanted: dict[str, Any], chips: int, *, kernel: bool) -> dict[str, Any]:
    workload = registry.workload(case.workload)

    def program(depth: int) -> Program:
        return workload.program(case, wanted["phase"], depth=depth, chips=chips)

    # A training step is traced, attention and all, when it is built; others when they are exported.
    with recorded_attention(kernel=kernel) as attention:
        built = program(wanted["depth"])
        with recorded_attention(kernel=False), FlopCounterMode(display=False) as counter:
            built.module(*built.inputs)
        with torch.no_grad():
            exported = torch.export.export(built.module, built.inputs)
    exported = exported.run_decompositions({})
    text, args = lower(exported, built)
    Path(wanted["mlir"]).write_text(text, encoding="utf-8")
    with recorded_attention(kernel=False):
        whole = program(workload.depth(case))
    return {
        "args": args,
        "resident_bytes": bytes_a_chip(whole, chips) - bytes_a_chip(built, chips),
        "attention": attention,
        "result_cut": built.result,
        "context": built.context,
        "flops": counter.get_total_flops(),
    }


def lower(
    exported: torch.export.ExportedProgram, program: Program
) -> tuple[str, list[dict[str, Any]]]:
    """StableHLO text, and what each argument of its ``main`` is."""
    from torch_tpu._internal.compile import tpu_torch_compile
    from torch_tpu._internal.export import exported_to_mlir

    # Asserts on the dtype also pin the device, which is meta here and is not when lowered.
    graph = exported.graph_module.graph
    for node in list(graph.nodes):
        if "_assert_tensor_metadata" in str(node.target):
            graph.erase_node(node)
        elif "device" in node.kwargs:  # a tensor that the program makes by itself
            node.kwargs = {**node.kwargs, "device": torch.device("tpu")}
    exported.graph_module.recompile()

    def only_build(result_tensors: Any, argument_tensors: Any, **_: Any) -> SimpleNamespace:
        module = tpu_torch_compile.build_mlir(result_tensors, argument_tensors)
        return SimpleNamespace(module=module, executable=None)

    tpu_torch_compile.traverse_and_compile = only_build  # compiling is another process's work
    text = exported_to_mlir(exported).serialize_text()

    signature = exported.graph_signature
    named = dict(signature.inputs_to_parameters) | dict(signature.inputs_to_buffers)
    outputs = {name: i for i, name in enumerate(s.arg.name for s in signature.output_specs)}
    written = {name: outputs[out] for out, name in signature.buffers_to_mutate.items()}
    tensors = dict(program.module.named_parameters()) | dict(program.module.named_buffers())
    args, inputs = [], iter(program.inputs)
    for spec in sorted(signature.input_specs, key=_calling_order):
        name = named.get(spec.arg.name)
        tensor = tensors[name] if name else next(inputs)
        args.append(
            {
                "name": name or spec.arg.name,
                "kind": spec.kind.name.lower(),
                "bytes": tensor.nbytes,
                "cut": program.split.get(name or spec.arg.name),
                "becomes": written.get(name or ""),
            }
        )
    return text, args


def _calling_order(spec: Any) -> int:
    return {"PARAMETER": 0, "BUFFER": 1, "USER_INPUT": 2}.get(spec.kind.name, 1)


def bytes_a_chip(program: Program, chips: int) -> int:
    """Parameters and buffers that one chip holds."""
    seen: dict[int, int] = {}
    for name, tensor in [*program.module.named_parameters(), *program.module.named_buffers()]:
        seen[id(tensor)] = tensor.nbytes // (chips if name in program.split else 1)
    return sum(seen.values())


@contextlib.contextmanager
def recorded_attention(*, kernel: bool) -> Iterator[list[dict[str, Any]]]:
    """Note every attention call; without ``kernel``, put a stand-in of the same shape there.

    The compiler gives the attention kernel no cost, and cannot spread it over chips. The stand-in
    reads one slot of the cache: what it costs is nothing beside the attention that the estimate
    adds, and the compiler is free to divide it by heads. Where gradients are wanted it is a product
    of all three, so that the backward pass needs all three, as that of a fused kernel does; and the
    backward pass is noted when it happens: five matrix products, where the forward pass has two
    (Dao, 2023, arXiv:2307.08691, section 2.3.2: the scores are computed again).
    """
    calls: list[dict[str, Any]] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        call = {
            "batch": q.shape[0],
            "heads": q.shape[1],
            "queries": q.shape[2],
            "keys": k.shape[2],
            "head_dim": (q.shape[3] + v.shape[3]) // 2,  # of both products
            "kv_heads": k.shape[1],
            "cached": k.shape[3] + (0 if _within(v, k) else v.shape[3]),
            "itemsize": k.element_size(),
            "causal": bool(kwargs.get("is_causal", False)),
            "products": 2,
        }
        calls.append(call)
        # A cache that is keys and values at once the kernel takes at some sizes only; elsewhere it
        # would be products over the whole cache, counted once by the compiler and once again here.
        if kernel and not _within(v, k):
            return real(q, k, v, *args, **kwargs)
        B, N, L, _ = q.shape
        K, H = k.shape[1], v.shape[3]
        if q.shape[3] > H:  # latent attention compares more than it sums up
            q, k = (
                t[..., :H] + functional.pad(t[..., H:], (0, 2 * H - t.shape[3])) for t in (q, k)
            )
        # A prompt reads as many slots as it has tokens; a decode step, its heads grouped, one.
        if q.requires_grad:
            y: Tensor = q.view(B, K, N // K, L, H) * k.unsqueeze(2) * v.unsqueeze(2)
            y.register_hook(lambda _: calls.append({**call, "products": 5}))  # type: ignore[no-untyped-call]
            return y.view(B, N, L, H)
        slots = L if kwargs.get("is_causal", False) else 1
        mixed = (k[:, :, :slots] + v[:, :, :slots]).unsqueeze(2)
        return (q.view(B, K, N // K, L, H) + mixed).view(B, N, L, H)

    torch.nn.functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        yield calls
    finally:
        torch.nn.functional.scaled_dot_product_attention = real


def _within(v: Tensor, k: Tensor) -> bool:
    """Whether values are the first part of the keys, as latent attention reads its cache."""
    begins = v.storage_offset() == k.storage_offset()
    return begins and v.untyped_storage()._cdata == k.untyped_storage()._cdata


def versions() -> dict[str, str]:
    """Versions that decide what is exported."""
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "torch_tpu")}


def open_client(cache: Path) -> None:
    """Let TorchTPU start on a client that only traces. UsageError without a C compiler."""
    os.environ["TPU_LIBRARY_PATH"] = str(trace_client(cache))
    from torch_tpu import _loader

    _loader._init_device("tpu")
    torch.empty(1, device="tpu")


def trace_client(cache: Path) -> Path:
    """The library of ``trace_client.c``, built into ``cache`` once; UsageError without a compiler
    that can."""
    source = Path(__file__).with_name("trace_client.c")
    built = cache / f"trace-client-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    if built.exists():
        return built
    cache.mkdir(parents=True, exist_ok=True)
    own = built.with_suffix(f".{os.getpid()}")
    compiler = os.environ.get("CC", "cc")
    command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(own), str(source)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        raise UsageError("exporting needs a C compiler: install cc, or name one in $CC") from None
    except subprocess.CalledProcessError as error:
        line = error.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UsageError(f"the C compiler failed: {' '.join(line)[:200]}") from None
    own.replace(built)
    return built


def main() -> None:
    """Entry of the child: an answer or an error, never both."""
    die_with_parent()
    request = json.loads(sys.stdin.readline())
    try:
        open_client(Path(request["cache"]))
        answer = export(request)
    except UsageError as error:
        answer = {"unusable": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
