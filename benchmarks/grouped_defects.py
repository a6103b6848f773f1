"""Faults that group-limited routing can have, put into a program of ``moe-infer`` on purpose.

Beside those of ``moe_defects.py``; each changes a built step in place, and a twin is built with the
same defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import moe_defects
import torch
from llama_defects import Defect, around
from moe_defects import mixtures
from torch import Tensor

from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import Experts
from tpubench.workloads.llama.experts import Mixture, gates
from tpubench.workloads.llama.step import LlamaStep

EXPERTS = Experts(
    routed=16, top_k=4, d_ffn=64, shared=1, dense_layers=1, scoring="sigmoid", groups=4,
    top_groups=2, scale=2.5,
)  # fmt: skip


def case(
    depth: int,
    width: int,
    *,
    tied: bool = False,
    experts: Experts = EXPERTS,
    **settings: int | str,
) -> Case:
    """``moe-infer`` of a model whose experts stand in groups."""
    return moe_defects.case(depth, width, tied=tied, experts=experts, **settings)


def _routed_by(
    step: LlamaStep, route: Callable[[Mixture, Tensor, Tensor], tuple[Tensor, Tensor]]
) -> None:
    """Gates and experts otherwise, from the router's scores [T, E] and the correction [E]."""

    def otherwise(plain: Callable[..., Any], x_TD: Tensor, mixture: Mixture) -> Any:
        assert mixture.correction is not None
        return route(mixture, mixture.router(x_TD).float(), mixture.correction.weight.float())

    for mixture in mixtures(step):
        around(mixture, "route", lambda plain, x, mixture=mixture: otherwise(plain, x, mixture))


def _other(**changes: Any) -> Defect:
    """The experts' settings are others."""

    def defect(step: LlamaStep) -> None:
        for mixture in mixtures(step):
            mixture.experts = replace(mixture.experts, **changes)

    return defect


def correction_in_the_gates_too(step: LlamaStep) -> None:
    def route(mixture: Mixture, score: Tensor, correction: Tensor) -> tuple[Tensor, Tensor]:
        experts = mixture.experts
        wanted = score.sigmoid() + correction
        chosen = gates(experts, score.sigmoid(), correction)[1]
        gate = wanted.gather(1, chosen)
        return gate / gate.sum(dim=1, keepdim=True) * experts.scale, chosen

    _routed_by(step, route)


def no_correction(step: LlamaStep) -> None:
    _routed_by(step, lambda m, score, correction: gates(m.experts, score.sigmoid(), correction * 0))


def softmax_for_sigmoid(step: LlamaStep) -> None:
    _routed_by(
        step, lambda m, score, correction: gates(m.experts, score.softmax(dim=1), correction)
    )


def correction_before_the_sigmoid(step: LlamaStep) -> None:
    _routed_by(
        step,
        lambda m, score, correction: gates(
            m.experts, (score + correction).sigmoid(), correction * 0
        ),
    )


def groups_by_their_best_expert(step: LlamaStep) -> None:
    """As DeepSeek-V2 compares them."""

    def route(mixture: Mixture, score: Tensor, correction: Tensor) -> tuple[Tensor, Tensor]:
        experts = mixture.experts
        wanted = (score.sigmoid() + correction).view(len(score), experts.groups, -1)
        best = wanted.amax(dim=2).topk(experts.top_groups, dim=1).indices
        kept = (best.unsqueeze(2) == torch.arange(experts.groups)).any(dim=1).unsqueeze(2)
        chosen = wanted.masked_fill(~kept, -torch.inf).flatten(1).topk(experts.top_k).indices
        gate = score.sigmoid().gather(1, chosen)
        return gate / gate.sum(dim=1, keepdim=True) * experts.scale, chosen

    _routed_by(step, route)


def an_expert_of_a_closed_group(step: LlamaStep) -> None:
    """The last of a token's experts is one of another group."""

    def route(mixture: Mixture, score: Tensor, correction: Tensor) -> tuple[Tensor, Tensor]:
        share = score.sigmoid()
        chosen = gates(mixture.experts, share, correction)[1]
        order = torch.arange(mixture.experts.top_k)
        closed = (chosen + mixture.experts.routed // 2) % mixture.experts.routed
        chosen = torch.where(order == mixture.experts.top_k - 1, closed, chosen)
        gate = share.gather(1, chosen)
        return gate / gate.sum(dim=1, keepdim=True) * mixture.experts.scale, chosen

    _routed_by(step, route)


DEFECTS: dict[str, Defect] = {
    "bias in the gates too": correction_in_the_gates_too,
    "no bias": no_correction,
    "bias before the sigmoid": correction_before_the_sigmoid,
    "softmax for sigmoid": softmax_for_sigmoid,
    "no group limit": _other(groups=1),
    "one group more": _other(top_groups=3),
    "one group fewer": _other(top_groups=1),
    "groups by their best expert": groups_by_their_best_expert,
    "an expert of a closed group": an_expert_of_a_closed_group,
    "gates not normalised": _other(normalised=False),
    "gates not scaled": _other(scale=1.0),
}
