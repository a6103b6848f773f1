"""What torch.compile has done so far, by its own counters."""

from __future__ import annotations

import sys


def graphs() -> int:
    """Graphs compiled so far, recompilations included."""
    return _counter("stats", "unique_graphs")


def graph_breaks() -> int:
    """Places at which compiled code fell back to Python so far."""
    found = _counters().get("graph_break", {})
    return sum(found.values())


def skipped_cuda_graphs() -> int:
    """Programs for which inductor gave up on CUDA graphs."""
    return _counter("inductor", "cudagraph_skips")


def _counter(group: str, name: str) -> int:
    return int(_counters().get(group, {}).get(name, 0))


def _counters() -> dict[str, dict[str, int]]:
    # Imported by the first compilation; until then nothing has been compiled.
    dynamo = sys.modules.get("torch._dynamo.utils")
    return {} if dynamo is None else dynamo.counters
