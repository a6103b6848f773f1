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
    best_Tk, right_Tk = score_TE.topk(experts.top_k, dim=1)
    taken_Tk = right_Tk if chosen_Tk is None else chosen_Tk.long().clamp(0, experts.routed - 1)
    score_Tk = score_TE.gather(1, taken_Tk)
    regret_T = (best_Tk.sum(dim=1) - score_Tk.sum(dim=1)) / score_TE.std(dim=1)
    if chosen_Tk is not None:
        in_order = chosen_Tk.sort(dim=1).values
        twice_T = (in_order[:, 1:] == in_order[:, :-1]).any(dim=1)
        regret_T = regret_T.masked_fill(twice_T | (chosen_Tk != taken_Tk).any(dim=1), math.inf)
    gate_Tk = (score_Tk - score_TE.logsumexp(dim=1, keepdim=True)).exp()
    if experts.normalised:
        gate_Tk = gate_Tk / gate_Tk.sum(dim=1, keepdim=True)
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


def swiglu(x_TD: Tensor, gate_up_RD: Tensor, down_DF: Tensor) -> Tensor:
    """W_down(silu(W_gate·x) · W_up·x), gate's rows before up's."""
    gate_TF, up_TF = torch.split(x_TD @ gate_up_RD.T, gate_up_RD.shape[0] // 2, dim=1)
    return (gate_TF * torch.sigmoid(gate_TF) * up_TF) @ down_DF.T
