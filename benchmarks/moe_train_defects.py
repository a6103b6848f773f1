"""Faults that a program training a mixture of experts can have, put into one on purpose.

As ``llama_train_defects.py`` and ``moe_defects.py`` have them; of the former those are kept that
touch what experts share with other models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import llama_train_defects as full
import torch
from llama_defects import around
from torch import Tensor

from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import Experts, LlamaConfig
from tpubench.workloads.moe_pretrain.balance import Balance
from tpubench.workloads.moe_pretrain.model import TrainedMixture
from tpubench.workloads.moe_pretrain.step import MoeStep

Defect = Callable[[MoeStep], None]
EXPERTS = Experts(routed=16, top_k=4, d_ffn=64, shared=1, dense_layers=1)
_KEPT = (
    "rope backwards",
    "not causal",
    "norm eps wrong",
    "stale loss",
    "detached layer",
    "gradients accumulate",
    "idle optimizer",
    "idle optimizer in the window",
    "moments lost",
    "no weight decay",
    "weights kept in bfloat16",
)


def case(
    depth: int,
    width: int,
    *,
    tied: bool = False,
    experts: Experts = EXPERTS,
    **settings: int | str,
) -> Case:
    """``moe-pretrain`` of a model with so many layers, the first of them dense."""
    asked: dict[str, int | str] = {"balance": "pooled", "balance_weight": "0.1", **settings}
    plain = full.case(depth, width, tied=tied, name="moe-pretrain", **asked)
    config = replace(
        LlamaConfig.from_json(plain.shape),
        qk_norm=True,
        experts=replace(experts, d_ffn=width // 2),
    )
    return replace(plain, shape=config.to_json())


def mixtures(step: MoeStep) -> list[TrainedMixture]:
    return [module for module in step.model.modules() if isinstance(module, TrainedMixture)]


def middle(step: MoeStep) -> TrainedMixture:
    layers = mixtures(step)
    return layers[len(layers) // 2]


def _regated(
    mixture: TrainedMixture, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    """Change gates and experts after the route was noted."""
    around(
        mixture,
        "mixed",
        lambda plain, x, gate, chosen: plain(x, *change(gate, chosen)),
    )


def wrong_expert(step: MoeStep) -> None:
    """One layer's tokens go to the expert after the one that is noted."""
    mixture = middle(step)
    _regated(mixture, lambda gate, chosen: (gate, (chosen + 1) % mixture.experts.routed))


def next_best_experts(step: MoeStep) -> None:
    """The best is passed over: a search that begins at the second."""
    for mixture in mixtures(step):

        def gates(
            plain: Callable[..., Any], share_TE: Tensor, mixture: TrainedMixture = mixture
        ) -> tuple[Tensor, Tensor]:
            gate_Tk, chosen_Tk = share_TE.topk(mixture.experts.top_k + 1, dim=-1)
            gate_Tk, chosen_Tk = gate_Tk[:, 1:], chosen_Tk[:, 1:]
            return gate_Tk / gate_Tk.sum(dim=1, keepdim=True), chosen_Tk

        around(mixture, "gates", gates)


def dropped_token(step: MoeStep) -> None:
    """The token that stands last in its expert's segment gets nothing: an end that is one off."""

    def change(gate_Tk: Tensor, chosen_Tk: Tensor) -> tuple[Tensor, Tensor]:
        last = (chosen_Tk.reshape(-1) == chosen_Tk[0, 0]).nonzero().flatten()[-1:]
        kept_A = torch.ones(gate_Tk.numel(), dtype=gate_Tk.dtype)
        kept_A[last] = 0
        return gate_Tk * kept_A.view_as(gate_Tk), chosen_Tk

    _regated(middle(step), change)


