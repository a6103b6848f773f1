"""One rank's share of a Llama: whole heads, a slice of the feed-forward, a slice of the vocabulary.

Tensor parallelism in its usual form: a rank is the same decoder with fewer heads and a narrower
feed-forward, and what its two row-wise projections give is summed over the ranks. Logits are
gathered. Every rank draws (or reads) each whole weight and keeps its part, so N ranks hold exactly
the weights of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import _functional_collectives as collectives

from tpubench.suite.workload import Device, UsageError
from tpubench.workloads._llama import Block, Llama
from tpubench.workloads._llama_config import LlamaConfig


class Summed(nn.Module):
    """A projection of a part of the features, summed over all ranks."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        assert dist.group.WORLD is not None
        summed: Tensor = collectives.all_reduce(self.linear(x), "sum", dist.group.WORLD)
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
        ("vocabulary entries", config.vocab),
    ):
        if count % ranks:
            raise UsageError(f"{count} {what} do not divide among {ranks} chips")
    return replace(
        config,
        n_heads=config.n_heads // ranks,
        n_kv_heads=config.n_kv_heads // ranks,
        d_ffn=config.d_ffn // ranks,
    )


def build(
    config: LlamaConfig,
    capacity: int,
    dtype: torch.dtype,
    device: Device,
    seed: int,
    checkpoint: Path | None,
) -> Llama:
    """This rank's decoder, its weights in place."""
    with torch.device(device.torch_device):
        model = Llama(share(config, device.ranks), capacity, dtype)
        head = nn.Linear(config.d_model, config.vocab // device.ranks, bias=False, dtype=dtype)
    model.head = head
    with torch.no_grad():
        for name, whole in weights(config, dtype, device.torch_device, seed, checkpoint):
            if name == "head.weight" or (name == "embedding.weight" and config.tied):
                head.weight.copy_(whole.chunk(device.ranks)[device.rank])
            if name != "head.weight":
                part = _part(name, whole, config, device.rank, device.ranks)
                model.get_parameter(name).copy_(part)
    for block in cast("list[Block]", list(model.blocks)):
        attention, ffn = block.attention, block.ffn
        attention.register_module("out", Summed(attention.out))
        ffn.register_module("down", Summed(ffn.down))
    model.register_module("head", Gathered(head))
    return model


def whole_model(
    config: LlamaConfig,
    capacity: int,
    dtype: torch.dtype,
    device: str,
    seed: int,
    checkpoint: Path | None,
) -> Llama:
    """The undivided decoder on the CPU, with the weights that the ranks hold together."""
    with torch.device("cpu"):
        model = Llama(config, capacity, dtype)
    with torch.no_grad():
        for name, whole in weights(config, dtype, device, seed, checkpoint):
            model.get_parameter(name).copy_(whole)
    return model


def weights(
    config: LlamaConfig, dtype: torch.dtype, device: str, seed: int, checkpoint: Path | None
) -> Iterator[tuple[str, Tensor]]:
    """Each whole weight by name, one at a time: drawn as ``_llama.initialise`` draws them."""
    if checkpoint is not None:
        from tpubench.workloads._checkpoint import load

        with torch.device("cpu"):
            model = Llama(config, 1, dtype)
        load(checkpoint, model)
        yield from model.named_parameters()
        return
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Llama(config, 1, dtype).named_parameters()}
    torch.manual_seed(seed)
    for name, shape in shapes.items():
        values = torch.ones(shape, dtype=dtype, device=device)
        yield name, values if "norm" in name else values.normal_(0.0, 0.02)


def _part(name: str, whole: Tensor, config: LlamaConfig, rank: int, ranks: int) -> Tensor:
    heads = [config.n_heads * config.head_dim] + 2 * [config.n_kv_heads * config.head_dim]
    if ".attention.qkv." in name:
        return _slices(whole, heads, rank, ranks)
    if name.endswith("ffn.gate_up.weight"):
        return _slices(whole, [config.d_ffn, config.d_ffn], rank, ranks)
    if name.endswith(("attention.out.weight", "ffn.down.weight")):
        return whole.chunk(ranks, dim=1)[rank]
    if name.endswith("attention.out.bias"):
        return whole if rank == 0 else torch.zeros_like(whole)  # added once, not by each
    return whole


def _slices(fused: Tensor, sizes: list[int], rank: int, ranks: int) -> Tensor:
    """This rank's rows of each of the projections that share one weight."""
    return torch.cat([piece.chunk(ranks)[rank] for piece in torch.split(fused, sizes)])
