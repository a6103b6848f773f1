"""Faults of attention, rotary positions and the cache that ports to another device bring along.

As ``llama_defects.py`` has others: each changes a built step in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from llama_defects import Defect, around, blocks, middle, with_attention
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tpubench.workloads.llama.model import Attention, rope_frequencies, rope_tables
from tpubench.workloads.llama.rope import RopeScaling
from tpubench.workloads.llama.step import LlamaStep

Replacement = Callable[..., Tensor]
FAR = 40
"""Tokens after which something begins that the first ones do not have."""
_WINDOW, _BLOCK = 16, 16


class Replacing(TorchFunctionMode):
    """Inside it a function of torch is called as ``replacement(function, *arguments)``."""

    def __init__(self, function: Any, replacement: Replacement) -> None:
        super().__init__()
        self.function, self.replacement = function, replacement

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is self.function:
            return self.replacement(func, *args, **kwargs)
        return func(*args, **kwargs)


def replacing(owner: Any, name: str, function: Any, replacement: Replacement) -> None:
    """Within a method, replace a function of torch."""

    def inside(plain: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        with Replacing(function, replacement):
            return plain(*arguments, **named)

    around(owner, name, inside)


def attended(module: nn.Module, replacement: Replacement) -> None:
    """Within a module, replace attention: ``replacement(attention, q, k, v, **settings)``."""
    replacing(module, "forward", F.scaled_dot_product_attention, replacement)


def _is_decode(settings: Mapping[str, Any]) -> bool:
    return not settings.get("is_causal")


def scale_of_the_models_width(step: LlamaStep) -> None:
    scale = 1 / math.sqrt(step.weights.config.d_model)
    with_attention(step.model, lambda settings: {**settings, "scale": scale})


@torch.no_grad()
def _rows(step: LlamaStep, order: Callable[[Attention], Tensor]) -> None:
    """Rows of every projection to queries, keys and values, in another order."""
    for block in blocks(step):
        attention = cast(Attention, block.attention)
        weight = attention.qkv.weight
        weight.copy_(weight[order(attention)].clone())


def _heads(heads: Tensor, width: int) -> Tensor:
    """Rows of these heads, each of which has so many."""
    return (heads.unsqueeze(1) * width + torch.arange(width)).reshape(-1)


def keys_and_values_of_the_neighbour(step: LlamaStep) -> None:
    """Each group of queries reads the next key/value head, as of a rank one off."""

    def order(attention: Attention) -> Tensor:
        N, K = attention.n_heads, attention.n_kv_heads
        keys = (torch.arange(K) + 1) % K
        return _heads(torch.cat([torch.arange(N), N + keys, N + K + keys]), attention.head_dim)

    _rows(step, order)


def keys_and_values_swapped(step: LlamaStep) -> None:
    def order(attention: Attention) -> Tensor:
        N, K = attention.n_heads, attention.n_kv_heads
        heads = [torch.arange(N), torch.arange(N + K, N + 2 * K), torch.arange(N, N + K)]
        return _heads(torch.cat(heads), attention.head_dim)

    _rows(step, order)


def packed_by_group(step: LlamaStep) -> None:
    """Rows stored as a group's queries, its key and its value are read as all queries first."""

    def order(attention: Attention) -> Tensor:
        N, K = attention.n_heads, attention.n_kv_heads
        G = N // K
        groups = [[*range(g * G, g * G + G), N + g, N + K + g] for g in range(K)]
        return _heads(torch.tensor(groups).reshape(-1), attention.head_dim)

    _rows(step, order)


def adjacent_pairs_rotated(step: LlamaStep) -> None:
    """Elements 2i and 2i + 1 turn together, not i and i + H/2: dot products see only which do."""

    def order(attention: Attention) -> Tensor:
        N, K, H = attention.n_heads, attention.n_kv_heads, attention.head_dim
        apart = torch.cat([torch.arange(0, H, 2), torch.arange(1, H, 2)])
        turned = (torch.arange(N + K).unsqueeze(1) * H + apart).reshape(-1)
        return torch.cat([turned, torch.arange((N + K) * H, (N + 2 * K) * H)])

    _rows(step, order)