def tokens_over_capacity_dropped(step: MoeStep) -> None:
    """No expert takes more than 1.25 times its even share, as capacity factors have it."""
    for mixture in mixtures(step):
        experts = mixture.experts.routed

        def change(
            gate_Tk: Tensor, chosen_Tk: Tensor, experts: int = experts
        ) -> tuple[Tensor, Tensor]:
            asked_AE = chosen_Tk.reshape(-1, 1) == torch.arange(experts)
            place_A = (asked_AE.cumsum(0) * asked_AE).sum(dim=1)
            kept_A = place_A <= max(1, 5 * len(asked_AE) // (4 * experts))
            return gate_Tk * kept_A.view_as(gate_Tk), chosen_Tk

        _regated(mixture, change)


def gates_not_normalised(step: MoeStep) -> None:
    for mixture in mixtures(step):
        mixture.experts = replace(mixture.experts, normalised=not mixture.experts.normalised)


def router_without_a_gradient(step: MoeStep) -> None:
    """Gates are constants to the backward pass."""
    for mixture in mixtures(step):
        _regated(mixture, lambda gate, chosen: (gate.detach(), chosen))


def router_gradient_missing_when_deep(step: MoeStep) -> None:
    if step.model.config.n_layers > 4:
        full.on_gradient(middle(step).router.weight, torch.zeros_like)


def gradient_of_one_expert_missing(step: MoeStep) -> None:
    """The last expert of one layer never learns, as where its segment is left out backward."""
    mixture = middle(step)

    def change(gradient: Tensor) -> Tensor:
        changed = gradient.clone()
        changed[-len(changed) // mixture.experts.routed :] = 0
        return changed

    full.on_gradient(mixture.down.weight, change)


def gradients_of_two_experts_swapped(step: MoeStep) -> None:
    mixture = middle(step)

    def change(gradient: Tensor) -> Tensor:
        each = gradient.view(mixture.experts.routed, -1, gradient.shape[1])
        return each[[1, 0, *range(2, len(each))]].view_as(gradient)

    for stacked in (mixture.gate_up, mixture.down):
        full.on_gradient(stacked.weight, change)


def experts_without_an_optimizer(step: MoeStep) -> None:
    """Experts stay where they are while all else moves."""
    stacked = {id(m.down.weight) for m in mixtures(step)}
    group = step.optimizer.param_groups[0]
    group["params"] = [p for p in group["params"] if id(p) not in stacked]


def shared_expert_missing(step: MoeStep) -> None:
    for mixture in mixtures(step):
        shared = cast(torch.nn.Module, mixture.shared)
        around(shared, "forward", lambda plain, x: 0 * plain(x))


def _balanced_by(step: MoeStep, loss: Callable[..., Tensor]) -> None:
    """Another auxiliary loss; a reference goes by what the case asked for."""
    asked = step.model.balance

    class Other(Balance):
        def loss(self, experts: Experts, spread_2MBE: Tensor, counted_BL: Tensor) -> Tensor:
            return loss(asked, experts, spread_2MBE, counted_BL)

    step.model.balance = Other(kind=asked.kind, weight=asked.weight)


def auxiliary_loss_missing(step: MoeStep) -> None:
    _balanced_by(step, lambda asked, *given: 0 * asked.loss(*given))


def auxiliary_loss_of_another_kind(step: MoeStep) -> None:
    def loss(asked: Balance, *given: Any) -> Tensor:
        other = "sequence" if asked.kind == "pooled" else "pooled"
        return replace(asked, kind=other).loss(*given)

    _balanced_by(step, loss)


def auxiliary_loss_without_a_gradient(step: MoeStep) -> None:
    _balanced_by(step, lambda asked, *given: asked.loss(*given).detach())


def auxiliary_loss_of_the_last_layer_alone(step: MoeStep) -> None:
    def loss(asked: Balance, experts: Experts, spread: Tensor, counted: Tensor) -> Tensor:
        return asked.loss(experts, spread[:, -1:], counted)

    _balanced_by(step, loss)


def router_in_bfloat16(step: MoeStep) -> None:
    """Its shares are rounded, in float32 too."""
    for mixture in mixtures(step):
        around(mixture, "gates", lambda plain, share: plain(share.bfloat16().float()))


def gates_as_before_they_are_normalised(step: MoeStep) -> None:
    """The backward pass takes the sum of the gates for a constant."""
    for mixture in mixtures(step):

        def gates(plain: Callable[..., Any], share_TE: Tensor) -> tuple[Tensor, Tensor]:
            _, chosen_Tk = plain(share_TE)
            taken_Tk = share_TE.gather(1, chosen_Tk)
            return taken_Tk / (taken_Tk.sum(dim=1, keepdim=True)).detach(), chosen_Tk

        around(mixture, "gates", gates)


def query_and_key_norms_missing(step: MoeStep) -> None:
    for block in full.blocks(step):
        block.attention.qk_norm = False


_OWN = (
    wrong_expert,
    next_best_experts,
    dropped_token,
    tokens_over_capacity_dropped,
    gates_not_normalised,
    router_without_a_gradient,
    router_gradient_missing_when_deep,
    gradient_of_one_expert_missing,
    gradients_of_two_experts_swapped,
    experts_without_an_optimizer,
    shared_expert_missing,
    auxiliary_loss_missing,
    auxiliary_loss_of_another_kind,
    auxiliary_loss_without_a_gradient,
    auxiliary_loss_of_the_last_layer_alone,
    router_in_bfloat16,
    gates_as_before_they_are_normalised,
    query_and_key_norms_missing,
)
DEFECTS: dict[str, Defect] = {
    **{name: full.DEFECTS[name] for name in _KEPT},
    **{defect.__name__.replace("_", " "): defect for defect in _OWN},
}
