"""Where the weights of an adapted Llama come from, and what they are to a plain one.

An adapted model computes what the plain one does whose projections are W + (α/r)·B·A. With G the
gradient of that sum, the chain rule gives (α/r)·G·Aᵀ for B and (α/r)·Bᵀ·G for A. So the reference
of a plain Llama, which knows no adapters, is the reference of an adapted one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.reference import Place
from tpubench.workloads.llama.weights import EMBEDDING_STD, Piece, Source, shapes
from tpubench.workloads.llama_lora.model import PROJECTIONS, parts
from tpubench.workloads.llama_pretrain.reference import Get

_SHARE = 0.25
"""Size of what an adapter adds, of what its projection gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """The adapters of a model."""

    config: LlamaConfig
    rank: int
    alpha: int

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def plain_weights(self, get: Get) -> Get:
        """The plain model's weights, W + (α/r)·B·A, from those of an adapted one."""

        def plain(name: str) -> Tensor:
            weight, owner = get(name), name.removesuffix(".weight")
            if not owner.endswith(PROJECTIONS) or owner == name:
                return weight
            return weight + self.scale * torch.cat(
                [b @ a for a, b in self._pairs(owner, get(f"{owner}.a"), get(f"{owner}.b"))]
            )

        return plain

    def own_gradients(
        self, get: Get, named: Iterator[tuple[str, Tensor]], place: Place
    ) -> Iterator[tuple[str, Tensor]]:
        """Name and gradient of each adapter, from those of the plain weights; "loss" as it is."""
        for name, gradient in named:
            owner = name.removesuffix(".weight")
            if name == "loss":
                yield name, gradient
            elif owner != name and owner.endswith(PROJECTIONS):
                a, b = get(f"{owner}.a"), get(f"{owner}.b")
                rows = torch.split(gradient, parts(self.config, _kind(owner)))
                both = list(zip(self._pairs(owner, a, b), rows, strict=True))
                with place.exact():
                    of_a = torch.cat([b_i.T @ g for (_, b_i), g in both])
                    of_b = torch.cat([g @ a_i.T for (a_i, _), g in both])
                yield f"{owner}.a", self.scale * of_a
                yield f"{owner}.b", self.scale * of_b

    def _pairs(self, owner: str, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor]]:
        """A and B of each part of a projection."""
        rows = torch.split(b, parts(self.config, _kind(owner)))
        return list(zip(torch.split(a, self.rank), rows, strict=True))


class DrawnAdapters:
    """Random adapters beside a frozen base as it is held: a source of weights.

    B is not zero, as it is where training begins: then A would have no gradient that could be
    judged. Each adapter adds a quarter of what its projection gives, as one trained for a while.
    """

    def __init__(self, base: Source, lora: Lora, seed: int, dtype: torch.dtype) -> None:
        """dtype: the precision in which the base is held."""
        self.config, self.base, self.lora = base.config, base, lora
        self.seed, self.dtype = seed, dtype
        self._shapes = shapes(base.config)

    def identity(self) -> dict[str, object]:
        return {
            **self.base.identity(),
            "adapters": [self.lora.rank, self.lora.alpha, self.seed, str(self.dtype)],
            "adapters source": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        }

    def pieces(self, name: str) -> Iterator[Piece]:
        owner, _, kind = name.rpartition(".")
        if kind in {"a", "b"}:
            yield 0, self._drawn(owner, kind)
            return
        for first, rows in self.base.pieces(name):
            yield first, rows.to(self.dtype).float()

    def _drawn(self, owner: str, kind: str) -> Tensor:
        rows, width = self._shapes[f"{owner}.weight"]
        rank, number = self.lora.rank, list(self._shapes).index(f"{owner}.weight")
        generator = torch.Generator().manual_seed(
            self.seed * 1_000_003 + 2 * number + (kind == "b")
        )
        if kind == "a":
            count = len(parts(self.config, _kind(owner)))
            return torch.randn(count * rank, width, generator=generator) / math.sqrt(width)
        size = _SHARE / (self.lora.scale * math.sqrt(rank))
        if owner.endswith(("attention.out", "ffn.down")):  # they end a branch of the residual
            size *= EMBEDDING_STD / math.sqrt(2 * self.config.n_layers)
        return size * torch.randn(rows, rank, generator=generator)


def _kind(owner: str) -> str:
    """``attention.qkv`` of ``blocks.0.attention.qkv``."""
    return ".".join(owner.split(".")[-2:])
