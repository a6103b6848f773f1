"""Faults that a training step of any model can have, put into a built one on purpose.

They need no knowledge of the model: projections, norms and gradients are found by their kind. Each
changes a step in place, and the twin that the checks build has the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from unittest import mock

import torch
from attention_defects import replacing
from limits_defects import rounded
from llama_defects import around
from llama_train_defects import loss_read_too_early, stale_loss
from torch import Tensor, nn

from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.forward.training.step import TrainingStep

WORKLOADS = ("vit-train", "resnet50-train")
COLUMNS = ("float32 twin", "gradient", "loss", "optimizer", "timed loss", "timed step")
_BATCH = 8
Defect = Callable[[TrainingStep], None]


def case(name: str, dtype: str = "bfloat16") -> Case:
    """The small model of a workload."""
    workload = registry.workload(name)
    (chosen,) = workload.cases("tiny", {"batch": [str(_BATCH)], "dtype": [dtype]})
    return workload.prepare(chosen, Weights())


def _projections(step: TrainingStep) -> list[nn.Module]:
    return [module for module in step.model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def _middle(step: TrainingStep) -> Any:
    layers = _projections(step)
    return layers[len(layers) // 2]


def _projection_left_out(step: TrainingStep) -> None:
    around(_middle(step), "forward", lambda plain, x: torch.zeros_like(plain(x)))


def _norm_eps(step: TrainingStep) -> None:
    norms: list[Any] = [module for module in step.model.modules() if hasattr(module, "eps")]
    for norm in norms:
        norm.eps = 1e-2


def _weights_rounded(bits: int) -> Defect:
    """Projections multiply by weights of so many bits."""

    def forward(layer: Any, _: Callable[..., Tensor], x: Tensor) -> Tensor:
        narrow: Tensor = layer.weight + (rounded(layer.weight, bits) - layer.weight).detach()
        if isinstance(layer, nn.Linear):
            return torch.nn.functional.linear(x, narrow, layer.bias)
        convolved: Tensor = layer._conv_forward(x, narrow, layer.bias)
        return convolved

    def defect(step: TrainingStep) -> None:
        for layer in _projections(step):
            around(layer, "forward", partial(forward, layer))

    return defect


def _given(change: Callable[[list[Tensor]], list[Tensor]]) -> Defect:
    """The step has another batch: inputs, and what is right."""

    def defect(step: TrainingStep) -> None:
        step.given = tuple(change(list(step.given)))

    return defect


def _half_of_the_batch(given: list[Tensor]) -> list[Tensor]:
    return [one[: len(one) // 2] for one in given]


def _one_sample_twice(given: list[Tensor]) -> list[Tensor]:
    return [torch.cat([one[:-1], one[:1]]) for one in given]


def _last_shifted(given: list[Tensor]) -> list[Tensor]:
    return [*given[:-1], given[-1].roll(1)]


def _loss(change: Callable[[Tensor], Tensor]) -> Defect:
    def defect(step: TrainingStep) -> None:
        around(step.module, "forward", lambda plain, *given: change(plain(*given)))

    return defect


def _on_gradient(change: Callable[[Tensor], Tensor]) -> Defect:
    """Of the projection in the middle."""

    def defect(step: TrainingStep) -> None:
        _middle(step).weight.register_hook(change)

    return defect


def _frozen(step: TrainingStep) -> None:
    _middle(step).weight.requires_grad_(False)


def _idle(step: TrainingStep) -> None:
    around(step.optimizer, "step", lambda plain: None)


def _idle_in_the_window(step: TrainingStep) -> None:
    """Right in the checks' steps, and nothing in the timed ones."""

    def run(plain: Callable[..., None], mark: Any) -> None:
        with mock.patch.object(step.optimizer, "step", lambda: None):
            plain(mark)

    around(step, "run", run)


def _gradients_accumulate(step: TrainingStep) -> None:
    around(step.optimizer, "zero_grad", lambda plain, **_: None)


def _setting(change: Callable[[dict[str, Any]], object]) -> Defect:
    def defect(step: TrainingStep) -> None:
        for group in step.optimizer.param_groups:
            change(group)

    return defect