def angles_in_bfloat16(step: LlamaStep) -> None:
    """Positions and frequencies are multiplied in bfloat16: beyond 256 a position is not exact."""
    position_S = torch.arange(len(step.model.cos)).bfloat16()
    angles = torch.outer(position_S, rope_frequencies(step.weights.config).bfloat16()).float()
    step.model.cos.copy_(torch.cat((angles.cos(), angles.cos()), dim=1))
    step.model.sin.copy_(torch.cat((-angles.sin(), angles.sin()), dim=1))


def stretched_as_llama_3(step: LlamaStep) -> None:
    """Frequencies are scaled for a longer context, where the model has none (or the reverse)."""
    scaling = RopeScaling(kind="llama3", factor=8.0, original_context=8192)
    config = replace(step.weights.config, rope_scaling=scaling)
    cos, sin = rope_tables(config, len(step.model.cos), step.model.cos.dtype, torch.device("cpu"))
    step.model.cos.copy_(cos)
    step.model.sin.copy_(sin)


def positions_end_too_early(step: LlamaStep) -> None:
    """Tables are too short, and what is beyond takes the last entry."""
    for table in (step.model.cos, step.model.sin):
        table[FAR:] = table[FAR - 1 : FAR].clone()


def positions_restart_in_a_long_prompt(step: LlamaStep) -> None:
    """It is processed in chunks of 32, each from position 0."""
    length = step.prompt_BL.shape[1]
    for table in (step.model.cos, step.model.sin):
        kept = table.clone()
        for first in range(32, length, 32):
            rows = min(32, length - first)
            table[first : first + rows] = kept[:rows]


