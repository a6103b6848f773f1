"""One rank's share of a Llama: whole heads, a slice of the feed-forward, a slice of the vocabulary.

Tensor parallelism in its usual form: a rank is the same decoder with fewer heads and a narrower
feed-forward, and what its two row-wise projections give is summed over the ranks. Of a mixture a
rank holds a slice of every expert: all ranks route alike, and their parts of the mixture are
summed. What compresses keys and values (latent attention) is whole on each. Logits are gathered.
Every rank takes its part of each weight from one source, piece by piece, so N ranks hold exactly
the weights of one, and none ever holds a whole model: a checkpoint is mapped, and what one rank has
read from the disk is in memory for all.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _functional_collectives as collectives

from tpubench.suite.workload import Device, UsageError
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.division import by_columns, by_rows
from tpubench.workloads.llama.experts import Mixture
from tpubench.workloads.llama.model import Block, Llama
from tpubench.workloads.llama.quantized import Held, QuantizedLinear, quantize, row_scales
from tpubench.workloads.llama.weights import Piece, Source, shapes


class Summed(nn.Module):
    """What is made of a part of the features, summed over all ranks."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *given: Tensor) -> Tensor:
        assert dist.group.WORLD is not None
        summed: Tensor = collectives.all_reduce(self.part(*given), "sum", dist.group.WORLD)
        return summed


class Gathered(nn.Module):
    """A projection onto a part of the vocabulary, gathered from all ranks."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        assert dist.group.WORLD is not None
        part = self.linear(x).contiguous()
        last = part.dim() - 1
        return collectives.all_gather_tensor(part, last, dist.group.WORLD)


def share(config: LlamaConfig, ranks: int) -> LlamaConfig:
    """The shape of one rank's decoder; UsageError when it does not divide."""
    for what, count in (
        ("key/value heads", config.n_kv_heads),
        ("heads", config.n_heads),
        ("feed-forward features", config.d_ffn),
        ("features of an expert", config.experts.d_ffn if config.experts else 0),
        ("vocabulary entries", config.vocab),
    ):
        if count % ranks:
            raise UsageError(f"{count} {what} do not divide among {ranks} chips")
    experts = config.experts
    return replace(
        config,
        n_heads=config.n_heads // ranks,
        n_kv_heads=config.n_kv_heads // ranks,
        d_ffn=config.d_ffn // ranks,
        experts=replace(experts, d_ffn=experts.d_ffn // ranks) if experts else None,
    )


def build(
    config: LlamaConfig, capacity: int, holding: Held, device: Device, weights: Source
) -> Llama:
    """This rank's decoder, its weights in place; of each weight only this rank's part is copied."""
    with torch.device(device.torch_device):
        model = Llama(share(config, device.ranks), capacity, holding.dtype, holding.quantized)
        head = nn.Linear(
            config.d_model, config.vocab // device.ranks, bias=False, dtype=holding.dtype
        )
    model.head = head
    for name in shapes(config):
        if name != "head.weight":
            owner, _, kind = name.rpartition(".")
            module = model.get_submodule(owner)
            if isinstance(module, QuantizedLinear) and kind == "weight":
                _put(module, name, config, device, weights)
            else:
                _fill(model.get_parameter(name), name, config, device, weights)
    _fill(head.weight, "head.weight", config, device, weights)
    for block in cast("list[Block]", list(model.blocks)):
        attention, ffn = block.attention, block.ffn
        attention.register_module("out", Summed(attention.out))
        if isinstance(ffn, Mixture):
            block.register_module("ffn", Summed(ffn))
        else:
            ffn.register_module("down", Summed(ffn.down))
    model.register_module("head", Gathered(head))
    return model


@torch.no_grad()
def _fill(
    parameter: Tensor, name: str, config: LlamaConfig, device: Device, weights: Source
) -> None:
    if name.endswith(("attention.out.bias", "ffn.down.bias")) and device.rank > 0:
        parameter.zero_()  # added once, not by each
        return
    rows, columns = _part(name, config, device.rank, device.ranks)
    tied = name == "head.weight" and config.tied
    pieces = weights.pieces("embedding.weight" if tied else name)
    _cut(parameter, pieces, rows, columns)


@torch.no_grad()
def _put(
    module: QuantizedLinear, name: str, config: LlamaConfig, device: Device, weights: Source
) -> None:
    """This rank's part of a weight that is quantised by whole rows."""
    rows, columns = _part(name, config, device.rank, device.ranks)

    def scales() -> Iterator[tuple[int, Tensor, Tensor]]:
        for first, piece in weights.pieces(name):
            wide = piece.to(torch.bfloat16)
            yield first, wide, row_scales(wide, module.kind)

    values = ((first, quantize(wide, scale, module.kind)) for first, wide, scale in scales())
    _cut(module.weight, values, rows, columns)
    _cut(module.scale, ((first, scale) for first, _, scale in scales()), rows, None)


def _cut(
    parameter: Tensor,
    pieces: Iterator[Piece],
    rows: list[range] | None,
    columns: slice | None,
) -> None:
    """Copy these rows and columns of a weight that comes in pieces of whole rows."""
    local: Tensor | None = None
    for first, piece in pieces:
        if local is None:
            local = torch.empty(parameter.shape, dtype=parameter.dtype, device=piece.device)
            held = rows or [range(len(local))]
            ends = [mine.stop for mine in held]
            starts = [0, *accumulate(map(len, held))]
        last = first + len(piece)
        for index in range(bisect_right(ends, first), len(held)):
            mine = held[index]
            if mine.start >= last:
                break
            low, high = max(mine.start, first), min(mine.stop, last)
            part = piece[low - first : high - first]
            to = starts[index] + low - mine.start
            local[to : to + high - low].copy_(part if columns is None else part[:, columns])
    assert local is not None
    parameter.copy_(local)


def _part(
    name: str, config: LlamaConfig, rank: int, ranks: int
) -> tuple[list[range] | None, slice | None]:
    """Which rows and which columns of a whole weight this rank holds; None is all of them."""
    if name == "head.weight":
        return _rows([config.vocab], rank, ranks), None
    if not name.startswith("blocks."):
        return None, None
    _, number, rest = name.split(".", 2)
    projection, _, kind = rest.rpartition(".")
    rows = by_rows(config, int(number)).get(projection)
    if rows is not None:
        return _rows(rows, rank, ranks), None
    width = by_columns(config, int(number)).get(projection)
    if width is not None and kind == "weight":
        return None, slice(rank * width // ranks, (rank + 1) * width // ranks)
    return None, None


def _rows(sizes: list[int], rank: int, ranks: int) -> list[range]:
    """This rank's rows of each of the projections that share one weight."""
    held, start = [], 0
    for size in sizes:
        held.append(range(start + rank * size // ranks, start + (rank + 1) * size // ranks))
        start += size
    return held
