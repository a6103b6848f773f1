"""Faults of norms, products, loading and the loop around them that a generating port can have.

As ``llama_defects.py`` has others: each changes a built step in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from attention_defects import FAR, replacing
from llama_defects import Defect, around, blocks, middle
from torch import Tensor, nn

from tpubench.workloads.llama.step import LlamaStep

_FEW = 16
"""New tokens after which something begins that the first ones do not have."""


def _norms(step: LlamaStep) -> list[Any]:
    in_blocks = [norm for block in blocks(step) for norm in (block.attention_norm, block.ffn_norm)]
    return [*in_blocks, step.model.norm]


def _normed(step: LlamaStep, square: Callable[[Tensor], Tensor], when: torch.dtype | None) -> None:
    """Norms divide by the root of another mean square."""

    def forward(norm: Any, plain: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if when is not None and x.dtype is not when:
            return plain(x)
        y: Tensor = x * torch.rsqrt(square(x) + norm.eps).to(x.dtype) * norm.weight
        return y

    for norm in _norms(step):
        around(norm, "forward", partial(forward, norm))


def _summed_in_bfloat16(x: Tensor) -> Tensor:
    """Mean of squares, 16 partial sums rounded each time, as a kernel without wide sums has it."""
    total = torch.zeros_like(x[..., :1], dtype=torch.bfloat16)
    for part in x.bfloat16().square().chunk(16, dim=-1):
        total = total + part.sum(dim=-1, keepdim=True)
    return total / x.shape[-1]


def norms_summed_in_bfloat16(step: LlamaStep) -> None:
    _normed(step, _summed_in_bfloat16, None)


def norms_summed_in_bfloat16_only(step: LlamaStep) -> None:
    """Not in float32, as a twin has it."""
    _normed(step, _summed_in_bfloat16, torch.bfloat16)


def norms_without_the_mean_of_squares(step: LlamaStep) -> None:
    """A layer norm: what is left once the mean is taken away."""

    def square(x: Tensor) -> Tensor:
        return x.float().var(dim=-1, keepdim=True, correction=0)

    _normed(step, square, None)


@torch.no_grad()
def gain_plus_one(step: LlamaStep) -> None:
    """As Gemma stores its norms."""
    for norm in _norms(step):
        norm.weight.add_(1.0)


def norm_of_the_layer_before(step: LlamaStep) -> None:
    layers = blocks(step)
    for before, block in pairwise(layers):
        block.ffn_norm = before.ffn_norm


def final_norm_missing(step: LlamaStep) -> None:
    around(step.model.norm, "forward", lambda plain, x: x)


def residual_after_the_norm(step: LlamaStep) -> None:
    block = middle(step)

    def forward(plain: Callable[..., Tensor], x_BLD: Tensor, *rest: Any) -> Tensor:
        normed_BLD: Tensor = block.attention_norm(x_BLD)
        return plain(x_BLD, *rest) - x_BLD + normed_BLD

    around(block, "forward", forward)


def gelu_in_one_layer(step: LlamaStep) -> None:
    replacing(middle(step).ffn, "forward", F.silu, lambda plain, x, **_: F.gelu(x))


def silu_of_the_product(step: LlamaStep) -> None:
    """silu(gate · up) in one layer, not silu(gate) · up."""
    ffn = middle(step).ffn

    def forward(plain: Callable[..., Tensor], x: Tensor) -> Tensor:
        gate, up = ffn.gate_up(x).chunk(2, dim=-1)
        y: Tensor = ffn.down(F.silu(gate * up))
        return y

    around(ffn, "forward", forward)


@torch.no_grad()
def head_tied_by_mistake(step: LlamaStep) -> None:
    step.model.head.weight = step.model.embedding.weight


def embedding_scaled(step: LlamaStep) -> None:
    """By the root of the width, as Gemma does."""
    factor = math.sqrt(step.weights.config.d_model)
    around(step.model.embedding, "forward", lambda plain, tokens: factor * plain(tokens))


def prompt_judged_one_token_early(step: LlamaStep) -> None:
    """The first token comes from the logits of the last but one of the prompt."""

    def forward(plain: Callable[..., Tensor], tokens_BL: Tensor, *rest: Any) -> Tensor:
        if tokens_BL.shape[1] == 1:
            return plain(tokens_BL, *rest)
        return plain(tokens_BL, *rest, True)[:, -2]

    around(step.model, "forward", forward)


def first_token_lost(step: LlamaStep) -> None:
    """The prompt begins with another token: a second begin-of-text, or none."""

    def forward(plain: Callable[..., Tensor], tokens_BL: Tensor, *rest: Any) -> Tensor:
        if tokens_BL.shape[1] > 1:
            tokens_BL = torch.cat((tokens_BL[:, :1] * 0 + 1, tokens_BL[:, 1:]), dim=1)
        return plain(tokens_BL, *rest)

    around(step.model, "forward", forward)


def _searched(step: LlamaStep, entries: Callable[[int], int]) -> None:
    """Of so many logits the search for the largest sees so many; the logits are right."""

    def argmax(plain: Callable[..., Tensor], logits: Tensor, **settings: Any) -> Tensor:
        return plain(logits[..., : entries(logits.shape[-1])], **settings)

    replacing(step, "run", Tensor.argmax, argmax)


def half_of_the_vocabulary_searched(step: LlamaStep) -> None:
    _searched(step, lambda vocab: vocab // 2)


def half_of_a_large_vocabulary_searched(step: LlamaStep) -> None:
    """A twin's is not so large."""
    if len(blocks(step)) > 4:
        half_of_the_vocabulary_searched(step)


