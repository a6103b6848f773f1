"""What an operator's result will look like, before anything has been computed for it."""

from __future__ import annotations

import zlib
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map_only

POISON_INT = -77
"""What integers hold until they are computed; floats hold NaN."""


class Shapes:
    """Results without memory, remembered: an operator has the same for the same shapes."""

    def __init__(self) -> None:
        self._known: dict[object, Any] = {}

    def of(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The results of a call: shapes, strides and precisions alone.

        NotImplementedError or RuntimeError where values decide the shape.
        """
        key: object = (func, _signature(args), _signature(tuple(kwargs.items())))
        try:
            known = self._known.get(key)
        except TypeError:  # an argument that cannot be a key
            key, known = None, None
        if known is None:
            # Without memory, Python works shapes out, and imports a compiler for that: a second.
            stand_in = _meta if _by_value(func, args) else _blank
            with _disable_current_modes(), torch.no_grad():
                known = _meta(func(*stand_in(args), **stand_in(kwargs)))
            if key is not None:
                self._known[key] = known
        return known


def poisoned(like: Tensor) -> Tensor:
    """Memory for a result, holding what nobody may mistake for it."""
    memory = torch.empty_strided(like.shape, like.stride(), dtype=like.dtype)
    if like.is_floating_point():
        return memory.fill_(float("nan"))
    return memory if like.dtype is torch.bool else memory.fill_(POISON_INT)


def tensors_of(values: Any) -> list[Tensor]:
    """All tensors among values, however nested."""
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def contents(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """An operator and the values of all that it reads, as something that can be remembered."""

    def one(value: Any) -> object:
        if isinstance(value, Tensor):
            raw = value.detach().contiguous().view(-1).view(torch.uint8).numpy()
            return value.shape, value.dtype, zlib.crc32(raw.data)
        return str(value)

    with _disable_current_modes():
        return str(func), tuple(one(leaf) for leaf in tree_leaves((args, kwargs)))


def _by_value(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether the values of its inputs decide the shape of an operator's result."""
    if func.overloadpacket is torch.ops.aten.index:
        return any(tensor.dtype in {torch.bool, torch.uint8} for tensor in tensors_of(args[1]))
    return torch.Tag.dynamic_output_shape in func.tags


def _signature(value: Any) -> object:
    """What of an argument decides the shape and precision of a result."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_signature, value))
    return type(value), value  # 1 and 1.0 are equal, and promote differently


def _meta(values: Any) -> Any:
    """The same without memory: shapes, strides and precision alone."""

    def one(tensor: Tensor) -> Tensor:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")

    moved = tree_map_only(Tensor, one, values)
    return tree_map_only(torch.device, lambda _device: torch.device("meta"), moved)


def _blank(values: Any) -> Any:
    """The same with zeros in memory of their own: to be computed with, whatever is awaited."""

    def one(tensor: Tensor) -> Tensor:
        span = 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        memory = torch.zeros(max(span, 0), dtype=tensor.dtype)
        return memory.as_strided(tensor.shape, tensor.stride())

    return tree_map_only(Tensor, one, values)
