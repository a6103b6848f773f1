"""A mixture of experts from its formula: what a program's outputs are held against.

Every expert is run over every token and weighted by that token's gate, which is zero for an expert
that it did not take: nothing is sorted, grouped or left out. The route is the one that the program
under test noted, so that a near tie that rounding decided does not make two correct computations
differ; whether that route was right is judged by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from tpubench.workloads.llama.config import Experts


def mixture(
    experts: Experts, layer: Mapping[str, Tensor], x_TD: Tensor, chosen_Tk: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The feed-forward of tokens [T, D], and how far each token's route is from the right one.

    chosen_Tk: the experts that were taken; None takes the right ones. The second result, [T]
    float32: by how much the router's scores of the chosen sum to less than those of the best, in
    standard deviations of the token's scores; infinite for a route that names an expert twice or
    one that does not exist.
    """
    score_TE = (x_TD @ layer["ffn.router.weight"].T).float()
    wanted_TE = score_TE
    if experts.corrected:
        wanted_TE = score_TE.sigmoid() + layer["ffn.correction.weight"].float()
    if chosen_Tk is None:
        closed_TE = ~_open(experts, wanted_TE, None)
        taken_Tk = wanted_TE.masked_fill(closed_TE, -math.inf).topk(experts.top_k, dim=1).indices
    else:
        taken_Tk = chosen_Tk.long().clamp(0, experts.routed - 1)
    score_Tk = score_TE.gather(1, taken_Tk)
    regret_T = _regret(experts, wanted_TE, taken_Tk) / wanted_TE.std(dim=1)
    if chosen_Tk is not None:
        in_order = chosen_Tk.sort(dim=1).values
        twice_T = (in_order[:, 1:] == in_order[:, :-1]).any(dim=1)
        regret_T = regret_T.masked_fill(twice_T | (chosen_Tk != taken_Tk).any(dim=1), math.inf)
    if experts.corrected:
        gate_Tk = 1 / (1 + (-score_Tk).exp())
    else:
        gate_Tk = (score_Tk - score_TE.logsumexp(dim=1, keepdim=True)).exp()
    if experts.normalised:
        gate_Tk = gate_Tk / gate_Tk.sum(dim=1, keepdim=True)
    gate_Tk = gate_Tk * experts.scale
    y_TD = torch.zeros_like(x_TD)
    gate_up, down = (layer[f"ffn.{name}.weight"] for name in ("gate_up", "down"))
    two_F, D = 2 * experts.d_ffn, x_TD.shape[1]
    for expert in range(experts.routed):
        gate_T = (gate_Tk * (taken_Tk == expert)).sum(dim=1).to(x_TD.dtype)
        rows = gate_up[expert * two_F : (expert + 1) * two_F]
        y_TD = y_TD + gate_T.unsqueeze(1) * swiglu(x_TD, rows, down[expert * D : (expert + 1) * D])
    if experts.shared:
        shared = (layer[f"ffn.shared.{name}.weight"] for name in ("gate_up", "down"))
        y_TD = y_TD + swiglu(x_TD, *shared)
    return y_TD, regret_T


def _regret(experts: Experts, wanted_TE: Tensor, taken_Tk: Tensor) -> Tensor:
    """By how much a token's experts are wanted less than the best of the groups that they are of;
    and these groups less than the best groups. Infinite where they are of too many."""
    open_TE = _open(experts, wanted_TE, taken_Tk)
    best_Tk = wanted_TE.masked_fill(~open_TE, -math.inf).topk(experts.top_k, dim=1).values
    regret_T = best_Tk.sum(dim=1) - wanted_TE.gather(1, taken_Tk).sum(dim=1)
    if experts.groups == 1:
        return regret_T
    pair_TG = _pairs(experts, wanted_TE)
    open_TG = open_TE.view(len(open_TE), experts.groups, -1).any(dim=2)
    best_Tg = pair_TG.topk(experts.top_groups, dim=1).values
    regret_T = regret_T + best_Tg.sum(dim=1) - (pair_TG * open_TG).sum(dim=1)
    return regret_T.masked_fill(open_TG.sum(dim=1) > experts.top_groups, math.inf)


def _open(experts: Experts, wanted_TE: Tensor, taken_Tk: Tensor | None) -> Tensor:
    """Experts of a token's groups: those that it took any of, then the best of the others."""
    if experts.groups == 1:
        return torch.ones_like(wanted_TE, dtype=torch.bool)
    rank_TG = _pairs(experts, wanted_TE).argsort(dim=1, descending=True).argsort(dim=1)
    size = experts.routed // experts.groups
    if taken_Tk is not None:
        took_TG = torch.nn.functional.one_hot(taken_Tk // size, experts.groups).sum(dim=1) > 0
        rank_TG = torch.where(took_TG, -1, rank_TG).argsort(dim=1, stable=True).argsort(dim=1)
        return ((rank_TG < experts.top_groups) | took_TG).repeat_interleave(size, dim=1)
    return (rank_TG < experts.top_groups).repeat_interleave(size, dim=1)


def _pairs(experts: Experts, wanted_TE: Tensor) -> Tensor:
    """How much the two most wanted experts of each group are wanted together: [T, G]."""
    sorted_TGe = wanted_TE.view(len(wanted_TE), experts.groups, -1).sort(dim=2).values
    return sorted_TGe[:, :, -2:].sum(dim=2)


def swiglu(x_TD: Tensor, gate_up_RD: Tensor, down_DF: Tensor) -> Tensor:
    """W_down(silu(W_gate·x) · W_up·x), gate's rows before up's."""
    gate_TF, up_TF = torch.split(x_TD @ gate_up_RD.T, gate_up_RD.shape[0] // 2, dim=1)
    return (gate_TF * torch.sigmoid(gate_TF) * up_TF) @ down_DF.T