def _moments_lost(step: TrainingStep) -> None:
    """Each step begins without them."""

    def update(plain: Callable[[], None]) -> None:
        for state in step.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor) and value.ndim:
                    value.zero_()
        plain()

    around(step, "update", update)


def _weights_in_bfloat16(step: TrainingStep) -> None:
    def update(plain: Callable[[], None]) -> None:
        plain()
        with torch.no_grad():
            for weight in step.model.parameters():
                weight.copy_(weight.bfloat16())

    around(step, "update", update)


def _norms_as_when_serving(step: TrainingStep) -> None:
    for module in step.model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _momentum(share: float) -> Defect:
    """Running statistics of batch norms take so much of each batch's."""

    def defect(step: TrainingStep) -> None:
        for module in step.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = share

    return defect


def _labels_smoothed(step: TrainingStep) -> None:
    """By a hundredth."""
    smooth = {"label_smoothing": 0.01}
    replacing(
        step.module,
        "forward",
        torch.nn.functional.cross_entropy,
        lambda plain, *given, **named: plain(*given, **{**named, **smooth}),
    )


def _half_without_gradient(step: TrainingStep) -> None:
    """The second half of the batch counts in the loss alone, as of a rank that is left out."""

    def forward(plain: Callable[..., Tensor], *given: Tensor) -> Tensor:
        half = len(given[0]) // 2
        loss = plain(*(one[:half] for one in given))
        with torch.no_grad():
            rest = plain(*(one[half:] for one in given))
        return (loss + rest) / 2

    around(step.module, "forward", forward)


def _summed_over_two_ranks(step: TrainingStep) -> None:
    """Gradients are, and not averaged."""
    for parameter in step.model.parameters():
        parameter.register_hook(lambda gradient: 2 * gradient)  # type: ignore[no-untyped-call]


def _other_decay_of_moments(group: dict[str, Any]) -> None:
    if "betas" in group:
        group["betas"] = group["betas"][::-1]
    else:
        group["momentum"] = 0.8


DEFECTS: Mapping[str, Defect] = {
    "a projection left out": _projection_left_out,
    "eps of the norms 1e-2": _norm_eps,
    "weights with 7 bits (int8)": _weights_rounded(6),
    "weights with 3 bits (fp8)": _weights_rounded(3),
    "half of the batch for all": _given(_half_of_the_batch),
    "one sample twice, one never": _given(_one_sample_twice),
    "answers of another sample": _given(_last_shifted),
    "loss of a sum": _loss(lambda loss: _BATCH * loss),
    "loss 2 % too high": _loss(lambda loss: 1.02 * loss),
    "stale loss": stale_loss,
    "loss read too early": loss_read_too_early,
    "gradient of a layer zeroed": _on_gradient(torch.zeros_like),
    "gradient 1.1 times": _on_gradient(lambda gradient: 1.1 * gradient),
    "gradient rounded to bfloat16": _on_gradient(lambda gradient: gradient.bfloat16().float()),
    "a layer frozen": _frozen,
    "idle optimizer": _idle,
    "idle optimizer in the window": _idle_in_the_window,
    "gradients accumulate": _gradients_accumulate,
    "rate 2 % too high": _setting(lambda group: group.update(lr=1.02 * group["lr"])),
    "no weight decay": _setting(lambda group: group.update(weight_decay=0.0)),
    "moments lost": _moments_lost,
    "weights kept in bfloat16": _weights_in_bfloat16,
    "labels smoothed": _labels_smoothed,
    "half of the batch without gradient": _half_without_gradient,
    "gradients summed over two ranks": _summed_over_two_ranks,
    "moments of another decay": _setting(_other_decay_of_moments),
}
OF_BATCH_NORMS: Mapping[str, Defect] = {
    "norms as when serving": _norms_as_when_serving,
    "statistics of norms not moved": _momentum(0.0),
    "statistics of norms moved too slowly": _momentum(0.01),
}


def defects(name: str) -> Mapping[str, Defect]:
    """Those that a workload can have."""
    return {**DEFECTS, **OF_BATCH_NORMS} if name == "resnet50-train" else DEFECTS
