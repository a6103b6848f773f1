"""Loss and gradients of a Llama written from its formulas: what a training step is held against.

The forward pass is that of ``llama/reference.py``; the backward pass goes layer by layer, so that
no more than one layer's gradients exist at a time. There is no optimizer here: each step is judged
at the weights that the program itself had, and what AdamW makes of a gradient is a formula for each
element alone (:func:`adamw`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.reference import Layer, Place, decoder_layer, rms_norm, rotation
from tpubench.workloads.llama.weights import shapes
from tpubench.workloads.llama_pretrain.model import IGNORED

Get = Callable[[str], Tensor]
"""One weight by name: float32, on the device of the computation."""


class MixedFeedForward(Protocol):
    """What a layer has in place of one feed-forward; kept until the layer is done."""

    def __call__(self, x_BLD: Tensor) -> Tensor: ...

    def auxiliary(self) -> Tensor:
        """What it adds to the sum of losses, once it was called: a scalar."""


class Mixing(Protocol):
    """The mixtures of experts of the sequences that a reference is computed for."""

    def identity(self) -> dict[str, object]:
        """What tells it from others, as JSON values."""

    def ffn(self, index: int, layer: Layer, rows: slice, *, judge: bool) -> MixedFeedForward | None:
        """That of a layer for some of the sequences; None where the layer is dense. judge: whether
        the route is judged on the way."""

    def regret(self) -> Tensor:
        """How far each route that was judged is from the right one (``experts_reference.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWSettings:
    """Decoupled weight decay (Loshchilov and Hutter, 2019), on every parameter.

    The values are those of Llama's training (Touvron et al., 2023, section 2.3; the learning rate
    is that of the 6.7 B model; its cosine ends at a tenth of it, as theirs does).

    clip: the most that the norm of all gradients together may be; None leaves them. warmup: steps
    over which the rate rises evenly to ``lr``. schedule: ``cosine`` lets it fall from there.
    """

    lr: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip: float | None = None
    schedule: str = "constant"
    warmup: int = 0

    def rate(self, step: int) -> float:
        """Learning rate of a step, the first of which is 1."""
        risen = min(1.0, step / self.warmup) if self.warmup else 1.0
        if self.schedule == "constant":
            return self.lr * risen
        done = min(1.0, max(0, step - self.warmup) / DECAY_STEPS)
        return self.lr * risen * (LEAST + (1 - LEAST) * (1 + math.cos(math.pi * done)) / 2)

    def kept(self, norm: float) -> float:
        """What gradients whose norm is this are multiplied by (Pascanu et al., 2013, with the 1e-6
        of torch's ``clip_grad_norm_``)."""
        return 1.0 if self.clip is None else min(1.0, self.clip / (norm + 1e-6))


DECAY_STEPS = 1000
"""Steps after warming up in which a cosine reaches its lowest rate."""
LEAST = 0.1
"""That rate, of the highest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWState:
    """Elements of weights and of their moments, [n] each, after so many steps."""

    weight: Tensor
    mean: Tensor
    square: Tensor
    steps: int


PLAIN = AdamWSettings()
"""No clipping, and a learning rate that is constant."""


def settings_of(case: Case) -> AdamWSettings:
    """Those that the parameters of a case ask for."""
    clip = str(case.params["clip"])
    return AdamWSettings(
        clip=None if clip == "none" else float(clip),
        schedule=str(case.params["schedule"]),
        warmup=case.number("warmup"),
    )


def adamw_step(before: AdamWState, gradient: Tensor, s: AdamWSettings) -> AdamWState:
    """What one step makes of a state, element by element: in float64."""
    g, steps = gradient.double(), before.steps + 1
    mean = s.beta1 * before.mean.double() + (1 - s.beta1) * g
    square = s.beta2 * before.square.double() + (1 - s.beta2) * g * g
    scaled = mean / (1 - s.beta1**steps)
    denominator = (square / (1 - s.beta2**steps)).sqrt() + s.eps
    rate = s.rate(steps)
    weight = before.weight.double() * (1 - rate * s.weight_decay) - rate * scaled / denominator
    return AdamWState(weight=weight, mean=mean, square=square, steps=steps)


def adamw(weight: Tensor, gradients: Sequence[Tensor], s: AdamWSettings) -> Tensor:
    """The weight after one step for each gradient, from no moments: in float64."""
    nothing = torch.zeros_like(weight)
    state = AdamWState(weight=weight, mean=nothing, square=nothing, steps=0)
    for gradient in gradients:
        state = adamw_step(state, gradient, s)
    return state.weight


def loss(
    config: LlamaConfig,
    get: Get,
    ids_BL: Tensor,
    targets_BL: Tensor,
    place: Place,
    mixing: Mixing | None = None,
) -> Tensor:
    """Sum of −log p(target) in float32 over all targets that are not IGNORED, and of what the
    mixtures add; a scalar."""
    with torch.no_grad(), place.exact():
        added: list[Tensor] = [torch.zeros((), device=place.device)]
        *_, (_, last_BLD) = _inputs(config, get, ids_BL, torch.float32, place, mixing, added)
        total = torch.stack(added).sum()
        head_VD = get(_head(config))
        norm_D = get("norm.weight")
        targets_BL = targets_BL.to(place.device)
        for x_LD, targets_L in zip(last_BLD, targets_BL, strict=True):
            for x, targets in zip(x_LD.split(_ROWS), targets_L.split(_ROWS), strict=True):
                total = total + _nll(config, x, head_VD, norm_D, targets)
            place.flush()
        return total


def gradients(
    config: LlamaConfig,
    get: Get,
    ids_BL: Tensor,
    targets_BL: Tensor,
    *,
    scale: float,
    dtype: torch.dtype,
    place: Place,
    mixing: Mixing | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """("loss", scale · summed loss), then every weight's name and float32 gradient, once each.

    dtype: precision of the arithmetic; weights and their gradients are float32. The computation
    goes on as the iterator is read, under its own precision.
    """
    added: list[Tensor] = []
    inputs = list(_inputs(config, get, ids_BL, dtype, place, mixing, added))
    targets_BL = targets_BL.to(place.device)
    with torch.enable_grad(), place.exact():
        x_BLD = inputs[-1][1].detach().requires_grad_()
        head_VD, norm_D = (get(n).detach().requires_grad_() for n in (_head(config), "norm.weight"))
        total = scale * _nll(config, x_BLD, head_VD.to(dtype), norm_D.to(dtype), targets_BL)
        x_gradient, head_gradient, norm_gradient = torch.autograd.grad(
            total, [x_BLD, head_VD, norm_D]
        )
        place.flush()
    yield "loss", total.detach() + scale * sum(added)
    yield "norm.weight", norm_gradient
    if not config.tied:
        yield "head.weight", head_gradient
    turn = rotation(config, ids_BL.shape[1], dtype, place.device)
    for index in reversed(range(config.n_layers)):
        prefix, x_BLD = inputs[index]
        with torch.enable_grad(), place.exact():
            names = _names(config, index)
            live = {name: get(prefix + name).detach().requires_grad_() for name in names}
            x_BLD = x_BLD.detach().requires_grad_()
            layer = {name: weight.to(dtype) for name, weight in live.items()}
            ffn = _ffn(mixing, index, layer, slice(None), judge=False)
            y_BLD = decoder_layer(config, layer, x_BLD, turn, ffn=ffn)
            ends, incoming = [y_BLD], [x_gradient]
            if ffn is not None and (more := ffn.auxiliary()).requires_grad:
                ends.append(more)
                incoming.append(torch.full_like(more, scale))
            x_gradient, *of_weights = torch.autograd.grad(ends, [x_BLD, *live.values()], incoming)
            place.flush()
        yield from zip((prefix + name for name in live), of_weights, strict=True)
    table_gradient = torch.zeros_like(get("embedding.weight"))
    rows = x_gradient.flatten(0, 1).to(table_gradient.dtype)
    table_gradient.index_add_(0, ids_BL.flatten().to(place.device), rows)
    yield "embedding.weight", table_gradient + head_gradient if config.tied else table_gradient


_ROWS = 1024
"""Positions whose logits exist at a time."""


@torch.no_grad()
def _inputs(
    config: LlamaConfig,
    get: Get,
    ids_BL: Tensor,
    dtype: torch.dtype,
    place: Place,
    mixing: Mixing | None,
    added: list[Tensor],
) -> Iterator[tuple[str, Tensor]]:
    """Prefix and input of each layer, and last ("", what comes out of the last one); ``added`` is
    told what each mixture adds to the sum of losses."""
    ids_BL = ids_BL.to(place.device)
    turn = rotation(config, ids_BL.shape[1], dtype, place.device)
    x_BLD = get("embedding.weight")[ids_BL].to(dtype)
    for index in range(config.n_layers):
        prefix = f"blocks.{index}."
        yield prefix, x_BLD
        with place.exact():
            layer = {name: get(prefix + name).to(dtype) for name in _names(config, index)}
            parts = []
            for row, x in enumerate(torch.split(x_BLD, 1)):
                ffn = _ffn(mixing, index, layer, slice(row, row + 1), judge=True)
                parts.append(decoder_layer(config, layer, x, turn, ffn=ffn))
                added += [] if ffn is None else [ffn.auxiliary()]
            x_BLD = torch.cat(parts)
            place.flush()
    yield "", x_BLD


def _nll(
    config: LlamaConfig, x: Tensor, head_VD: Tensor, norm_D: Tensor, targets: Tensor
) -> Tensor:
    logits = (rms_norm(x, norm_D, config.norm_eps) @ head_VD.T).float()
    wanted = targets.clamp_min(0).unsqueeze(-1)
    nll = torch.logsumexp(logits, dim=-1) - logits.gather(-1, wanted).squeeze(-1)
    return (nll * (targets != IGNORED)).sum()


def _head(config: LlamaConfig) -> str:
    return "embedding.weight" if config.tied else "head.weight"


def _names(config: LlamaConfig, index: int) -> list[str]:
    prefix = f"blocks.{index}."
    return [name.removeprefix(prefix) for name in shapes(config) if name.startswith(prefix)]


def _ffn(
    mixing: Mixing | None, index: int, layer: Layer, rows: slice, *, judge: bool
) -> MixedFeedForward | None:
    return None if mixing is None else mixing.ffn(index, layer, rows, judge=judge)
