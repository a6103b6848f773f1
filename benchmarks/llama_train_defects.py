"""Faults that a training program can have, put into one on purpose.

As ``llama_defects.py`` has them for a program that generates: each changes a built step in place,
and a twin is built with the same defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast
from unittest import mock

import torch
import torch.nn.functional as F
from llama_defects import around, shape, with_attention
from torch import Tensor, nn

from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.llama_pretrain.model import Attention, Block
from tpubench.workloads.llama_pretrain.step import TrainStep


def case(
    depth: int,
    width: int,
    *,
    tied: bool = False,
    name: str = "llama-pretrain",
    **settings: int | str,
) -> Case:
    """That workload of a model with so many layers, four query heads a key/value head."""
    config = shape(depth, width, tied=tied)
    workload = registry.workload(name)
    texts = {key: [str(value)] for key, value in settings.items()}
    (tiny,) = workload.cases("tiny", texts)
    params = {**workload.prepare(tiny, Weights()).params, "layers": depth}
    return replace(tiny, preset=f"{depth} layers", params=params, shape=config.to_json())


def blocks(step: TrainStep) -> list[Block]:
    return cast("list[Block]", list(step.model.blocks))


def middle(step: TrainStep) -> Block:
    layers = blocks(step)
    return layers[len(layers) // 2]


def on_gradient(parameter: Tensor, change: Callable[[Tensor], Tensor]) -> None:
    """Change the gradient of a parameter whenever it is computed."""
    parameter.register_hook(change)  # type: ignore[no-untyped-call]  # torch gives it no types


def updating_by(step: TrainStep, other: Callable[[], object]) -> Callable[..., None]:
    """A pass whose update is another; checks that come after it update as the step does."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        with mock.patch.object(step, "update", other):
            plain(mark)

    return run


def none(step: TrainStep) -> None:
    """The program as it is."""


def missing_layer(step: TrainStep) -> None:
    around(middle(step), "forward", lambda plain, x_BLD, *rest: x_BLD)


def last_layer_missing(step: TrainStep) -> None:
    around(blocks(step)[-1], "forward", lambda plain, x_BLD, *rest: x_BLD)


def missing_layer_when_deep(step: TrainStep) -> None:
    """As a fault of a long chain would be: a shallow twin does not have it."""
    if step.model.config.n_layers > 4:
        missing_layer(step)


def layers_swapped(step: TrainStep) -> None:
    first, second, *_ = blocks(step)
    around(first.ffn, "forward", lambda plain, x_BLD: second.ffn(x_BLD))


def rope_backwards(step: TrainStep) -> None:
    step.model.sin.neg_()


def no_rope(step: TrainStep) -> None:
    step.model.sin.zero_()
    step.model.cos.fill_(1.0)


def not_causal(step: TrainStep) -> None:
    with_attention(step.model, lambda settings: {**settings, "is_causal": False})


def softmax_scale_wrong(step: TrainStep) -> None:
    scale = 1 / step.model.config.head_dim
    with_attention(step.model, lambda settings: {**settings, "scale": scale})


def loss_not_shifted(step: TrainStep) -> None:
    """Each token predicts itself."""
    around(
        step.model,
        "forward",
        lambda plain, ids_BL, targets_BL: plain(ids_BL, _as(targets_BL, ids_BL)),
    )


def loss_shifted_twice(step: TrainStep) -> None:
    around(
        step.model,
        "forward",
        lambda plain, ids_BL, targets_BL: plain(ids_BL, _as(targets_BL, ids_BL.roll(-2, 1))),
    )


def _as(targets_BL: Tensor, other_BL: Tensor) -> Tensor:
    return torch.where(targets_BL < 0, targets_BL, other_BL)


def loss_of_the_first_sequence_alone(step: TrainStep) -> None:
    def forward(plain: Callable[..., Tensor], ids_BL: Tensor, targets_BL: Tensor) -> Tensor:
        return plain(ids_BL[:1], targets_BL[:1]) * len(ids_BL)

    around(step.model, "forward", forward)


def stale_loss(step: Any) -> None:
    """Each pass gives the loss of the one before: a value read too early."""
    previous = torch.zeros(())

    def run(plain: Callable[..., None], mark: Any) -> None:
        nonlocal previous
        plain(mark)
        previous, step.losses[-1] = step.losses[-1], previous

    around(step, "run", run)


def loss_read_too_early(step: Any) -> None:
    """What its memory held before the device came to it."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        plain(mark)
        step.losses[-1] = torch.full_like(step.losses[-1], float("nan"))

    around(step, "run", run)


def last_target_left_out(step: TrainStep) -> None:
    def forward(plain: Callable[..., Tensor], ids_BL: Tensor, targets_BL: Tensor) -> Tensor:
        return plain(ids_BL, torch.cat([targets_BL[:, :-1], targets_BL[:, -1:] * 0 - 100], dim=1))

    around(step.model, "forward", forward)


def detached_layer(step: TrainStep) -> None:
    around(middle(step).attention, "forward", lambda plain, *inputs: plain(*inputs).detach())


def gradient_of_a_block_zeroed(step: TrainStep) -> None:
    for parameter in middle(step).parameters():
        on_gradient(parameter, torch.zeros_like)


def biased_gradient(step: TrainStep) -> None:
    on_gradient(middle(step).ffn.down.weight, lambda gradient: 1.1 * gradient)


def gradients_rounded_to_bfloat16(step: TrainStep) -> None:
    for parameter in step.model.parameters():
        on_gradient(parameter, lambda gradient: gradient.bfloat16().float())


def gradients_accumulate_in_the_window(step: TrainStep) -> None:
    around(step, "run", updating_by(step, step.optimizer.step))


def gradients_accumulate(step: TrainStep) -> None:
    around(step.optimizer, "zero_grad", lambda plain, **named: None)


def idle_optimizer(step: TrainStep) -> None:
    around(step.optimizer, "step", lambda plain: None)


def idle_optimizer_in_the_window(step: TrainStep) -> None:
    around(step, "run", updating_by(step, step.optimizer.zero_grad))


def no_learning_rate_in_the_window(step: TrainStep) -> None:
    """Steps are taken and counted, and nothing moves."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        (group,) = step.optimizer.param_groups
        usual, group["lr"] = group["lr"], 0.0
        plain(mark)
        group["lr"] = usual

    around(step, "run", run)


