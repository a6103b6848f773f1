"""Faults that a mixture of experts can have, put into a program on purpose.

Beside those of ``llama_defects.py``, which a mixture can have too: each changes a built step in
place, and a twin is built with the same defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from llama_defects import Defect, around, blocks, shape
from torch import Tensor

from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.llama.config import Experts
from tpubench.workloads.llama.experts import Mixture
from tpubench.workloads.llama.step import LlamaStep

EXPERTS = Experts(routed=16, top_k=4, d_ffn=64, shared=1, dense_layers=1)


def case(
    depth: int,
    width: int,
    *,
    tied: bool = False,
    experts: Experts = EXPERTS,
    **settings: int | str,
) -> Case:
    """``moe-infer`` of a model with so many layers, the first of them dense."""
    config = replace(
        shape(depth, width, tied=tied),
        qk_norm=True,
        experts=replace(experts, d_ffn=width // 2),
    )
    workload = registry.workload("moe-infer")
    texts = {key: [str(value)] for key, value in settings.items()}
    (tiny,) = workload.cases("tiny", {"batch": ["4"], **texts})
    return replace(
        workload.prepare(tiny, Weights()), preset=f"{depth} layers", shape=config.to_json()
    )


def mixtures(step: LlamaStep) -> list[Mixture]:
    return [b.ffn for b in blocks(step) if isinstance(b.ffn, Mixture)]


def _rerouted(
    step: LlamaStep, change: Callable[[Mixture, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    """Change gates and experts of every layer; the program notes the experts that it then takes."""

    def route(plain: Callable[..., Any], mixture: Mixture, x_TD: Tensor) -> Any:
        return change(mixture, *plain(x_TD))

    for mixture in mixtures(step):
        around(mixture, "route", lambda plain, x, mixture=mixture: route(plain, mixture, x))


def _regated(step: LlamaStep, change: Callable[[Mixture, Tensor, Tensor], Tensor]) -> None:
    """Change the gates after the route was noted."""

    def mixed(plain: Callable[..., Tensor], mixture: Mixture, x: Tensor, *route: Tensor) -> Tensor:
        gate_Tk, chosen_Tk = route
        return plain(x, change(mixture, gate_Tk, chosen_Tk), chosen_Tk)

    for mixture in mixtures(step):
        around(mixture, "mixed", lambda plain, *a, mixture=mixture: mixed(plain, mixture, *a))


def one_expert_fewer(step: LlamaStep) -> None:
    """The last of the chosen experts is not run, and the others' gates sum to one."""

    def change(_: Mixture, gate_Tk: Tensor, chosen_Tk: Tensor) -> Tensor:
        fewer = gate_Tk.clone()
        fewer[:, -1] = 0
        return fewer / fewer.sum(dim=1, keepdim=True)

    _regated(step, change)


def next_best_experts(step: LlamaStep) -> None:
    """The best is passed over: a search that begins at the second."""
    for mixture in mixtures(step):

        def route(
            plain: Callable[..., Any], x_TD: Tensor, mixture: Mixture = mixture
        ) -> tuple[Tensor, Tensor]:
            share_TE = mixture.router(x_TD).float().softmax(dim=-1)
            gate_Tk, chosen_Tk = share_TE.topk(mixture.experts.top_k + 1, dim=-1)
            gate_Tk, chosen_Tk = gate_Tk[:, 1:], chosen_Tk[:, 1:]
            return gate_Tk / gate_Tk.sum(dim=1, keepdim=True), chosen_Tk

        around(mixture, "route", route)


def one_expert_twice(step: LlamaStep) -> None:
    def change(_: Mixture, gate_Tk: Tensor, chosen_Tk: Tensor) -> tuple[Tensor, Tensor]:
        chosen_Tk = chosen_Tk.clone()
        chosen_Tk[:, -1] = chosen_Tk[:, 0]
        return gate_Tk, chosen_Tk

    _rerouted(step, change)


def route_of_another_token(step: LlamaStep) -> None:
    def change(_: Mixture, gate_Tk: Tensor, chosen_Tk: Tensor) -> tuple[Tensor, Tensor]:
        return gate_Tk.roll(1, 0), chosen_Tk.roll(1, 0)

    _rerouted(step, change)


def other_experts_than_noted(step: LlamaStep) -> None:
    for mixture in mixtures(step):
        around(
            mixture,
            "mixed",
            lambda plain, x, gate, chosen, mixture=mixture: plain(
                x, gate, (chosen + 1) % mixture.experts.routed
            ),
        )


def gates_not_normalised(step: LlamaStep) -> None:
    for mixture in mixtures(step):
        mixture.experts = replace(mixture.experts, normalised=not mixture.experts.normalised)


def gates_all_alike(step: LlamaStep) -> None:
    _regated(step, lambda _, gate, chosen: torch.full_like(gate, 1 / gate.shape[1]))


def gates_swapped(step: LlamaStep) -> None:
    _regated(step, lambda _, gate, chosen: gate.flip(1))