def end_of_the_vocabulary_not_searched(step: LlamaStep) -> None:
    """The last 64th of it."""
    _searched(step, lambda vocab: vocab - vocab // 64)


def token_before_fed_again(step: LlamaStep) -> None:
    def decode(plain: Callable[..., Tensor], tokens_B1: Tensor, index: int) -> Tensor:
        kept.append(tokens_B1)
        return plain(kept[-2] if index else tokens_B1, index)

    kept: list[Tensor] = []
    around(step, "decode", decode)


def ends_after_a_few_tokens(step: LlamaStep) -> None:
    """A sequence that is thought to be over repeats one token."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        for index in range(_FEW, len(step.tokens)):
            step.tokens[index] = torch.zeros_like(step.tokens[index])

    around(step, "run", run)


def _skipped_after(step: LlamaStep, new_tokens: int) -> None:
    first = step.prompt_BL.shape[1] + new_tokens

    def forward(plain: Callable[..., Tensor], x_BLD: Tensor, *rest: Any) -> Tensor:
        positions_L = rest[2]
        return x_BLD if int(positions_L[0]) >= first else plain(x_BLD, *rest)

    around(middle(step), "forward", forward)


def layer_skipped_in_decode(step: LlamaStep) -> None:
    _skipped_after(step, 0)


def layer_skipped_after_a_few_tokens(step: LlamaStep) -> None:
    _skipped_after(step, _FEW)


def layer_skips_the_end_of_a_long_prompt(step: LlamaStep) -> None:
    """Its feed-forward leaves out the last tokens of a long prompt but for the very last: a tile
    that is not full."""

    def forward(plain: Callable[..., Tensor], x_BLD: Tensor, *rest: Any) -> Tensor:
        y_BLD = plain(x_BLD, *rest)
        if x_BLD.shape[1] > FAR:
            y_BLD = y_BLD.clone()
            y_BLD[:, FAR:-1] = 0
        return y_BLD

    around(middle(step).ffn, "forward", forward)


@torch.no_grad()
def partial_sum_of_one_rank_missing(step: LlamaStep) -> None:
    (weight,) = middle(step).attention.out.parameters()
    weight[:, weight.shape[1] // 2 :] = 0


def sum_over_ranks_taken_twice(step: LlamaStep) -> None:
    around(middle(step).ffn, "forward", lambda plain, x: 2 * plain(x))


def same_layer_twice(step: LlamaStep) -> None:
    """The second has the first one's weights."""
    layers = blocks(step)
    layers[1].load_state_dict(layers[0].state_dict())


def _projections(step: LlamaStep) -> list[nn.Linear]:
    modules = [m for block in blocks(step) for m in block.modules()]
    return [module for module in modules if isinstance(module, nn.Linear)]


def _multiplied(step: LlamaStep, when: torch.dtype | None) -> None:
    """Products are summed in blocks of 32 inputs, each sum rounded to bfloat16."""

    def forward(linear: nn.Linear, plain: Callable[..., Tensor], x: Tensor) -> Tensor:
        if when is not None and x.dtype is not when:
            return plain(x)
        total = torch.zeros((), dtype=torch.bfloat16)
        parts = zip(torch.split(x, 32, -1), torch.split(linear.weight, 32, 1), strict=True)
        for x_part, w_part in parts:
            total = total + F.linear(x_part, w_part).bfloat16()
        return total.to(x.dtype)

    for linear in _projections(step):
        around(linear, "forward", partial(forward, linear))


def products_summed_in_bfloat16(step: LlamaStep) -> None:
    _multiplied(step, None)


def products_summed_in_bfloat16_only(step: LlamaStep) -> None:
    """Not in float32, as a twin has it."""
    _multiplied(step, torch.bfloat16)


@torch.no_grad()
def int8_weights_with_one_scale(step: LlamaStep) -> None:
    """For a whole projection, not for each of its rows."""
    for linear in _projections(step):
        scale = linear.weight.float().abs().amax() / 127
        linear.weight.copy_((linear.weight.float() / scale).round() * scale)


DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        norms_summed_in_bfloat16,
        norms_without_the_mean_of_squares,
        gain_plus_one,
        norm_of_the_layer_before,
        final_norm_missing,
        residual_after_the_norm,
        gelu_in_one_layer,
        silu_of_the_product,
        head_tied_by_mistake,
        embedding_scaled,
        prompt_judged_one_token_early,
        first_token_lost,
        half_of_the_vocabulary_searched,
        half_of_a_large_vocabulary_searched,
        end_of_the_vocabulary_not_searched,
        token_before_fed_again,
        ends_after_a_few_tokens,
        layer_skipped_in_decode,
        layer_skipped_after_a_few_tokens,
        layer_skips_the_end_of_a_long_prompt,
        partial_sum_of_one_rank_missing,
        sum_over_ranks_taken_twice,
        same_layer_twice,
        products_summed_in_bfloat16,
        int8_weights_with_one_scale,
    )
}
