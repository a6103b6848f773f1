"""Training steps of a Llama in float32 on the CPU, written from the formulas.

What the parity check of a training step compares with. It shares with the program under test only
the shapes and the rotary frequencies: attention is spelled out, rotation is a complex product, the
optimizer is the published algorithm, and the backward pass goes layer by layer, so that no more
than one layer's gradients exist at a time. Host memory: 12 bytes a parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tpubench.workloads._llama import rope_frequencies
from tpubench.workloads._llama_config import LlamaConfig

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamWSettings:
    """Decoupled weight decay (Loshchilov and Hutter, 2019), on every parameter.

    The values are those of Llama's training (Touvron et al., 2023, section 2.3; the learning rate
    is that of the 6.7 B model, held constant). There is no gradient clipping.
    """

    lr: float = 3e-4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.1


@dataclass(slots=True, kw_only=True)
class _AdamW:
    settings: AdamWSettings
    step: int = 1
    moments: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def update(self, weight: Tensor, gradient: Tensor) -> None:
        s = self.settings
        if id(weight) not in self.moments:
            self.moments[id(weight)] = torch.zeros_like(weight), torch.zeros_like(weight)
        mean, square = self.moments[id(weight)]
        mean.mul_(s.beta1).add_(gradient, alpha=1 - s.beta1)
        square.mul_(s.beta2).addcmul_(gradient, gradient, value=1 - s.beta2)
        denominator = (square / (1 - s.beta2**self.step)).sqrt_().add_(s.eps)
        weight.mul_(1 - s.lr * s.weight_decay)
        weight.addcdiv_(mean, denominator, value=-s.lr / (1 - s.beta1**self.step))


def train(
    config: LlamaConfig,
    layers: list[Weights],
    rest: Weights,
    tokens_L: Tensor,
    targets_L: Tensor,
    *,
    steps: int,
    settings: AdamWSettings,
) -> tuple[Tensor, Weights]:
    """Losses of ``steps`` steps on the same tokens, and the first layer's gradients in the first.

    layers: each decoder layer's float32 weights by name; rest: ``embedding.weight``,
    ``norm.weight`` and, unless it is tied, ``head.weight``. Both are updated in place.
    Loss: the mean of −log p(target).
    """
    optimizer = _AdamW(settings=settings)
    angles_LC = torch.outer(torch.arange(len(tokens_L)).float(), rope_frequencies(config))
    turn_LC = torch.polar(torch.ones_like(angles_LC), angles_LC)
    losses, first = [], Weights()
    for step in range(1, steps + 1):
        optimizer.step = step
        inputs = [rest["embedding.weight"][tokens_L]]
        for weights in layers:
            inputs.append(_layer(config, weights, inputs[-1], turn_LC))
        loss, x_gradient, head_gradient, norm_gradient = _head(config, rest, inputs, targets_L)
        losses.append(loss)
        if step == steps:
            break
        for index in reversed(range(len(layers))):
            weights = layers[index]
            live = {name: weight.requires_grad_() for name, weight in weights.items()}
            x_LD = inputs[index].requires_grad_()
            y_LD = _layer(config, live, x_LD, turn_LC)
            x_gradient, *gradients = torch.autograd.grad(y_LD, [x_LD, *live.values()], x_gradient)
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                weight.requires_grad_(False)
                if index == 0 and step == 1:
                    first[name] = gradient.clone()
                optimizer.update(weight, gradient)
        table_gradient = torch.zeros_like(rest["embedding.weight"])
        table_gradient.index_add_(0, tokens_L, x_gradient)
        optimizer.update(rest["norm.weight"], norm_gradient)
        if config.tied:
            table_gradient += head_gradient
        else:
            optimizer.update(rest["head.weight"], head_gradient)
        optimizer.update(rest["embedding.weight"], table_gradient)
    return torch.stack(losses), first


def _head(
    config: LlamaConfig, rest: Weights, inputs: list[Tensor], targets_L: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The loss, and its gradients to the last layer's output, the head and the final norm."""
    x_LD = inputs[-1].detach().requires_grad_()
    head_VD = rest["embedding.weight" if config.tied else "head.weight"].detach().requires_grad_()
    norm_D = rest["norm.weight"].detach().requires_grad_()
    logits_LV = _rms(x_LD, norm_D, config.norm_eps) @ head_VD.T
    chosen_L = logits_LV.gather(1, targets_L.unsqueeze(1)).squeeze(1)
    loss = (torch.logsumexp(logits_LV, dim=1) - chosen_L).mean()
    x_gradient, head_gradient, norm_gradient = torch.autograd.grad(loss, [x_LD, head_VD, norm_D])
    return loss.detach(), x_gradient, head_gradient, norm_gradient


def _layer(config: LlamaConfig, weights: Weights, x_LD: Tensor, turn_LC: Tensor) -> Tensor:
    L, N, K, H = len(x_LD), config.n_heads, config.n_kv_heads, config.head_dim

    def linear(name: str, x: Tensor) -> Tensor:
        y = x @ weights[f"{name}.weight"].T
        return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y

    def turned(x_LMH: Tensor) -> Tensor:
        first_LMC, second_LMC = torch.split(x_LMH, H // 2, dim=2)
        z_LMC = torch.complex(first_LMC, second_LMC) * turn_LC.unsqueeze(1)
        return torch.cat((z_LMC.real, z_LMC.imag), dim=2)

    normed_LD = _rms(x_LD, weights["attention_norm.weight"], config.norm_eps)
    qkv_LMH = linear("attention.qkv", normed_LD).view(L, -1, H)
    q, k, v_LKH = torch.split(qkv_LMH, [N, K, K], dim=1)
    q_LKGH = turned(q).view(L, K, N // K, H)
    scores_KGLS = torch.einsum("lkgh,skh->kgls", q_LKGH, turned(k)) / math.sqrt(H)
    future_LS = torch.ones(L, L, dtype=torch.bool).triu(1)
    attend_KGLS = scores_KGLS.masked_fill(future_LS, -math.inf).softmax(dim=3)
    y_LD = torch.einsum("kgls,skh->lkgh", attend_KGLS, v_LKH).reshape(L, N * H)
    h_LD = x_LD + linear("attention.out", y_LD)
    normed_LD = _rms(h_LD, weights["ffn_norm.weight"], config.norm_eps)
    gate_LF, up_LF = torch.split(linear("ffn.gate_up", normed_LD), config.d_ffn, dim=1)
    return h_LD + linear("ffn.down", gate_LF * torch.sigmoid(gate_LF) * up_LF)


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight
