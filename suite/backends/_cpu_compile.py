"""How the CPU backend prepares a program: packed weights, and compiled blocks for one row.

Two facts, both measured by ``benchmarks/llama_cpu.py``, decide it. A plain linear reads its weight
row by row; oneDNN's blocked layout, reordered once, reads it about 1.5 times as fast at any number
of rows. And for a single row, as when one sequence is decoded, no matrix library is the fastest:
a multiply and a sum that the compiler fuses with what stands around it is, because reading the
weights is then all the work and a block of a model is a handful of kernels instead of thirty.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from tpubench.suite.backends import _dynamo

_OPTIONS: dict[str, Any] = {
    # Our own signature check stands in for dynamo's guards, which cost more than a small block.
    "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
    "size_asserts": False,
    "alignment_asserts": False,
    "scalar_asserts": False,
}


class PackedLinear(nn.Module):
    """A linear layer with its weight in oneDNN's blocked layout; the values are unchanged.

    Inside a compiled region, and for one row, it is a multiply and a sum over the plain weight.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            # Dot products in float32, as the libraries accumulate. Striding the row makes the
            # compiler store it first: it would otherwise repeat the norm before it, or the
            # activation, inside the loop over every row of the weight.
            row = x.float().reshape(-1).as_strided((1, x.shape[-1]), (x.shape[-1], 1))
            y = (row * self.weight.float()).sum(dim=-1)
            y = y if self.bias is None else y + self.bias
            return y.to(x.dtype).view(*x.shape[:-1], self.weight.shape[0])
        packed: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.packed, self.bias, "none", [], ""
        )
        return packed


_FEW_ROWS = 24
"""Up to so many, torch's product with int8 weights is faster than widening them first: 0.2 against
1.8 ms for one row of 4096 × 2048 on one core, 1.6 against 2.9 for 16, 3.1 against 2.8 for 32."""


class PackedInt8(nn.Module):
    """A projection with int8 weights: torch's product of few rows with them as they are stored.

    The products are summed up in the activations' precision, so the scale comes after. Inside a
    compiled region, and for one row, it is a multiply and a sum.
    """

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.weight, self.scale = cast(Tensor, linear.weight), cast(Tensor, linear.scale)
        self.bias = cast("Tensor | None", linear.bias)
        self.wide = linear

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            row = x.float().reshape(-1).as_strided((1, x.shape[-1]), (x.shape[-1], 1))
            y = (row * self.weight.float()).sum(dim=-1) * self.scale
            y = y if self.bias is None else y + self.bias
            return y.to(x.dtype).view(*x.shape[:-1], self.weight.shape[0])
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > _FEW_ROWS:
            return cast(Tensor, self.wide(x))
        ones = torch.ones(len(self.scale), dtype=x.dtype)
        y = torch._weight_int8pack_mm(rows, self.weight, ones).float() * self.scale
        y = y.to(x.dtype).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN has kernels for this precision on this processor."""
    if dtype is torch.float16:
        return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return True


def _holds_int8(module: nn.Module) -> bool:
    """Whether it is a projection with int8 weights and a scale for each row."""
    weight, scale = (getattr(module, name, None) for name in ("weight", "scale"))
    return isinstance(scale, Tensor) and isinstance(weight, Tensor) and weight.dtype is torch.int8


def pack_linears(module: nn.Module) -> None:
    """Replace every linear layer inside ``module`` by its packed twin, where there is a kernel."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            if _packs(child.weight.dtype):
                setattr(module, name, PackedLinear(child))
        elif _holds_int8(child):
            setattr(module, name, PackedInt8(child))
        else:
            pack_linears(child)


def compile_blocks(module: nn.Module) -> None:
    """Compile each kind of block that ``module`` repeats (in a ModuleList), for one row.

    All blocks of a kind share one compiled function, so a deep model compiles as fast as a shallow
    one. More rows than one run the block as it is. A library's list may hold lists, and nothing.
    """
    _dynamo.refuse_disabled()
    kinds: dict[object, Callable[..., Any]] = {}
    for repeated in module.modules():
        if not isinstance(repeated, nn.ModuleList):
            continue
        for block in repeated:
            if block is None or isinstance(block, nn.ModuleList | nn.ModuleDict):
                continue
            kind = _kind(block)
            if kind not in kinds:
                kinds[kind] = _for_one_row(type(block).forward)
            block.forward = types.MethodType(kinds[kind], block)


def _kind(block: nn.Module) -> object:
    """Everything that compiled code takes for granted about a block, since nothing guards it.

    The classes inside it, the forms of their tensors, and each of their own attributes: by form
    where it is a tensor, by value where that is plain, else by which object it is.
    """
    tensors = [*block.named_parameters(), *block.named_buffers()]
    return (
        tuple((name, tensor.shape, tensor.dtype) for name, tensor in tensors),
        tuple((name, type(part), _own(part)) for name, part in block.named_modules()),
    )


_OF_ANY_MODULE = frozenset(vars(nn.Module()))
"""Attributes that every module has: its tensors, its parts, its hooks."""


def _own(module: nn.Module) -> object:
    return tuple(
        (name, _form(value)) for name, value in vars(module).items() if name not in _OF_ANY_MODULE
    )


def _form(value: object) -> object:
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    return value if _is_plain(value) else id(value)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | torch.dtype)


def _for_one_row(plain: Callable[..., Any]) -> Callable[..., Any]:
    compiled: dict[object, Callable[..., Any]] = {}

    def forward(self: nn.Module, *given: Any, **named: Any) -> Any:
        x = given[0] if given else None
        if named or not isinstance(x, Tensor) or x.numel() != x.shape[-1]:
            return plain(self, *given, **named)  # a library's block may be called in any way
        signature = _signature(given)
        function = compiled.get(signature)
        if function is None:
            function = compiled[signature] = _compile(plain, len(compiled))
        return function(self, *given)

    return forward


def _compile(plain: Callable[..., Any], number: int) -> Callable[..., Any]:
    # Through a function of our own: torch does not enter its own containers (``nn.Sequential``)
    # from outside, but what they call, which no guard would tell apart.
    def forward(self: nn.Module, *given: Any) -> Any:
        return plain(self, *given)

    # Compiled code is kept by code object: a copy of its own keeps one signature's apart from
    # another's, since no guard would tell them apart.
    forward.__code__ = forward.__code__.replace(co_name=f"{plain.__name__}_{number}")
    return torch.compile(forward, fullgraph=True, dynamic=False, options=_OPTIONS)


def _signature(value: Any) -> object:
    """Everything that the compiled code takes for granted about its arguments."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.stride()
    if isinstance(value, tuple):
        return tuple(_signature(item) for item in value)
    return value