def keys_cached_before_rotation(step: LlamaStep) -> None:
    model = step.model

    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, *_ = rest
        y_BLD = plain(q, k, v, *rest)
        cos, sin = model.cos[positions_L].unsqueeze(1), model.sin[positions_L].unsqueeze(1)
        back = k * cos - k.roll(k.shape[3] // 2, dims=3) * sin
        cache[0].index_copy_(2, positions_L, back.transpose(1, 2))
        return y_BLD

    for block in blocks(step):
        around(block.attention, "attend", attend)


def prompt_does_not_see_itself(step: LlamaStep) -> None:
    """Each token of a prompt sees those before it alone; the first sees itself."""

    def attention(plain: Replacement, q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        if _is_decode(settings):
            return plain(q, k, v, **settings)
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(-1)
        seen[0, 0] = True
        return plain(q, k, v, **{**settings, "is_causal": False, "attn_mask": seen})

    attended(middle(step), attention)


def _window(step: LlamaStep, slots: int) -> None:
    def attention(plain: Replacement, q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        if _is_decode(settings):
            return plain(q, k[:, :, -slots:], v[:, :, -slots:], **settings)
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril().triu(1 - slots)
        return plain(q, k, v, **{**settings, "is_causal": False, "attn_mask": seen})

    attended(step.model, attention)


def sliding_window(step: LlamaStep) -> None:
    _window(step, _WINDOW)


def long_sliding_window(step: LlamaStep) -> None:
    _window(step, FAR)


def _in_decode(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    """A decode step sees other keys and values of its context."""

    def attention(plain: Replacement, q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        if _is_decode(settings):
            k, v = change(k), change(v)
        return plain(q, k, v, **settings)

    attended(module, attention)


def first_key_never_read(step: LlamaStep) -> None:
    _in_decode(middle(step), lambda buffer: buffer[:, :, 1:])


def unfilled_block_of_keys_dropped(step: LlamaStep) -> None:
    """Decoding reads whole blocks of 16 slots alone."""
    _in_decode(step.model, lambda b: b[:, :, : b.shape[2] // _BLOCK * _BLOCK])


def blocks_of_keys_not_rescaled(step: LlamaStep) -> None:
    """Each block's softmax counts alike, whatever its largest score."""

    def attention(plain: Replacement, q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        if not _is_decode(settings):
            return plain(q, k, v, **settings)
        parts = zip(torch.split(k, _BLOCK, 2), torch.split(v, _BLOCK, 2), strict=True)
        return torch.stack([plain(q, keys, values, **settings) for keys, values in parts]).mean(0)

    attended(step.model, attention)


def softmax_in(dtype: torch.dtype, when: torch.dtype | None) -> Defect:
    """Scores and their sum are rounded to ``dtype``; where given, only in a program of ``when``."""

    def defect(step: LlamaStep) -> None:
        def attention(
            plain: Replacement, q: Tensor, k: Tensor, v: Tensor, **settings: Any
        ) -> Tensor:
            if when is not None and q.dtype is not when:
                return plain(q, k, v, **settings)
            groups = q.shape[1] // k.shape[1]
            k, v = (t.repeat_interleave(groups, dim=1) for t in (k, v))
            score = (q @ k.transpose(2, 3)).to(dtype) / math.sqrt(q.shape[3])
            if not _is_decode(settings):
                score = score.masked_fill(torch.ones(score.shape[2:]).triu(1).bool(), -math.inf)
            raised = (score - score.amax(dim=3, keepdim=True)).exp()
            total = raised[..., :1] * 0
            for part in torch.split(
                raised, 1, dim=3
            ):  # summed one after another, and rounded each time
                total = total + part
            return (raised / total).to(v.dtype) @ v

        attended(step.model, attention)

    return defect


def _stored(step: LlamaStep, change: Callable[[Tensor], Tensor]) -> None:
    """Keys and values are written to the cache otherwise: [B, L, K, H] each."""

    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        return plain(q, change(k), change(v), *rest)

    for block in blocks(step):
        around(block.attention, "attend", attend)


def int8_cache(step: LlamaStep) -> None:
    """A scale for each token and head."""

    def change(t: Tensor) -> Tensor:
        scale = t.float().abs().amax(dim=3, keepdim=True).clamp_min(1e-9) / 127
        return ((t.float() / scale).round() * scale).to(t.dtype)

    _stored(step, change)


def bfloat16_cache(step: LlamaStep) -> None:
    """Right in a program that is bfloat16 itself: its twin is not."""
    _stored(step, lambda t: t.bfloat16().to(t.dtype))


def two_sequences_share_a_cache_row(step: LlamaStep) -> None:
    """The second one's keys and values are there for both."""

    def change(t: Tensor) -> Tensor:
        t = t.clone()
        t[:1] = t[1:2] if len(t) > 1 else t[:1]
        return t

    _stored(step, change)


def two_layers_share_a_cache(step: LlamaStep) -> None:
    """The last layer writes over what the one before keeps."""
    last = len(blocks(step)) - 1
    around(step.cache, "layer", lambda plain, index: plain(index - (index == last)))


def last_step_takes_the_first_slot(step: LlamaStep) -> None:
    """The cache has one slot too few, and begins again."""
    ring = step.prompt_BL.shape[1] + step.output_len - 2

    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, reach, slots = rest
        return plain(q, k, v, cache, positions_L % ring, reach, min(slots, ring))

    for block in blocks(step):
        around(block.attention, "attend", attend)


DEFECTS: dict[str, Defect] = {
    **{
        defect.__name__.replace("_", " "): defect
        for defect in (
            scale_of_the_models_width,
            keys_and_values_of_the_neighbour,
            keys_and_values_swapped,
            packed_by_group,
            adjacent_pairs_rotated,
            angles_in_bfloat16,
            stretched_as_llama_3,
            positions_end_too_early,
            positions_restart_in_a_long_prompt,
            keys_cached_before_rotation,
            prompt_does_not_see_itself,
            sliding_window,
            long_sliding_window,
            first_key_never_read,
            unfilled_block_of_keys_dropped,
            blocks_of_keys_not_rescaled,
            int8_cache,
            bfloat16_cache,
            two_sequences_share_a_cache_row,
            two_layers_share_a_cache,
            last_step_takes_the_first_slot,
        )
    },
    "softmax in bfloat16": softmax_in(torch.bfloat16, None),
}
