"""The Llama decoder as it is trained: float32 master weights, arithmetic in a smaller precision.

Every parameter is float32 and is cast to the compute precision where it is used, so autograd
returns its gradient in float32. This is what FSDP's mixed precision does with ``param_dtype`` set
to the compute precision and ``reduce_dtype`` to float32, where the casts here find nothing to do:
one device and many compute the same thing. Activations are in the compute precision throughout;
softmax, norms and the loss accumulate in float32.

Apart from the cache and the casts it is the program of ``llama/model.py``, with the same parameter
names; letters in tensor names are those used there.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.latent import LatentAttention
from tpubench.workloads.llama.model import rope_tables

IGNORED = -100
"""A target that contributes no loss."""


def loss_of(given: Any) -> Tensor:
    """The loss that a model gives, where it also gives what it noted on the way."""
    loss: Tensor = given if isinstance(given, Tensor) else given[0]
    return loss


class Linear(nn.Linear):
    """A linear layer that multiplies in its input's precision."""

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class RMSNorm(nn.Module):
    """Root-mean-square norm, scaled in its input's precision."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class Attention(nn.Module):
    """Causal grouped-query attention over the whole sequence."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.head_dim = config.head_dim
        heads = config.n_heads + 2 * config.n_kv_heads
        width = config.n_heads * config.head_dim
        self.qkv = Linear(config.d_model, heads * config.head_dim, bias=config.attention_bias)
        self.out = Linear(width, config.d_model, bias=config.output_bias)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.norm_eps)

    def forward(self, x_BLD: Tensor, cos_LH: Tensor, sin_LH: Tensor) -> Tensor:
        B, L, _ = x_BLD.shape
        N, K, H = self.n_heads, self.n_kv_heads, self.head_dim
        heads_BLMH = self.qkv(x_BLD).view(B, L, N + 2 * K, H)
        rotated_BLMH, v_BLKH = torch.split(heads_BLMH, [N + K, K], dim=2)
        if self.qk_norm:
            q_BLNH, k_BLKH = torch.split(rotated_BLMH, [N, K], dim=2)
            rotated_BLMH = torch.cat((self.q_norm(q_BLNH), self.k_norm(k_BLKH)), dim=2)
        rolled_BLMH = rotated_BLMH.roll(H // 2, dims=-1)  # the sine carries the sign
        rotated_BLMH = rotated_BLMH * cos_LH.unsqueeze(1) + rolled_BLMH * sin_LH.unsqueeze(1)
        q_BLNH, k_BLKH = torch.split(rotated_BLMH, [N, K], dim=2)
        y_BNLH = F.scaled_dot_product_attention(
            q_BLNH.transpose(1, 2),
            k_BLKH.transpose(1, 2),
            v_BLKH.transpose(1, 2),
            is_causal=True,
            enable_gqa=N != K,
        )
        return cast(Tensor, self.out(y_BNLH.transpose(1, 2).reshape(B, L, N * H)))


class TrainedLatentAttention(LatentAttention):
    """Latent attention over the whole sequence."""

    def forward(self, x_BLD: Tensor, cos_LR: Tensor, sin_LR: Tensor) -> Tensor:
        cached_BLX = self.compressed(x_BLD, cos_LR, sin_LR)
        q_BLNH, q_BLNR = self.turned(self.queries(x_BLD), cos_LR, sin_LR)
        return cast(Tensor, self.out(self.to_sequence(q_BLNH, q_BLNR, cached_BLX, None)))


def attention(config: LlamaConfig) -> Attention | TrainedLatentAttention:
    """That of a layer."""
    if config.latent is None:
        return Attention(config)
    return TrainedLatentAttention(
        config,
        lambda width, rows: Linear(width, rows, bias=False),
        lambda width: RMSNorm(width, config.norm_eps),
        torch.float32,
    )


class FeedForward(nn.Module):
    """SwiGLU: gate and up in one projection."""

    def __init__(self, width: int, d_ffn: int, *, bias: bool = False) -> None:
        super().__init__()
        self.gate_up = Linear(width, 2 * d_ffn, bias=bias)
        self.down = Linear(d_ffn, width, bias=bias)

    def forward(self, x_BLD: Tensor) -> Tensor:
        gate_BLF, up_BLF = self.gate_up(x_BLD).chunk(2, dim=-1)
        return cast(Tensor, self.down(F.silu(gate_BLF) * up_BLF))


class Block(nn.Module):
    """One decoder layer: the unit that many chips shard."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = attention(config)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = FeedForward(config.d_model, config.d_ffn, bias=config.mlp_bias)

    def forward(self, x_BLD: Tensor, cos_LH: Tensor, sin_LH: Tensor) -> Tensor:
        h_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), cos_LH, sin_LH)
        return cast(Tensor, h_BLD + self.ffn(self.ffn_norm(h_BLD)))


class Loss(nn.Module):
    """Sum of −log p(target) over the targets that are not IGNORED: a float32 scalar.

    A module without weights, so that a compiler that takes the model part by part fuses the widest
    tensors of all, the logits in float32 and their gradient, into what makes and reads them.
    """

    def forward(self, x_BLD: Tensor, head_VD: Tensor, targets_BL: Tensor) -> Tensor:
        logits_BLV = F.linear(x_BLD, head_VD)
        return F.cross_entropy(
            logits_BLV.flatten(0, 1).float(),
            targets_BL.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )


class TrainedLlama(nn.Module):
    """From tokens to the sum of their losses.

    dtype: the precision of the arithmetic. recompute: keep only each block's input for the
    backward pass and run the block again there.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, config: LlamaConfig, length: int, dtype: torch.dtype, *, recompute: bool
    ) -> None:
        super().__init__()
        self.config, self.length, self.dtype, self.recompute = config, length, dtype, recompute
        table = torch.empty(config.vocab, config.d_model)
        if not table.is_meta:  # a draw there would import the compiler: a second of every process
            nn.init.normal_(table)
        self.embedding = nn.Embedding(config.vocab, config.d_model, _weight=table)
        self.blocks = nn.ModuleList(self.block(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab, bias=False)
        self.loss = Loss()
        self.tie()
        self.place_tables(self.embedding.weight.device)

    def block(self, config: LlamaConfig, index: int) -> nn.Module:
        """The layer of this number, counted from nought."""
        del index
        return Block(config)

    def tie(self) -> None:
        """The head is the embedding table, where the configuration says so."""
        if self.config.tied:
            self.head.weight = self.embedding.weight

    def place_tables(self, device: torch.device) -> None:
        """Rotary tables on ``device``, in the precision of the arithmetic."""
        cos, sin = rope_tables(self.config, self.length, self.dtype, device)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def recomputed(self, block: nn.Module, *inputs: Tensor) -> Any:
        """The block's output, of which the backward pass will find its inputs only."""
        return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)

    def through(self, block: nn.Module, x_BLD: Tensor, *more: Tensor) -> Any:
        """What a block makes of its input."""
        inputs = (x_BLD, self.cos, self.sin, *more)
        return self.recomputed(block, *inputs) if self.recompute else block(*inputs)

    def tables(self) -> tuple[Tensor, Tensor]:
        """Embedding and head, [V, D] each, in the precision of the arithmetic."""
        table_VD = self.embedding.weight.to(self.dtype)
        return table_VD, table_VD if self.config.tied else self.head.weight.to(self.dtype)

    def forward(self, tokens_BL: Tensor, targets_BL: Tensor) -> Any:
        """Sum of −log p(target) over all targets that are not IGNORED: a float32 scalar."""
        table_VD, head_VD = self.tables()
        x_BLD = F.embedding(tokens_BL, table_VD)
        for block in self.blocks:
            x_BLD = self.through(block, x_BLD)
        return self.loss(self.norm(x_BLD), head_VD, targets_BL)
