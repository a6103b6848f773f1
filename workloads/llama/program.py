"""The Llama programs that a compiler is given: prefill and one decode step, on the meta device.

The modules are those of ``model.py``. Only when the weights are to be spread over chips are the
fused projections laid out chip by chip, so that cutting their rows into equal parts gives every
chip whole heads, and as many gate rows as up rows, without moving anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.suite.workload import Case, Program, UsageError
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.filled import Filled
from tpubench.workloads.llama.model import Attention, Block, FeedForward, KVCache, Llama
from tpubench.workloads.llama.quantized import Held, QuantizedLinear, held


class ShardedAttention(Attention):
    """Attention whose fused projection holds, chip after chip, that chip's query, key and value."""

    shards: int

    def forward(
        self,
        x_BLD: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: tuple[Tensor, Tensor],
        positions_L: Tensor,
        reach: Tensor | Filled | None,
        slots: int,
    ) -> Tensor:
        B, L, _ = x_BLD.shape
        N, K, H, C = self.n_heads, self.n_kv_heads, self.head_dim, self.shards
        cos_LH, sin_LH = (table.unsqueeze(1).unsqueeze(1) for table in rotary)
        heads_BLCMH = self.qkv(x_BLD).view(B, L, C, (N + 2 * K) // C, H)
        rotated_BLCMH, v_BLCKH = torch.split(heads_BLCMH, [(N + K) // C, K // C], dim=3)
        rotated_BLCMH = self.normed(rotated_BLCMH, N // C)
        rotated_BLCMH = torch.addcmul(
            rotated_BLCMH * cos_LH, rotated_BLCMH.roll(H // 2, dims=-1), sin_LH
        )
        q_BLCNH, k_BLCKH = torch.split(rotated_BLCMH, [N // C, K // C], dim=3)
        # Chip after chip is key/value head after head, its query heads side by side.
        return self.attend(
            q_BLCNH.reshape(B, L, N, H),
            k_BLCKH.reshape(B, L, K, H),
            v_BLCKH.reshape(B, L, K, H),
            cache,
            positions_L,
            reach,
            slots,
        )


class ShardedFeedForward(FeedForward):
    """SwiGLU whose fused projection holds, chip after chip, that chip's gate and up rows."""

    shards: int

    def forward(self, x_BLD: Tensor) -> Tensor:
        B, L, _ = x_BLD.shape
        gate_BLCF, up_BLCF = self.gate_up(x_BLD).view(B, L, self.shards, 2, -1).unbind(3)
        return self.down((F.silu(gate_BLCF) * up_BLCF).reshape(B, L, -1))  # type: ignore[no-any-return]


class TiedHead(nn.Module):
    """The head of a model that has none of its own: an exported tensor must have one name."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.table = [embedding]  # in a list, so that it is not registered a second time

    def forward(self, x_BD: Tensor) -> Tensor:
        return F.linear(x_BD, self.table[0].weight)


class Greedy(nn.Module):
    """The decoder and its cache as one module: tokens and positions in, next tokens out."""

    def __init__(self, config: LlamaConfig, batch: int, capacity: int, holding: Held) -> None:
        super().__init__()
        self.model = Llama(config, capacity, holding.dtype, holding.quantized)
        if config.tied:
            self.model.head = TiedHead(self.model.embedding)  # type: ignore[assignment]
        self.cache = KVCache(config, batch, capacity, holding.dtype)

    def forward(self, tokens_BL: Tensor, positions_L: Tensor) -> Tensor:
        L = tokens_BL.shape[1]
        # A prompt attends to itself; a decode step to the whole cache, its length then corrected
        # for by the program's context.
        slots = L if L > 1 else self.cache.capacity
        logits_BV = self.model(tokens_BL, positions_L, self.cache, slots)
        tokens_B1: Tensor = logits_BV.argmax(dim=-1, keepdim=True)
        return tokens_B1


def program(case: Case, config: LlamaConfig, phase: str, *, depth: int, chips: int) -> Program:
    """``prefill`` or ``decode`` with ``depth`` layers, tensor-parallel over ``chips``.

    With more chips than key/value heads, each head is held by several chips, as serving engines
    do. UsageError when heads, feed-forward width or vocabulary do not divide.
    """
    batch, prompt = case.number("batch"), case.number("input_len")
    output = case.number("output_len")
    if chips > 1:
        config = replace(config, n_kv_heads=max(config.n_kv_heads, chips))
    for what, size in (
        ("query heads", config.n_heads),
        ("key/value heads", config.n_kv_heads),
        ("feed-forward width", config.d_ffn),
        ("vocabulary", config.vocab),
    ):
        if size % chips:
            raise UsageError(f"{case.preset}: {size} ({what}) does not divide among {chips} chips")
    if config.n_heads % config.n_kv_heads:
        raise UsageError(f"{case.preset}: {config.n_heads} heads do not go round {chips} chips")
    with torch.device("meta"):
        module = Greedy(replace(config, n_layers=depth), batch, prompt + output, held(case))
        length = prompt if phase == "prefill" else 1
        inputs = (
            torch.empty(batch, length, dtype=torch.int64),
            torch.empty(length, dtype=torch.int64),
        )
    module.eval().requires_grad_(False)
    split: dict[str, int] = {}
    if chips > 1:
        split = _spread(module, chips)
    return Program(
        module=module,
        inputs=inputs,
        split=split,
        context=None if phase == "prefill" else prompt + (output + 1) // 2,
    )


def _spread(module: Greedy, chips: int) -> dict[str, int]:
    """Lay the fused projections out chip by chip; the dimension that each tensor is cut along."""
    split = {
        "model.head.weight": 0,
        "model.embedding.weight": 0,
    }
    for index, each in enumerate(module.model.blocks):
        block = cast(Block, each)
        block.attention.__class__, block.ffn.__class__ = ShardedAttention, ShardedFeedForward
        cast(ShardedAttention, block.attention).shards = chips
        cast(ShardedFeedForward, block.ffn).shards = chips
        prefix = f"model.blocks.{index}"
        for name, dimension in (
            ("attention.qkv.weight", 0),
            ("attention.qkv.bias", 0),
            ("attention.out.weight", 1),
            ("ffn.gate_up.weight", 0),
            ("ffn.down.weight", 1),
        ):
            split[f"{prefix}.{name}"] = dimension
        for name in ("attention.qkv", "ffn.gate_up"):
            if isinstance(block.get_submodule(name), QuantizedLinear):
                split[f"{prefix}.{name}.scale"] = 0
        split[f"cache.layers.{index}.keys"] = split[f"cache.layers.{index}.values"] = 1
    return split
