"""CUDA graphs of a whole step, captured by ourselves around blocks that were compiled one by one.

A replay copies its inputs in, is launched once, and writes into the same outputs each time. A
module that is called with no tensor, its state in buffers of its own, has nothing to copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

_WARM_UPS = 2
"""Runs before the capture: the first compiles and tunes, which no capture allows."""
_captured = 0
"""Graphs that this process has captured."""


def captured() -> int:
    """Graphs captured so far."""
    return _captured


def capture(module: nn.Module) -> None:
    """Replace ``module``'s forward by one graph for each set of input shapes.

    Tensors it is called with are copied into the graph's own; everything else, modules with
    buffers included, is taken as it is and must be the same object at each call. Its own buffers,
    not those of its parts, are state that a call moves on: the runs before a capture put them back.
    Nothing may flow backward through it.
    """
    plain = module.forward
    graphs: dict[object, Callable[[list[Tensor]], Any]] = {}
    # One pool for all: a replay's intermediate results are of no use to another.
    pool = torch.cuda.graph_pool_handle()

    def forward(*inputs: Any, **named: Any) -> Any:
        leaves, tree = tree_flatten((inputs, named))
        key = (str(tree), tuple(_known(leaf) for leaf in leaves))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        if key not in graphs:
            graphs[key] = _capture(module, plain, leaves, tree, pool)
        return graphs[key](tensors)

    module.forward = forward


def _known(leaf: object) -> object:
    """A tensor by its form, a number or a text by its value, any other object by which it is."""
    if isinstance(leaf, Tensor):
        return leaf.shape, leaf.dtype, leaf.stride()
    return leaf if isinstance(leaf, bool | int | float | str | None) else id(leaf)


def _warm_up(module: nn.Module, run: Callable[[], object]) -> None:
    """Run a few times, each from the state that ``module`` is in now."""
    state = [(buffer, buffer.clone()) for buffer in module.buffers(recurse=False)]
    for _ in range(_WARM_UPS):
        run()
        for buffer, value in state:
            buffer.copy_(value)


def _capture(
    module: nn.Module, plain: Callable[..., Any], leaves: list[Any], tree: Any, pool: Any
) -> Callable[[list[Tensor]], Any]:
    """Run ``plain`` a few times on inputs of its own, then record it."""
    global _captured
    _captured += 1
    own = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    inputs, named = tree_unflatten(own, tree)
    memories = [leaf for leaf in own if isinstance(leaf, Tensor)]
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _warm_up(module, lambda: plain(*inputs, **named))
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        result = plain(*inputs, **named)

    def replay(tensors: list[Tensor]) -> Any:
        for memory, tensor in zip(memories, tensors, strict=True):
            memory.copy_(tensor)
        graph.replay()
        return result

    return replay
