"""Faults that a generating program can have, put into one on purpose, and a bench to check it on.

Each defect changes a built step in place; a twin is built with the same defect. They are what
``parity_defects.py`` tabulates and the tests hold the parity checks to.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tpubench.suite import registry
from tpubench.suite.parity import Means, Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Device, Weights, Workload
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.model import Attention, Block, rope_tables
from tpubench.workloads.llama.step import LlamaStep

Defect = Callable[[LlamaStep], None]


def shape(depth: int, width: int, *, tied: bool) -> LlamaConfig:
    """A model with so many layers, four query heads for each key/value head."""
    return LlamaConfig(
        d_model=width,
        n_layers=depth,
        n_heads=8,
        n_kv_heads=2,
        head_dim=width // 8,
        d_ffn=3 * width,
        vocab=16 * width,
        tied=tied,
        rope_theta=500_000.0,
    )


def case(depth: int, width: int, *, tied: bool = False, **settings: int | str) -> Case:
    """``llama-infer`` of a model of that shape."""
    config = shape(depth, width, tied=tied)
    workload = registry.workload("llama-infer")
    texts = {key: [str(value)] for key, value in settings.items()}
    (tiny,) = workload.cases("tiny", {"batch": ["4"], **texts})
    return replace(
        workload.prepare(tiny, Weights()), preset=f"{depth} layers", shape=config.to_json()
    )


def means(workload: Workload, defect: Callable[[Any], None], cache: ReferenceCache) -> Means:
    """What the CPU lends, for programs as written (eager); a twin is built with the defect."""
    device = Device(torch_device="cpu")

    def build(case: Case) -> Any:
        step = workload.build(case, device, Weights())
        defect(step)
        return step

    return Means(
        device=device,
        accelerator=False,
        build=build,
        exact_float32=nullcontext,
        float32_precision="float32",
        barrier=lambda: None,
        flush=lambda: None,
        references=cache,
    )


def outcome(
    workload: Workload,
    case: Case,
    defect: Callable[[Any], None],
    cache: ReferenceCache,
    weights: Weights | None = None,
) -> list[Parity]:
    """What the checks say of the program with a defect after one pass."""
    step = workload.build(case, Device(torch_device="cpu"), weights or Weights())
    checks = workload.checks(case, step, means(workload, defect, cache))
    defect(step)
    step.run(lambda *_: None)
    return list(checks())


def blocks(step: LlamaStep) -> list[Block]:
    return cast("list[Block]", list(step.model.blocks))


def middle(step: LlamaStep) -> Block:
    layers = blocks(step)
    return layers[len(layers) // 2]


def around(owner: Any, name: str, wrap: Callable[..., Any]) -> None:
    """Replace a method by ``wrap(method, *arguments)``."""
    plain = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        return wrap(plain, *arguments, **named)

    setattr(owner, name, wrapped)


class _Attention(TorchFunctionMode):
    """Inside it, attention is called with other settings."""

    def __init__(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__()
        self.change = change

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            kwargs = self.change(kwargs)
        return func(*args, **kwargs)


def with_attention(model: nn.Module, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    def inside(plain: Callable[..., Tensor], *arguments: Any) -> Tensor:
        with _Attention(change):
            return plain(*arguments)

    around(model, "forward", inside)


def none(step: LlamaStep) -> None:
    """The program as it is."""


def missing_layer(step: LlamaStep) -> None:
    drop(step, len(step.model.blocks) // 2)


def first_layer_missing(step: LlamaStep) -> None:
    drop(step, 0)


def last_layer_missing(step: LlamaStep) -> None:
    drop(step, len(step.model.blocks) - 1)


def drop(step: LlamaStep, index: int) -> None:
    step.model.blocks = nn.ModuleList(b for i, b in enumerate(step.model.blocks) if i != index)


def missing_layer_when_deep(step: LlamaStep) -> None:
    """As a fault of a long chain would be: a shallow twin does not have it."""
    if step.weights.config.n_layers > 4:
        missing_layer(step)


def layers_swapped(step: LlamaStep) -> None:
    layers = blocks(step)
    layers[0], layers[1] = layers[1], layers[0]
    step.model.blocks = nn.ModuleList(layers)


def rope_theta_wrong(step: LlamaStep) -> None:
    config = replace(step.weights.config, rope_theta=1e4, rope_scaling=None)
    cos, sin = rope_tables(config, len(step.model.cos), step.model.cos.dtype, torch.device("cpu"))
    step.model.cos.copy_(cos)
    step.model.sin.copy_(sin)


def rope_backwards(step: LlamaStep) -> None:
    step.model.sin.neg_()


def position_off_by_one_in_decode(step: LlamaStep) -> None:
    """New tokens are rotated as if they came one later; they are stored where they belong."""
    model = step.model
    cos, sin = model.cos.clone(), model.sin.clone()

    def forward(plain: Callable[..., Tensor], tokens_BL: Tensor, *rest: Any) -> Tensor:
        late = int(tokens_BL.shape[1] == 1)
        model.cos, model.sin = cos.roll(-late, 0), sin.roll(-late, 0)
        return plain(tokens_BL, *rest)

    around(model, "forward", forward)


def not_causal(step: LlamaStep) -> None:
    with_attention(step.model, lambda settings: {**settings, "is_causal": False})


def softmax_scale_wrong(step: LlamaStep) -> None:
    scale = 1 / step.weights.config.head_dim
    with_attention(step.model, lambda settings: {**settings, "scale": scale})


def heads_grouped_wrong(step: LlamaStep) -> None:
    """Query head n reads key/value head n mod K, not n // G."""
    for block in blocks(step):
        attention = cast(Attention, block.attention)
        N, K, H = attention.n_heads, attention.n_kv_heads, attention.head_dim
        order = torch.arange(N).view(N // K, K).T.reshape(-1)
        columns = (order.unsqueeze(1) * H + torch.arange(H)).reshape(-1)
        with torch.no_grad():
            queries = attention.qkv.weight[: N * H]
            queries.copy_(queries[columns].clone())
            attention.out.weight.copy_(attention.out.weight[:, columns].clone())


def stale_slot(step: LlamaStep) -> None:
    """The prompt's third token is not written to one layer's cache: what was there stays."""

    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, mask_LS, slots = rest
        if len(positions_L) == 1:
            return plain(q, k, v, *rest)
        kept = [buffer[:, :, 2].clone() for buffer in cache]
        y_BLD = plain(q, k, v, cache, positions_L, mask_LS, slots)
        for buffer, old in zip(cache, kept, strict=True):
            buffer[:, :, 2] = old
        return y_BLD

    around(middle(step).attention, "attend", attend)


def reads_one_slot_more(step: LlamaStep) -> None:
    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, mask_LS, slots = rest
        return plain(q, k, v, cache, positions_L, mask_LS, slots + int(len(positions_L) == 1))

    around(middle(step).attention, "attend", attend)


def reads_one_slot_less(step: LlamaStep) -> None:
    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, mask_LS, slots = rest
        return plain(q, k, v, cache, positions_L, mask_LS, slots - int(len(positions_L) == 1))

    around(middle(step).attention, "attend", attend)


def writes_one_slot_late(step: LlamaStep) -> None:
    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, mask_LS, slots = rest
        return plain(q, k, v, cache, positions_L + int(len(positions_L) == 1), mask_LS, slots)

    around(middle(step).attention, "attend", attend)


def forgets_half_the_context(step: LlamaStep) -> None:
    """Decoding reads the newer half of the slots, as a kernel that loses a split would."""

    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        cache, positions_L, mask_LS, slots = rest
        if len(positions_L) > 1:
            return plain(q, k, v, *rest)
        keys, values = (buffer.clone() for buffer in cache)
        half = slots // 2
        y = plain(q, k, v, (keys[:, :, half:], values[:, :, half:]), positions_L - half, mask_LS,
                  slots - half)  # fmt: skip
        cache[0].index_copy_(2, positions_L, k.transpose(1, 2))
        cache[1].index_copy_(2, positions_L, v.transpose(1, 2))
        return y

    for block in blocks(step):
        around(block.attention, "attend", attend)


@torch.no_grad()
def _requantised(step: LlamaStep, change: Callable[[Tensor], Tensor]) -> None:
    for block in blocks(step):
        for parameter in block.parameters():
            if parameter.dim() == 2:
                parameter.copy_(change(parameter.float()))


def int8_weights(step: LlamaStep) -> None:
    """A scale for each row, as weight-only quantisation has it."""

    def change(weight: Tensor) -> Tensor:
        scale = weight.abs().amax(dim=1, keepdim=True) / 127
        return (weight / scale).round() * scale

    _requantised(step, change)


def fp8_weights(step: LlamaStep) -> None:
    def change(weight: Tensor) -> Tensor:
        scale = weight.abs().amax(dim=1, keepdim=True) / 448
        return (weight / scale).to(torch.float8_e4m3fn).float() * scale

    _requantised(step, change)


def fp8_cache(step: LlamaStep) -> None:
    def attend(plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        k, v = (t.to(torch.float8_e4m3fn).to(t.dtype) for t in (k, v))
        return plain(q, k, v, *rest)

    for block in blocks(step):
        around(block.attention, "attend", attend)


def norm_eps_wrong(step: LlamaStep) -> None:
    for block in blocks(step):
        block.attention_norm.eps = block.ffn_norm.eps = 1e-6


def norm_weight_ignored(step: LlamaStep) -> None:
    with torch.no_grad():
        middle(step).ffn_norm.weight.fill_(1.0)


def gate_and_up_swapped(step: LlamaStep) -> None:
    with torch.no_grad():
        weight = middle(step).ffn.gate_up.weight
        weight.copy_(weight.roll(len(weight) // 2, 0).clone())


def tokens_all_the_last(step: LlamaStep) -> None:
    """A replay writes into the tensor that the previous one returned, and nobody copied it."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        step.tokens = [step.tokens[-1]] * len(step.tokens)

    around(step, "run", run)


def token_of_another_sequence(step: LlamaStep) -> None:
    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        step.tokens[-2] = step.tokens[-2].clone()
        step.tokens[-2][1] = step.tokens[-2][0]

    around(step, "run", run)


def one_sequence_wrong(step: LlamaStep) -> None:
    """The last sequence of the batch begins with another token than it was given."""

    def forward(plain: Callable[..., Tensor], tokens_BL: Tensor, *rest: Any) -> Tensor:
        if tokens_BL.shape[1] > 1:
            tokens_BL = tokens_BL.clone()
            tokens_BL[-1, -1] = tokens_BL[-1, 0]
        return plain(tokens_BL, *rest)

    around(step.model, "forward", forward)


def second_best_token(step: LlamaStep) -> None:
    """Every tenth entry of the vocabulary is never chosen: a search that skips some."""

    def forward(plain: Callable[..., Tensor], *arguments: Any) -> Tensor:
        logits_BV = plain(*arguments).clone()
        logits_BV[:, ::10] = -1e4
        return logits_BV

    around(step.model, "forward", forward)


DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        missing_layer,
        first_layer_missing,
        last_layer_missing,
        missing_layer_when_deep,
        layers_swapped,
        rope_theta_wrong,
        rope_backwards,
        position_off_by_one_in_decode,
        not_causal,
        softmax_scale_wrong,
        heads_grouped_wrong,
        stale_slot,
        reads_one_slot_more,
        reads_one_slot_less,
        writes_one_slot_late,
        forgets_half_the_context,
        int8_weights,
        fp8_weights,
        fp8_cache,
        norm_eps_wrong,
        norm_weight_ignored,
        gate_and_up_swapped,
        tokens_all_the_last,
        token_of_another_sequence,
        one_sequence_wrong,
        second_best_token,
    )
}
