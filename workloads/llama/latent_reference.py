"""Latent attention from its formulas: what a program's outputs are held against.

Equations 37 to 47 of DeepSeek-V2 (arXiv:2405.04434, appendix C): every head's keys and values are
made of the compressed vector for every token. Nothing is cached and nothing taken into the queries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tpubench.workloads.llama.config import LlamaConfig

Linear = Callable[[str, Tensor], Tensor]
"""A projection of the layer by name."""


def latent_heads(
    config: LlamaConfig,
    layer: Mapping[str, Tensor],
    x_BLD: Tensor,
    *,
    linear: Linear,
    norm: Callable[[Tensor, Tensor, float], Tensor],
    turned: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys, [B, L, N, H + R] each, and values, [B, L, N, H], of one layer.

    turned: rotates the last dimension of [B, L, M, R] by each token's position.
    """
    assert config.latent is not None
    latent, N, H = config.latent, config.n_heads, config.head_dim
    B, L, _ = x_BLD.shape
    if latent.q_rank:
        low = norm(
            linear("attention.q_a", x_BLD), layer["attention.q_a_norm.weight"], config.norm_eps
        )
        q = linear("attention.q_b", low)
    else:
        q = linear("attention.q", x_BLD)
    q_plain, q_turned = torch.split(q.view(B, L, N, -1), [H, latent.rope_dim], dim=3)
    both = linear("attention.kv_a", x_BLD)
    c_BLC, k_BLR = both[..., : latent.kv_rank], both[..., latent.kv_rank :]
    c_BLC = norm(c_BLC, layer["attention.kv_a_norm.weight"], config.norm_eps)
    k_plain, v = linear("attention.kv_b", c_BLC).view(B, L, N, 2 * H).chunk(2, dim=3)
    shared = turned(k_BLR.unsqueeze(2)).repeat(1, 1, N, 1)
    return torch.cat((q_plain, turned(q_turned)), 3), torch.cat((k_plain, shared), 3), v