def experts_swapped(step: LlamaStep) -> None:
    """The first two experts of one layer hold each other's weights."""
    mixture = mixtures(step)[-1]
    with torch.no_grad():
        for stacked in (mixture.gate_up, mixture.down):
            rows = len(stacked.weight) // stacked.experts
            first, second = stacked.weight[:rows].clone(), stacked.weight[rows : 2 * rows].clone()
            stacked.weight[:rows], stacked.weight[rows : 2 * rows] = second, first


def one_expert_skipped(step: LlamaStep) -> None:
    """The last expert gives nothing, as where its segment is left out."""
    _regated(step, lambda m, gate, chosen: gate * (chosen != m.experts.routed - 1))


def tokens_over_capacity_dropped(step: LlamaStep) -> None:
    """No expert takes more than 1.25 times its even share, as capacity factors have it."""

    def change(mixture: Mixture, gate_Tk: Tensor, chosen_Tk: Tensor) -> Tensor:
        experts = mixture.experts.routed
        asked_AE = chosen_Tk.reshape(-1, 1) == torch.arange(experts)
        place_A = (asked_AE.cumsum(0) * asked_AE).sum(dim=1)
        kept_A = place_A <= max(1, 5 * len(asked_AE) // (4 * experts))
        return gate_Tk * kept_A.view_as(gate_Tk)

    _regated(step, change)


def last_row_of_an_expert_dropped(step: LlamaStep) -> None:
    """The token that stands last in its expert's segment gets nothing: an end that is one off."""

    def change(mixture: Mixture, gate_Tk: Tensor, chosen_Tk: Tensor) -> Tensor:
        last = (chosen_Tk.reshape(-1) == 0).nonzero().flatten()[-1:]
        kept_A = torch.ones(gate_Tk.numel(), dtype=gate_Tk.dtype)
        kept_A[last] = 0
        return gate_Tk * kept_A.view_as(gate_Tk)

    _regated(step, change)


def shared_expert_missing(step: LlamaStep) -> None:
    for mixture in mixtures(step):
        mixture.shared = None


def shared_expert_gated(step: LlamaStep) -> None:
    """It is weighted as if it were one of the routed ones."""
    for mixture in mixtures(step):
        if mixture.shared is not None:
            share = 1 / mixture.experts.top_k
            around(mixture.shared, "forward", lambda plain, x, share=share: share * plain(x))


def one_expert_never_taken(step: LlamaStep) -> None:
    """The search begins at the second expert."""
    for mixture in mixtures(step):

        def gates(
            plain: Callable[..., Any], share_TE: Tensor, mixture: Mixture = mixture
        ) -> tuple[Tensor, Tensor]:
            gate_Tk, chosen_Tk = plain(share_TE[:, 1:])
            return gate_Tk, chosen_Tk + 1

        around(mixture, "gates", gates)


def router_in_bfloat16(step: LlamaStep) -> None:
    """Scores and shares are rounded, in float32 too."""
    for mixture in mixtures(step):

        def route(
            plain: Callable[..., Any], x_TD: Tensor, mixture: Mixture = mixture
        ) -> tuple[Tensor, Tensor]:
            score_TE = mixture.router(x_TD).bfloat16()
            return mixture.gates(score_TE.softmax(dim=-1).float())

        around(mixture, "route", route)


def sigmoid_for_softmax(step: LlamaStep) -> None:
    """The same experts, other gates."""
    for mixture in mixtures(step):
        around(
            mixture,
            "route",
            lambda plain, x, mixture=mixture: mixture.gates(mixture.router(x).float().sigmoid()),
        )


def upper_half_of_experts_read_as_the_lower(step: LlamaStep) -> None:
    """A rank that holds half of them counts from its own first."""
    _swapped_experts(step, lambda mixture, chosen: chosen % (mixture.experts.routed // 2))


def _swapped_experts(step: LlamaStep, change: Callable[[Mixture, Tensor], Tensor]) -> None:
    for mixture in mixtures(step):
        around(
            mixture,
            "mixed",
            lambda plain, x, gate, chosen, mixture=mixture: plain(x, gate, change(mixture, chosen)),
        )


def best_expert_alone(step: LlamaStep) -> None:
    """It has the gates of all that were chosen."""

    def change(_: Mixture, gate_Tk: Tensor, chosen_Tk: Tensor) -> Tensor:
        alone = torch.zeros_like(gate_Tk)
        alone[:, 0] = gate_Tk.sum(dim=1)
        return alone

    _regated(step, change)


def query_and_key_norms_missing(step: LlamaStep) -> None:
    for block in blocks(step):
        block.attention.qk_norm = False


DEFECTS: dict[str, Defect] = {
    defect.__name__.replace("_", " "): defect
    for defect in (
        one_expert_fewer,
        next_best_experts,
        one_expert_twice,
        route_of_another_token,
        other_experts_than_noted,
        gates_not_normalised,
        gates_all_alike,
        gates_swapped,
        experts_swapped,
        one_expert_skipped,
        tokens_over_capacity_dropped,
        last_row_of_an_expert_dropped,
        shared_expert_missing,
        shared_expert_gated,
        one_expert_never_taken,
        router_in_bfloat16,
        sigmoid_for_softmax,
        upper_half_of_experts_read_as_the_lower,
        best_expert_alone,
        query_and_key_norms_missing,
    )
}
