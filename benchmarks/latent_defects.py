"""Faults that latent attention can have, put into a program of ``moe-infer`` on purpose.

Beside those of ``moe_defects.py``; each changes a built step in place, and a twin is built with the
same defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from unittest import mock

import moe_defects
import torch
from llama_defects import Defect, around, blocks
from torch import Tensor, nn

from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import Experts, Latent, LlamaConfig
from tpubench.workloads.llama.latent import CachedLatentAttention, rotated
from tpubench.workloads.llama.step import LlamaStep


def case(
    depth: int,
    width: int,
    *,
    tied: bool = False,
    experts: Experts = moe_defects.EXPERTS,
    q_rank: int | None = None,
    **settings: int | str,
) -> Case:
    """``moe-infer`` of a model with latent attention, queries compressed to half the width."""
    plain = moe_defects.case(depth, width, tied=tied, experts=experts, **settings)
    config = LlamaConfig.from_json(plain.shape)
    latent = Latent(
        kv_rank=width // 4,
        rope_dim=config.head_dim // 2,
        q_rank=width // 2 if q_rank is None else q_rank,
        magnitude=1.1,
    )
    config = replace(config, n_kv_heads=config.n_heads, qk_norm=False, latent=latent)
    return replace(plain, shape=config.to_json())


def attentions(step: LlamaStep) -> list[CachedLatentAttention]:
    return [cast(CachedLatentAttention, block.attention) for block in blocks(step)]


def middle(step: LlamaStep) -> CachedLatentAttention:
    layers = attentions(step)
    return layers[len(layers) // 2]


def compressed_norm_missing(step: LlamaStep) -> None:
    for attention in attentions(step):
        attention.kv_a_norm = nn.Identity()


def query_norm_missing(step: LlamaStep) -> None:
    for attention in attentions(step):
        attention.q_a_norm = nn.Identity()


def shared_key_not_rotated(step: LlamaStep) -> None:
    for attention in attentions(step):
        around(attention, "compressed", lambda plain, x, cos, sin: plain(x, cos * 0 + 1, sin * 0))


def adjacent_pairs_rotated(step: LlamaStep) -> None:
    """As checkpoints have them, where rows were put in halves: of queries, not of keys."""

    def turned(plain: Callable[..., Any], q: Tensor, cos: Tensor, sin: Tensor) -> Any:
        R = cos.shape[-1]
        order = torch.arange(R).view(2, -1).T.reshape(-1)
        q_BLNH, q_BLNR = torch.split(q, [q.shape[-1] - R, R], dim=-1)
        turned_BLNR = rotated(q_BLNR[..., order], cos.unsqueeze(1), sin.unsqueeze(1))
        return q_BLNH, turned_BLNR[..., order.argsort()]

    for attention in attentions(step):
        around(attention, "turned", turned)


def scale_of_the_plain_part_alone(step: LlamaStep) -> None:
    for attention in attentions(step):
        attention.scale = attention.latent.magnitude**2 / attention.head_dim**0.5


def yarns_magnitude_left_out(step: LlamaStep) -> None:
    for attention in attentions(step):
        attention.scale /= attention.latent.magnitude**2


def magnitude_not_squared(step: LlamaStep) -> None:
    for attention in attentions(step):
        attention.scale /= attention.latent.magnitude


def _decoding(
    attention: CachedLatentAttention, change: Callable[..., tuple[Tensor, Tensor, Tensor]]
) -> None:
    """Change what a decode step attends with: both parts of queries, and the cache it reads."""

    def to_cache(plain: Callable[..., Tensor], *given: Any) -> Tensor:
        *taken, mask_LS = given
        return plain(*change(*taken), mask_LS)

    around(attention, "to_cache", to_cache)


def absorbed_by_another_heads_matrix(step: LlamaStep) -> None:
    for attention in attentions(step):
        _decoding(attention, lambda q, turned, cached: (q.roll(1, 2), turned, cached))


def rotated_part_left_out_in_decode(step: LlamaStep) -> None:
    for attention in attentions(step):
        _decoding(attention, lambda q, turned, cached: (q, turned * 0, cached))


def values_made_by_the_keys_matrix(step: LlamaStep) -> None:
    """Decoding takes the rows that make keys for those that make values."""
    for attention in attentions(step):

        def to_cache(
            plain: Callable[..., Tensor],
            *given: Any,
            attention: CachedLatentAttention = attention,
        ) -> Tensor:
            N, H = attention.n_heads, attention.head_dim
            own = attention.kv_b.weight
            rows = own.view(N, 2, H, -1)
            doubled = rows[:, [0, 0]].reshape(own.shape)
            attention.kv_b.weight = nn.Parameter(doubled, False)
            y = plain(*given)
            attention.kv_b.weight = own
            return y

        around(attention, "to_cache", to_cache)


def _caching(attention: CachedLatentAttention, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Change the rows that are written, given them and what the cache held there."""

    def forward(
        plain: Callable[..., Tensor], x: Tensor, rotary: Any, cache: Any, *rest: Any
    ) -> Any:
        positions_L = rest[0]
        old = cache[0][:, 0, positions_L].clone()
        written = attention.compressed

        def compressed(*given: Any) -> Tensor:
            return change(written(*given), old)

        with mock.patch.object(attention, "compressed", compressed):
            return plain(x, rotary, cache, *rest)

    around(attention, "forward", forward)


def stale_slot(step: LlamaStep) -> None:
    """The prompt's third token is not written to one layer's cache: what was there stays."""

    def change(new: Tensor, old: Tensor) -> Tensor:
        if new.shape[1] == 1:
            return new
        return torch.cat((new[:, :2], old[:, 2:3], new[:, 3:]), dim=1)

    _caching(middle(step), change)


def shared_key_not_cached(step: LlamaStep) -> None:
    """New tokens write the compressed part alone."""
    for attention in attentions(step):
        rank = attention.latent.kv_rank

        def change(new: Tensor, old: Tensor, rank: int = rank) -> Tensor:
            if new.shape[1] > 1:
                return new
            return torch.cat((new[..., :rank], old[..., rank:]), dim=-1)

        _caching(attention, change)


def fp8_cache(step: LlamaStep) -> None:
    for attention in attentions(step):
        _caching(attention, lambda new, old: new.to(torch.float8_e4m3fn).to(new.dtype))


def reads_one_slot_more(step: LlamaStep) -> None:
    def forward(plain: Callable[..., Tensor], *given: Any) -> Tensor:
        *first, slots = given
        return plain(*first, slots + int(first[0].shape[1] == 1))

    around(middle(step), "forward", forward)


DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        compressed_norm_missing,
        query_norm_missing,
        shared_key_not_rotated,
        adjacent_pairs_rotated,
        scale_of_the_plain_part_alone,
        yarns_magnitude_left_out,
        magnitude_not_squared,
        absorbed_by_another_heads_matrix,
        rotated_part_left_out_in_decode,
        values_made_by_the_keys_matrix,
        stale_slot,
        shared_key_not_cached,
        fp8_cache,
        reads_one_slot_more,
    )
}
