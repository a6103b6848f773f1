"""Multi-head latent attention: what is cached is compressed (DeepSeek-AI 2024, arXiv:2405.04434).

Keys and values of all heads are made from one compressed vector a token, c; beside it stands one
key that is rotated and that all heads share (section 2.1.3). Only these two are cached, C + R
values a token and layer. A prompt makes every head's keys and values of them and attends as usual.
A decode step does not: the matrix that would make keys is taken into the query, and the one that
would make values into what was summed, so that the step reads the cache as it is, once for all
heads (section 2.1.2).

Letters beside those of ``model.py``: C width of c, R width of what is rotated, X = C + R; here H is
a head's width without the rotated part, and that of its values.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.workloads.llama.config import Latent, LlamaConfig


class Expansion(nn.Module):
    """c to the keys and then the values of each head; the weight is also used by itself."""

    def __init__(self, latent: Latent, heads: int, head_dim: int, dtype: torch.dtype) -> None:
        super().__init__()
        rows = heads * 2 * head_dim
        self.weight = nn.Parameter(torch.empty(rows, latent.kv_rank, dtype=dtype))

    def forward(self, c_BSC: Tensor) -> Tensor:
        return F.linear(c_BSC, self.weight.to(c_BSC.dtype))


class LatentAttention(nn.Module):
    """The projections, and attention of a sequence to itself."""

    def __init__(
        self,
        config: LlamaConfig,
        linear: Callable[[int, int], nn.Module],
        norm: Callable[[int], nn.Module],
        dtype: torch.dtype,
    ) -> None:
        """linear: a projection from a width to rows. norm: of a width. dtype: of the weights."""
        super().__init__()
        assert config.latent is not None
        self.latent, self.n_heads, self.head_dim = config.latent, config.n_heads, config.head_dim
        D, N, H, R = config.d_model, config.n_heads, config.head_dim, config.latent.rope_dim
        if self.latent.q_rank:
            self.q_a = linear(D, self.latent.q_rank)
            self.q_a_norm = norm(self.latent.q_rank)
            self.q_b = linear(self.latent.q_rank, N * (H + R))
        else:
            self.q = linear(D, N * (H + R))
        self.kv_a = linear(D, self.latent.kv_rank + R)
        self.kv_a_norm = norm(self.latent.kv_rank)
        self.kv_b = Expansion(self.latent, N, H, dtype)
        self.out = linear(N * H, D)
        self.scale = self.latent.magnitude**2 / math.sqrt(H + R)

    def queries(self, x_BLD: Tensor) -> Tensor:
        """[B, L, N, H + R], not yet rotated."""
        B, L, _ = x_BLD.shape
        q = self.q_b(self.q_a_norm(self.q_a(x_BLD))) if self.latent.q_rank else self.q(x_BLD)
        return q.view(B, L, self.n_heads, -1)  # type: ignore[no-any-return]

    def compressed(self, x_BLD: Tensor, cos_LR: Tensor, sin_LR: Tensor) -> Tensor:
        """What is cached of each token, c and the shared key: [B, L, X]."""
        latent = self.latent
        c_BLC, k_BLR = torch.split(self.kv_a(x_BLD), [latent.kv_rank, latent.rope_dim], dim=-1)
        return torch.cat((self.kv_a_norm(c_BLC), rotated(k_BLR, cos_LR, sin_LR)), dim=-1)

    def turned(self, q_BLNQ: Tensor, cos_LR: Tensor, sin_LR: Tensor) -> tuple[Tensor, Tensor]:
        """Each query's part that is as it was, and its part that is rotated."""
        q_BLNH, q_BLNR = torch.split(q_BLNQ, [self.head_dim, self.latent.rope_dim], dim=-1)
        return q_BLNH, rotated(q_BLNR, cos_LR.unsqueeze(1), sin_LR.unsqueeze(1))

    def to_sequence(
        self, q_BLNH: Tensor, q_BLNR: Tensor, cached_BSX: Tensor, mask_LS: Tensor | None
    ) -> Tensor:
        """Every head's keys and values are made; causal where there is no mask: [B, L, N·H]."""
        (B, L, N, H), S = q_BLNH.shape, cached_BSX.shape[1]
        c_BSC, k_BSR = torch.split(cached_BSX, [self.latent.kv_rank, self.latent.rope_dim], dim=-1)
        k_BSNH, v_BSNH = torch.split(self.kv_b(c_BSC).view(B, S, N, 2 * H), H, dim=-1)
        k_BSNQ = torch.cat((k_BSNH, k_BSR.unsqueeze(2).expand(-1, -1, N, -1)), dim=-1)
        y_BNLH = F.scaled_dot_product_attention(
            torch.cat((q_BLNH, q_BLNR), dim=-1).transpose(1, 2),
            k_BSNQ.transpose(1, 2),
            v_BSNH.transpose(1, 2),
            attn_mask=mask_LS,
            is_causal=mask_LS is None,
            scale=self.scale,
        )
        return y_BNLH.transpose(1, 2).reshape(B, L, N * H)

    def to_cache(
        self, q_BLNH: Tensor, q_BLNR: Tensor, cached_B1SX: Tensor, mask_LS: Tensor | None
    ) -> Tensor:
        """One token, by the cache as it is: [B, 1, N·H].

        The heads stand in for the length, so each cached vector is read once.
        """
        B, _, N, H = q_BLNH.shape
        weight_NFC = self.kv_b.weight.view(N, 2 * H, self.latent.kv_rank)
        q_NBC = torch.bmm(q_BLNH.view(B, N, H).transpose(0, 1), weight_NFC[:, :H])
        q_B1NX = torch.cat((q_NBC.transpose(0, 1), q_BLNR.view(B, N, -1)), dim=-1).unsqueeze(1)
        y_B1NC = F.scaled_dot_product_attention(
            q_B1NX,
            cached_B1SX,
            cached_B1SX[..., : self.latent.kv_rank],
            attn_mask=mask_LS,
            scale=self.scale,
        )
        y_NBH = torch.bmm(y_B1NC.squeeze(1).transpose(0, 1), weight_NFC[:, H:].transpose(1, 2))
        return y_NBH.transpose(0, 1).reshape(B, 1, N * H)


class CachedLatentAttention(LatentAttention):
    """The same over a static cache of [B, 1, capacity, X]."""

    def forward(
        self,
        x_BLD: Tensor,
        rotary: tuple[Tensor, Tensor],
        cache: tuple[Tensor, ...],
        positions_L: Tensor,
        mask_LS: Tensor | None,
        slots: int,
    ) -> Tensor:
        (kept,) = cache
        kept.index_copy_(2, positions_L, self.compressed(x_BLD, *rotary).unsqueeze(1))
        q_BLNH, q_BLNR = self.turned(self.queries(x_BLD), *rotary)
        cached_B1SX = kept[:, :, :slots]
        if x_BLD.shape[1] == 1:
            y_BLD = self.to_cache(q_BLNH, q_BLNR, cached_B1SX, mask_LS)
        else:
            y_BLD = self.to_sequence(q_BLNH, q_BLNR, cached_B1SX.squeeze(1), mask_LS)
        return self.out(y_BLD)  # type: ignore[no-any-return]


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turned by the tables of ``rope_tables``: half a roll, the sine carries the sign."""
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin
