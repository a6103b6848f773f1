"""Seeded random weights for any module, the same on every device.

They are cut from one table of normal values drawn on the CPU. Each kind of module gets values that
keep the size of what it multiplies, so that every layer matters to the result and rounding stays
small: a projection or convolution 1/√(inputs), a norm values near one, a lookup one, and biases a
tenth, so that one left out shows. Tied weights stay tied.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from tpubench.workloads._normal_values import PERIOD, normal_values

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_NORM_SPREAD = 0.25
_SHIFT = 0.1
"""Biases, and a batch norm's means."""
_ALONE = 0.5
"""Parameters of no standard layer: class tokens, learnt positions."""


def filled(
    build: Callable[[], nn.Module],
    seed: int,
    device: str,
    dtype: torch.dtype,
    computed: torch.dtype | None = None,
) -> nn.Module:
    """The module on ``device``, its parameters drawn and its buffers as it made them.

    computed: the precision that values which were rounded to ``dtype`` are then held in.
    """
    wide = computed or dtype
    with _parameters_on_meta():
        module = build().eval()
    at, placed = 0, dict[nn.Parameter, nn.Parameter]()
    for owner in module.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if parameter in placed:  # tied to one that is there
                owner._parameters[name] = placed[parameter]
                continue
            values = _drawn(owner, name, parameter.shape, seed, at, device)
            at = (at + parameter.numel()) % PERIOD
            held = nn.Parameter(values.to(dtype).to(device, wide), requires_grad=False)
            owner._parameters[name] = placed[parameter] = held
        for name, buffer in list(owner.named_buffers(recurse=False)):
            values = buffer
            if isinstance(owner, nn.modules.batchnorm._BatchNorm) and buffer.is_floating_point():
                values = _statistics(name, buffer.shape, seed, at)
                at = (at + buffer.numel()) % PERIOD
            values = values.to(dtype).to(wide) if values.is_floating_point() else values
            owner._buffers[name] = values.to(device)
    return module


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Inside it a module's parameters take no memory; its buffers are made as they should be."""
    plain = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        if param is not None and not param.is_meta:  # else tied to one that was registered before
            empty = torch.empty(param.shape, dtype=param.dtype, device="meta")
            param = nn.Parameter(empty, requires_grad=False)
        plain(self, name, param)

    nn.Module.register_parameter = register  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = plain  # type: ignore[method-assign]


def _drawn(
    owner: nn.Module, name: str, shape: torch.Size, seed: int, at: int, device: str
) -> Tensor:
    """Values of one parameter; where the table can be there, made on the device."""
    where = device if torch.device(device).type in {"cpu", "cuda"} else "cpu"
    table, count = normal_values(seed, where), shape.numel()
    parts = [table[at : at + min(PERIOD, count - first)] for first in range(0, count, PERIOD)]
    normal = (parts[0] if len(parts) == 1 else torch.cat(parts)).view(shape)
    if isinstance(owner, _NORMS):
        return 1.0 + _NORM_SPREAD * normal if name == "weight" else _SHIFT * normal
    if name.endswith("bias"):
        return _SHIFT * normal
    if isinstance(owner, nn.Embedding):
        return normal.clone()  # what learns must not write into the table
    if isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
        return normal / math.sqrt(count / shape[0])
    if name == "weight":  # of a library's own projection, whichever way it lies, or its own norm
        several = len(shape) > 1
        return normal / math.sqrt(max(shape[-2:])) if several else 1.0 + _NORM_SPREAD * normal
    return _ALONE * normal


def _statistics(name: str, shape: torch.Size, seed: int, at: int) -> Tensor:
    """A batch norm's mean and variance, as training would have left them."""
    normal = normal_values(seed, "cpu")[at : at + shape.numel()].view(shape)
    return _SHIFT * normal if name == "running_mean" else 1.0 + _NORM_SPREAD * normal.abs()