def layer_without_an_optimizer(step: TrainStep) -> None:
    (group,) = step.optimizer.param_groups
    idle = set(middle(step).parameters())
    group["params"] = [parameter for parameter in group["params"] if parameter not in idle]


def moments_lost(step: TrainStep) -> None:
    """Each step begins without them, though it is counted as a later one."""

    def update(plain: Callable[[], None]) -> None:
        for state in step.optimizer.state.values():
            state["exp_avg"].zero_()
            state["exp_avg_sq"].zero_()
        plain()

    around(step, "update", update)


def stale_second_moment(step: TrainStep) -> None:
    """It stays as the first step left it."""
    kept: dict[Tensor, Tensor] = {}

    def update(plain: Callable[[], None]) -> None:
        plain()
        for parameter, state in step.optimizer.state.items():
            first = kept.setdefault(parameter, state["exp_avg_sq"].clone())
            if state["step"] == 1:
                first.copy_(state["exp_avg_sq"])
            state["exp_avg_sq"].copy_(first)

    around(step, "update", update)


def gradients_clipped(step: TrainStep) -> None:
    """To a norm of 0.1, as nobody asked for; AdamW hardly cares for a scale."""

    def update(plain: Callable[[], None]) -> None:
        nn.utils.clip_grad_norm_(step.model.parameters(), 0.1)
        plain()

    around(step, "update", update)


def hasty_optimizer(step: TrainStep) -> None:
    step.optimizer.param_groups[0]["lr"] *= 1.2


def forgetful_optimizer(step: TrainStep) -> None:
    step.optimizer.param_groups[0]["betas"] = (0.0, 0.95)


def no_weight_decay(step: TrainStep) -> None:
    step.optimizer.param_groups[0]["weight_decay"] = 0.0


def norms_without_weight_decay(step: TrainStep) -> None:
    (group,) = step.optimizer.param_groups
    vectors = [parameter for parameter in group["params"] if parameter.ndim == 1]
    group["params"] = [parameter for parameter in group["params"] if parameter.ndim > 1]
    step.optimizer.add_param_group({**group, "params": vectors, "weight_decay": 0.0})


def weights_kept_in_bfloat16(step: TrainStep) -> None:
    def update(plain: Callable[[], None]) -> None:
        plain()
        with torch.no_grad():
            for parameter in step.model.parameters():
                parameter.copy_(parameter.bfloat16())

    around(step, "update", update)


def int8_products(step: TrainStep) -> None:
    """Every projection multiplies by weights rounded to 8 bits, a scale for each row."""

    def forward(linear: nn.Linear, plain: Callable[..., Tensor], x: Tensor) -> Tensor:
        scale = linear.weight.detach().abs().amax(dim=1, keepdim=True) / 127
        rounded = (linear.weight.detach() / scale).round() * scale
        weight = linear.weight + (rounded - linear.weight).detach()
        return F.linear(x, weight.to(x.dtype))

    for block in blocks(step):
        attention = cast(Attention, block.attention)
        for linear in (attention.qkv, attention.out, block.ffn.gate_up, block.ffn.down):
            around(linear, "forward", partial(forward, linear))


def norm_eps_wrong(step: TrainStep) -> None:
    for block in blocks(step):
        block.attention_norm.eps = block.ffn_norm.eps = 1e-6


DEFECTS: dict[str, Callable[[TrainStep], None]] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        missing_layer,
        last_layer_missing,
        missing_layer_when_deep,
        layers_swapped,
        rope_backwards,
        no_rope,
        not_causal,
        softmax_scale_wrong,
        int8_products,
        norm_eps_wrong,
        loss_not_shifted,
        loss_shifted_twice,
        last_target_left_out,
        loss_of_the_first_sequence_alone,
        stale_loss,
        loss_read_too_early,
        detached_layer,
        gradient_of_a_block_zeroed,
        biased_gradient,
        gradients_rounded_to_bfloat16,
        gradients_clipped,
        gradients_accumulate,
        gradients_accumulate_in_the_window,
        idle_optimizer,
        idle_optimizer_in_the_window,
        no_learning_rate_in_the_window,
        layer_without_an_optimizer,
        hasty_optimizer,
        forgetful_optimizer,
        moments_lost,
        stale_second_moment,
        no_weight_decay,
        norms_without_weight_decay,
        weights_kept_in_bfloat16,
    )
}
