"""torch.compile of a module or of its blocks, and what it has done so far by its own counters."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tpubench.errors import RunFailedError
from tpubench.suite import variables

if TYPE_CHECKING:
    from torch import nn


def compile_in_place(module: nn.Module, **options: Any) -> None:
    """Compile all of ``module`` for the shapes that it meets; a graph break is an error.

    Through a function of our own: torch does not enter its own containers (``nn.Sequential``) from
    outside, and says so only from 2.13 on; 2.9 runs them uncompiled.
    """
    plain = module.forward

    def forward(*inputs: Any, **named: Any) -> Any:
        return plain(*inputs, **named)

    module.forward = _compiled(forward, **options)


_SHAPES = 32
"""Forms of one function that are compiled before torch gives up, which by default are 8: a prompt,
a token and what lies between, of two models, and of a check's shallow copies of them."""


def _compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    import torch

    refuse_disabled()
    torch._dynamo.config.recompile_limit = max(_SHAPES, torch._dynamo.config.recompile_limit)
    return torch.compile(function, fullgraph=True, dynamic=False, **options)


def refuse_disabled() -> None:
    """RunFailedError where a variable turns torch.compile off: nothing would be compiled."""
    for name in variables.DISABLES_COMPILING:
        if os.environ.get(name) == "1":
            raise RunFailedError(
                f"{name}=1 turns compiling off: unset it, or take a compile mode"
                " that compiles nothing (tpubench list backends)"
            )


def compile_parts(module: nn.Module, *, products: bool = False, **options: Any) -> None:
    """Compile each part of ``module`` by itself: the blocks that it repeats, and its other
    children.

    Blocks of a kind share their compiled code, since a module's parameters are inputs to it: a deep
    model compiles as fast as a shallow one. What ``module`` does between its parts runs as written.
    A block is called as a module, so that the hooks of one that was sharded run outside of what is
    compiled. A module that repeats nothing is compiled whole; one of several models, each of which
    repeats blocks of its own, model by model.

    products: its own linear layers too, as a decoder's head, where the compiler tunes products.
    """
    from torch import nn

    children = list(module.children())
    if len(children) > 1 and all(_repeats(child) for child in children):
        for child in children:
            compile_parts(child, products=products, **options)
        return
    if not any(isinstance(child, nn.ModuleList) for child in children):
        compile_in_place(module, **options)
        return
    for child in children:
        own = isinstance(child, nn.ModuleList) or (products and isinstance(child, nn.Linear))
        if not own and type(child).__module__.startswith("torch.nn."):
            continue  # a lookup or a product: there is nothing to fuse it with
        for part in _flat(child):
            part.forward = _compiled(part.forward, **options)


def _flat(child: nn.Module | None) -> Iterator[nn.Module]:
    """What is called of a child: itself, or what a list holds; a library's may hold lists, and
    nothing."""
    from torch import nn

    if not isinstance(child, nn.ModuleList):
        yield from [] if child is None else [child]
        return
    for part in child:
        yield from _flat(part)


def _repeats(module: nn.Module) -> bool:
    from torch import nn

    return any(isinstance(child, nn.ModuleList) for child in module.children())


def graphs() -> int:
    """Graphs compiled so far, recompilations included."""
    return _counter("stats", "unique_graphs")


def graph_breaks() -> int:
    """Places at which compiled code fell back to Python so far."""
    breaks = _counters().get("graph_break", {})
    return sum(breaks.values())


def disturbances() -> dict[str, int]:
    """What must not happen inside the window, counted so far."""
    return {"graphs traced again": graphs(), "graph breaks": graph_breaks()}


def cache_hits_and_misses() -> tuple[int, int]:
    """Programs that inductor's persistent cache gave so far, and that it did not.

    A program that could not be looked up counts as one that it did not give.
    """
    # AOTAutograd's cache stands before inductor's, whose own counters then still count the hit.
    hits = _counter("inductor", "fxgraph_cache_hit")
    misses = _counter("inductor", "fxgraph_cache_miss") + _counter(
        "inductor", "fxgraph_cache_bypass"
    )
    return hits, misses


def forget() -> None:
    """Drop all compiled code and begin to count anew, for the next program of this process."""
    torch = sys.modules.get("torch")
    if torch is None or "torch._dynamo" not in sys.modules:
        return
    torch._dynamo.reset()
    _counters().clear()


def skipped_cuda_graphs() -> int:
    """Programs for which inductor gave up on CUDA graphs."""
    return _counter("inductor", "cudagraph_skips")


def _counter(group: str, name: str) -> int:
    return int(_counters().get(group, {}).get(name, 0))


def _counters() -> dict[str, dict[str, int]]:
    # Imported by the first compilation; until then nothing has been compiled.
    dynamo = sys.modules.get("torch._dynamo.utils")
    return {} if dynamo is None else dynamo.counters
