"""Low-rank adapters on the projections of a Llama that is trained: the rest is frozen.

The names of the plain model stay; beside a projection's ``weight`` stand its adapters ``a`` and
``b``. Where one projection holds several of the paper's (query, key and value; gate and up), each
keeps an adapter of its own: their A lie one after another, so that they are one multiplication.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama_pretrain.model import TrainedLlama


class Adapted(nn.Module):
    """W·x + (α/r)·B·(A·x) for each of ``parts`` rows of W: W frozen, A and B float32."""

    def __init__(self, base: nn.Linear, parts: list[int], rank: int, alpha: int) -> None:
        """base: the frozen projection, whose weights are taken over."""
        super().__init__()
        self.parts, self.rank, self.scale = parts, rank, alpha / rank
        self.weight, self.bias = base.weight, base.bias
        where = base.weight.device
        self.a = nn.Parameter(torch.empty(len(parts) * rank, base.in_features, device=where))
        self.b = nn.Parameter(torch.empty(base.out_features, rank, device=where))

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        y = F.linear(x, self.weight.to(x.dtype), bias)
        inner = torch.split(F.linear(x, self.a.to(x.dtype)), self.rank, dim=-1)
        rows = torch.split(self.b.to(x.dtype), self.parts)
        added = [F.linear(h, b) for h, b in zip(inner, rows, strict=True)]
        return y + self.scale * torch.cat(added, dim=-1)


def parts(config: LlamaConfig, projection: str) -> list[int]:
    """Rows of each of the paper's projections that ``projection`` holds."""
    keys = config.n_kv_heads * config.head_dim
    return {
        "attention.qkv": [config.n_heads * config.head_dim, keys, keys],
        "attention.out": [config.d_model],
        "ffn.gate_up": [config.d_ffn, config.d_ffn],
        "ffn.down": [config.d_model],
    }[projection]


PROJECTIONS = ("attention.qkv", "attention.out", "ffn.gate_up", "ffn.down")


def adapt(model: TrainedLlama, rank: int, alpha: int) -> None:
    """Freeze every weight, in the precision of the arithmetic, and give each projection adapters.

    The model is on the meta device: nothing is converted.
    """
    model.to(model.dtype).requires_grad_(False)
    model.tie()
    for block in model.blocks:
        for name in PROJECTIONS:
            owner, _, kind = name.rpartition(".")
            base = block.get_submodule(name)
            assert isinstance(base, nn.Linear)
            adapted = Adapted(base, parts(model.config, name), rank, alpha)
            setattr(block.get_submodule(owner), kind, adapted)
