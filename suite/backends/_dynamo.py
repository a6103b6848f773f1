"""torch.compile of a whole module, and what it has done so far by its own counters."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def compile_in_place(module: nn.Module, **options: Any) -> None:
    """Compile all of ``module`` for the shapes that it meets; a graph break is an error.

    Through a function of our own: torch does not enter its own containers (``nn.Sequential``) from
    outside, and says so only from 2.13 on; 2.9 runs them uncompiled.
    """
    import torch

    plain = module.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        return plain(*inputs, **named)

    module.forward = torch.compile(forward, fullgraph=True, dynamic=False, **options)


def graphs() -> int:
    """Graphs compiled so far, recompilations included."""
    return _counter("stats", "unique_graphs")


def graph_breaks() -> int:
    """Places at which compiled code fell back to Python so far."""
    found = _counters().get("graph_break", {})
    return sum(found.values())


def disturbances() -> dict[str, int]:
    """What must not happen inside the window, counted so far."""
    return {"graphs traced again": graphs(), "graph breaks": graph_breaks()}


def skipped_cuda_graphs() -> int:
    """Programs for which inductor gave up on CUDA graphs."""
    return _counter("inductor", "cudagraph_skips")


def _counter(group: str, name: str) -> int:
    return int(_counters().get(group, {}).get(name, 0))


def _counters() -> dict[str, dict[str, int]]:
    # Imported by the first compilation; until then nothing has been compiled.
    dynamo = sys.modules.get("torch._dynamo.utils")
    return {} if dynamo is None else dynamo.counters
