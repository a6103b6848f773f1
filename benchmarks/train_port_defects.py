"""Faults of optimizers, losses and gradients that ports of a training program bring along.

As ``llama_train_defects.py`` has others: each changes a built step in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from attention_defects import Replacing, attended, replacing
from llama_defects import around
from llama_train_defects import middle, on_gradient
from torch import Tensor, nn

from tpubench.workloads.llama_pretrain.model import IGNORED
from tpubench.workloads.llama_pretrain.reference import AdamWSettings
from tpubench.workloads.llama_pretrain.step import TrainStep

Defect = Callable[[TrainStep], None]
_FAR, _FEW = 64, 2
"""Tokens, and sequences, after which something begins that the first ones do not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adam:
    """AdamW spelled out, in which any part may be otherwise."""

    correct: bool = True
    eps_inside: bool = False
    decay_in_gradient: bool = False
    moments: torch.dtype = torch.float32
    rounded: Callable[[Tensor], Tensor] = lambda weight: weight

    @torch.no_grad()
    def step(self, step: TrainStep) -> None:
        s: AdamWSettings = step.settings
        for name, parameter in step.trained():
            assert parameter.grad is not None, name
            state = step.optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
            number = int(state["step"])
            rate = step.optimizer.param_groups[0]["lr"]
            gradient = parameter.grad
            if self.decay_in_gradient:
                gradient = gradient + s.weight_decay * parameter
            else:
                parameter.mul_(1 - rate * s.weight_decay)
            mean = state["exp_avg"].mul_(s.beta1).add_((1 - s.beta1) * gradient)
            square = state["exp_avg_sq"].mul_(s.beta2).add_((1 - s.beta2) * gradient.square())
            for moment in (mean, square):
                moment.copy_(moment.to(self.moments))
            if self.correct:
                mean = mean / (1 - s.beta1**number)
                square = square / (1 - s.beta2**number)
            root = (square + s.eps).sqrt() if self.eps_inside else square.sqrt() + s.eps
            parameter.sub_(rate * mean / root)
            parameter.copy_(self.rounded(parameter))


def _adam(adam: _Adam) -> Defect:
    return lambda step: around(step.optimizer, "step", lambda plain: adam.step(step))


def _rounded_at_random(weight: Tensor) -> Tensor:
    """To bfloat16, up or down so that the mean is right."""
    bits = weight.view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32)
    return ((bits + noise) & -(1 << 16)).view(torch.float32)


def spelled_out(step: TrainStep) -> None:
    """No fault: what the others change is AdamW."""
    _adam(_Adam())(step)


def betas_swapped(step: TrainStep) -> None:
    group = step.optimizer.param_groups[0]
    group["betas"] = group["betas"][::-1]


def rate_two_hundredths_higher(step: TrainStep) -> None:
    step.optimizer.param_groups[0]["lr"] *= 1.02


def larger_epsilon(step: TrainStep) -> None:
    step.optimizer.param_groups[0]["eps"] = 1e-6


def embedding_not_trained(step: TrainStep) -> None:
    (group,) = step.optimizer.param_groups
    idle = step.model.embedding.weight
    group["params"] = [parameter for parameter in group["params"] if parameter is not idle]


def _losses_apart(
    step: TrainStep, apart: Callable[[Tensor], Tensor], when: Callable[[TrainStep], bool]
) -> None:
    """Some targets count in the loss and have no gradient. apart: which of [B, L]."""

    def forward(plain: Callable[..., Tensor], ids_BL: Tensor, targets_BL: Tensor) -> Tensor:
        mute_BL = apart(targets_BL)
        heard = plain(ids_BL, targets_BL.masked_fill(mute_BL, IGNORED))
        with torch.no_grad():
            rest = plain(ids_BL, targets_BL.masked_fill(~mute_BL, IGNORED))
        return heard + rest

    if when(step):
        around(step.model, "forward", forward)


def _rows(targets_BL: Tensor) -> Tensor:
    return torch.arange(len(targets_BL)).unsqueeze(1).expand_as(targets_BL)


def _columns(targets_BL: Tensor) -> Tensor:
    return torch.arange(targets_BL.shape[1]).expand_as(targets_BL)


def _always(step: TrainStep) -> bool:
    return True


def gradient_of_the_last_sequence_missing(step: TrainStep) -> None:
    """As of a rank that is left out of the sum."""
    _losses_apart(step, lambda t: _rows(t) == len(t) - 1, _always)


def gradients_of_later_sequences_missing(step: TrainStep) -> None:
    """Of the third and later, where a twin has two."""
    _losses_apart(step, lambda t: _rows(t) >= _FEW, _always)


def gradient_of_a_sequence_between_missing(step: TrainStep) -> None:
    """Of the second of more than two, where a twin has two."""
    _losses_apart(
        step, lambda t: (_rows(t) == 1) & (len(t) > _FEW), lambda step: len(step.targets_BL) > _FEW
    )


def gradients_of_later_tokens_missing(step: TrainStep) -> None:
    """Of losses beyond the first 64 of a sequence."""
    _losses_apart(step, lambda t: _columns(t) >= _FAR, _always)


def no_gradient_through_later_keys(step: TrainStep) -> None:
    """What comes back through keys and values beyond the 64th is lost: a block of the kernel."""

    def attention(
        plain: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, **settings: Any
    ) -> Tensor:
        k, v = (torch.cat((t[:, :, :_FAR], t[:, :, _FAR:].detach()), dim=2) for t in (k, v))
        return plain(q, k, v, **settings)

    attended(step.model, attention)


