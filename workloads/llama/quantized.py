"""Projections held in one byte a value: ``int8`` weights alone, ``fp8`` weights and activations.

Symmetric, one scale for each output row of a weight, taken from the largest value of the *whole*
row, so that N ranks hold exactly the values of one. ``int8`` widens the weights to the precision of
the activations and multiplies in that: it saves memory and what a decode step reads, on every
device. ``fp8`` (e4m3) also rounds each token's activations, by a scale of its own, and multiplies
in fp8 where the device has units for it. Embedding, head, norms and the cache stay in bfloat16, as
serving engines leave them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.suite.workload import Case

STORED: dict[str, torch.dtype] = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
_LARGEST = {"int8": 127.0, "fp8": 448.0}
"""The largest value used: of int8 without −128, and the largest of e4m3 (Micikevicius et al.,
FP8 formats for deep learning, 2022)."""
PROJECTIONS = ("attention.qkv", "attention.out", "ffn.gate_up", "ffn.down")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """In which precision a program holds its weights, and in which everything else.

    dtype: of activations, cache, embedding, head and norms. quantized: a key of :data:`STORED` for
    the projections of the layers; None where they are of ``dtype`` too.
    """

    dtype: torch.dtype
    quantized: str | None = None

    def name(self) -> str:
        """Under which a reference is remembered."""
        return str(self.dtype) + (f", projections {self.quantized}" if self.quantized else "")

    def quantizes(self, weight: str) -> bool:
        """Whether the weight of this name is one of those that are held in one byte."""
        name = weight.removesuffix(".weight")
        return self.quantized is not None and name.endswith(PROJECTIONS) and name != weight


FLOAT32 = Held(dtype=torch.float32)


def held(case: Case) -> Held:
    """What the case asks for. ``quantized`` among its parameters is for its float32 twin."""
    if case.dtype in STORED:
        return Held(dtype=torch.bfloat16, quantized=case.dtype)
    twin = case.params.get("quantized")
    return Held(dtype=getattr(torch, case.dtype), quantized=str(twin) if twin else None)


def row_scales(rows_RD: Tensor, kind: str) -> Tensor:
    """[R] float32: what one step of the narrow precision stands for, for each whole row."""
    return (rows_RD.float().abs().amax(dim=1) / _LARGEST[kind]).clamp_min(1e-30)


def quantize(rows_RD: Tensor, scale_R: Tensor, kind: str) -> Tensor:
    """Rows in the narrow precision, nearest value."""
    scaled = rows_RD.float() / scale_R.unsqueeze(1)
    if kind == "int8":
        scaled = scaled.round()
    return scaled.clamp(-_LARGEST[kind], _LARGEST[kind]).to(STORED[kind])


def dequantized(rows_RD: Tensor, kind: str) -> Tensor:
    """Float32 values that rows have once they are held in ``kind``."""
    scale_R = row_scales(rows_RD, kind)
    return quantize(rows_RD, scale_R, kind).float() * scale_R.unsqueeze(1)


class QuantizedLinear(nn.Module):
    """y = x·Wᵀ + b with W held in one byte a value and a float32 scale for each of its rows."""

    def __init__(self, width: int, rows: int, *, bias: bool, dtype: torch.dtype, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.empty(rows, width, dtype=STORED[kind]), False)
        self.scale = nn.Parameter(torch.empty(rows, dtype=torch.float32), False)
        self.bias = nn.Parameter(torch.empty(rows, dtype=dtype), False) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        # In float32, as its twin runs it, fp8 rounds weights alone: rounded activations would hide
        # behind them whatever else is wrong.
        if self.kind == "int8" or x.dtype is torch.float32:
            y = F.linear(x, self.weight.to(x.dtype)).float() * self.scale
        else:
            y = self._in_fp8(x)
        y = y.to(x.dtype)
        return y if self.bias is None else y + self.bias

    def _in_fp8(self, x: Tensor) -> Tensor:
        wide = x.float()
        token_scale = (wide.abs().amax(dim=-1, keepdim=True) / _LARGEST["fp8"]).clamp_min(1e-30)
        narrow = (wide / token_scale).to(STORED["fp8"])
        if x.is_cuda:
            y: Tensor = torch._scaled_mm(
                narrow.view(-1, x.shape[-1]),
                self.weight.t(),
                scale_a=token_scale.view(-1, 1),
                scale_b=self.scale.unsqueeze(0),
                out_dtype=x.dtype,
            )
            return y.view(*x.shape[:-1], len(self.scale))
        # XLA makes one product of fp8 operands of this where the device has one; elsewhere the
        # values are the same and nothing is saved but memory.
        y = F.linear(narrow.to(x.dtype), self.weight.to(x.dtype)).float()
        return y * token_scale * self.scale


def projection(width: int, rows: int, *, bias: bool, held: Held) -> nn.Linear | QuantizedLinear:
    """A linear layer, its weight uninitialised."""
    if held.quantized is None:
        return nn.Linear(width, rows, bias=bias, dtype=held.dtype)
    return QuantizedLinear(width, rows, bias=bias, dtype=held.dtype, kind=held.quantized)