def embedding_gradients_overwritten(step: TrainStep) -> None:
    """Of a token that stands at several places, the last place counts."""

    def hook(gradient: Tensor, ids_T: Tensor) -> Tensor:
        last = {int(token): place for place, token in enumerate(ids_T)}
        kept = torch.zeros(len(ids_T), 1, dtype=gradient.dtype)
        kept[list(last.values())] = 1
        return gradient * kept.view(*gradient.shape[:-1], 1)

    def embedding(plain: Callable[..., Tensor], ids_BL: Tensor, *rest: Any, **named: Any) -> Tensor:
        x_BLD = plain(ids_BL, *rest, **named)
        if x_BLD.requires_grad:
            x_BLD.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: hook(gradient, ids_BL.flatten())
            )
        return x_BLD

    replacing(step.model, "forward", F.embedding, embedding)


def gradients_summed_over_two_ranks(step: TrainStep) -> None:
    """And not averaged."""
    for parameter in step.model.parameters():
        on_gradient(parameter, lambda gradient: 2 * gradient)


def gradients_in_fp8(step: TrainStep) -> None:
    """Rounded to two bits (e5m2) on the way between ranks."""

    def narrow(gradient: Tensor) -> Tensor:
        scale = gradient.abs().amax().clamp_min(1e-30) / 57344
        return (gradient / scale).to(torch.float8_e5m2).float() * scale

    for parameter in step.model.parameters():
        on_gradient(parameter, narrow)


def padding_counted(step: TrainStep) -> None:
    """Targets that are to be ignored count as token 0."""
    around(step.model, "forward", lambda plain, ids, targets: plain(ids, targets.clamp_min(0)))


def _entropy(step: TrainStep, change: Callable[..., Tensor]) -> None:
    replacing(step.model.loss, "forward", F.cross_entropy, change)


def labels_smoothed(step: TrainStep) -> None:
    """By a hundredth."""
    _entropy(
        step, lambda plain, *given, **named: plain(*given, **{**named, "label_smoothing": 0.01})
    )


def size_of_logits_punished(step: TrainStep) -> None:
    """A z-loss (1e-4) that nobody asked for."""

    def entropy(plain: Callable[..., Tensor], logits: Tensor, targets: Tensor, **named: Any) -> Any:
        counted = targets != named["ignore_index"]
        size = logits.logsumexp(dim=1).square() * counted
        return plain(logits, targets, **named) + 1e-4 * size.sum()

    _entropy(step, entropy)


def logits_in_bfloat16(step: TrainStep) -> None:
    """The loss is computed from rounded logits, in float32 too."""
    _entropy(step, lambda plain, logits, *rest, **named: plain(logits.bfloat16(), *rest, **named))


def dropout_left_on(step: TrainStep) -> None:
    around(middle(step).ffn, "forward", lambda plain, x: F.dropout(plain(x), 0.1))


def final_norm_missing(step: TrainStep) -> None:
    around(step.model.norm, "forward", lambda plain, x: x)


def gelu_in_one_layer(step: TrainStep) -> None:
    replacing(middle(step).ffn, "forward", F.silu, lambda plain, x, **_: F.gelu(x))


def layer_recomputed_with_other_noise(step: TrainStep) -> None:
    """What the backward pass recomputes is not what the forward pass computed."""
    block, calls = middle(step), [0]

    def forward(plain: Callable[..., Tensor], x_BLD: Tensor, *rest: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] % 2:
            return plain(x_BLD, *rest)
        with Replacing(F.silu, lambda silu, x, **named: silu(1.05 * x, **named)):
            return plain(x_BLD, *rest)

    if step.model.recompute:
        around(block, "forward", forward)


def clipped_by_the_largest_element(step: TrainStep) -> None:
    """By another norm than the Euclidean."""

    def clip(plain: Callable[[float], None], most: float) -> None:
        weights = [parameter for _, parameter in step.trained()]
        nn.utils.clip_grad_norm_(weights, most, norm_type=float("inf"))

    around(step, "clip", clip)


def clipped_before_the_last_part(step: TrainStep) -> None:
    """Its gradients come once the norm is known: what they add is not scaled."""

    def clip(plain: Callable[[float], None], most: float) -> None:
        weights = [parameter for _, parameter in step.trained()]
        each = [p.grad / step.accumulate for p in weights if p.grad is not None]
        plain(most * (step.accumulate - 1) / step.accumulate)
        for parameter, part in zip(weights, each, strict=True):
            assert parameter.grad is not None
            parameter.grad.add_(part)

    around(step, "clip", clip)


DEFECTS: dict[str, Defect] = {
    **{
        defect.__name__.replace("_", " "): defect
        for defect in (
            betas_swapped,
            rate_two_hundredths_higher,
            larger_epsilon,
            embedding_not_trained,
            gradient_of_the_last_sequence_missing,
            gradients_of_later_sequences_missing,
            gradient_of_a_sequence_between_missing,
            gradients_of_later_tokens_missing,
            no_gradient_through_later_keys,
            embedding_gradients_overwritten,
            gradients_summed_over_two_ranks,
            gradients_in_fp8,
            padding_counted,
            labels_smoothed,
            size_of_logits_punished,
            logits_in_bfloat16,
            dropout_left_on,
            final_norm_missing,
            gelu_in_one_layer,
        )
    },
    "bias of moments left in": _adam(_Adam(correct=False)),
    "epsilon under the root": _adam(_Adam(eps_inside=True)),
    "decay within the gradient": _adam(_Adam(decay_in_gradient=True)),
    "moments in bfloat16": _adam(_Adam(moments=torch.bfloat16)),
    "weights rounded at random": _adam(_Adam(rounded=_rounded_at_random)),
}
OPTION_DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        clipped_by_the_largest_element,
        clipped_before_the_last_part,
        layer_recomputed_with_other_noise,
    )
}
