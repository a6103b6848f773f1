"""The mixture-of-experts decoder as it is trained.

It is the decoder of ``llama_pretrain/model.py`` with the mixture of ``llama/experts.py`` in place
of feed-forwards: the same router, the same three forms of the experts' product, no token ever
dropped. Beside its loss it gives the experts that each token took, so that a reference can follow.

Letters beside those of ``llama/experts.py``: M layers with experts.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.workloads.llama.config import Experts, LlamaConfig
from tpubench.workloads.llama.experts import Mixture, Stacked
from tpubench.workloads.llama_pretrain.model import (
    IGNORED,
    Block,
    FeedForward,
    Linear,
    RMSNorm,
    TrainedLlama,
    attention,
)
from tpubench.workloads.moe_pretrain.balance import UNBALANCED, Balance


class TrainedStacked(Stacked):
    """The same projection of every expert: float32, multiplied in ``dtype``."""

    def __init__(self, experts: int, width: int, rows: int, dtype: torch.dtype) -> None:
        super().__init__(experts, width, rows, torch.float32)
        self.dtype = dtype

    def each(self) -> Tensor:
        each_ERD = self.weight.to(self.dtype).view(self.experts, -1, self.weight.shape[1])
        return each_ERD.transpose(1, 2)


class TrainedMixture(Mixture):
    """The feed-forward of a layer with experts: float32 weights, multiplied in ``dtype``."""

    def __init__(self, width: int, experts: Experts, dtype: torch.dtype) -> None:
        hidden = experts.shared * experts.d_ffn
        shared = FeedForward(width, hidden) if hidden else None
        super().__init__(width, experts, torch.float32, shared)
        self.router = Linear(width, experts.routed, bias=False)
        self.gate_up = TrainedStacked(experts.routed, width, 2 * experts.d_ffn, dtype)
        self.down = TrainedStacked(experts.routed, experts.d_ffn, width, dtype)

    def forward(  # type: ignore[override]  # it keeps no record: what it notes is an output
        self, x_BLD: Tensor, counted_BL: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mixture of each token, the experts that it took, int32 of [B, L, k], and, where
        tokens are ``counted``, how they spread: [2, B, E], of each sequence the assignments to
        each expert and the sum of the router's shares for it."""
        B, L, D = x_BLD.shape
        x_TD = x_BLD.reshape(B * L, D)
        share_TE = self.router(x_TD).float().softmax(dim=-1)
        gate_Tk, chosen_Tk = self.gates(share_TE)
        y_TD = self.mixed(x_TD, gate_Tk.to(x_TD.dtype), chosen_Tk)
        if self.shared is not None:
            y_TD = y_TD + self.shared(x_TD)
        chosen_BLk = chosen_Tk.view(B, L, -1).to(torch.int32)
        if counted_BL is None:
            spread_2BE = share_TE.new_zeros(2, B, 0)
        else:
            spread_2BE = self.spread(share_TE.view(B, L, -1), chosen_BLk, counted_BL)
        return y_TD.view(B, L, D), chosen_BLk, spread_2BE

    def spread(self, share_BLE: Tensor, chosen_BLk: Tensor, counted_BL: Tensor) -> Tensor:
        expert_E = torch.arange(self.experts.routed, device=share_BLE.device, dtype=torch.int32)
        taken_BLE = (chosen_BLk.unsqueeze(3) == expert_E).sum(dim=2)
        counted_BL1 = counted_BL.unsqueeze(2)
        taken_BE = (taken_BLE * counted_BL1).sum(dim=1).float()
        return torch.stack((taken_BE, (share_BLE * counted_BL1).sum(dim=1)))


class MixedBlock(nn.Module):
    """One decoder layer whose feed-forward is a mixture."""

    def __init__(self, config: LlamaConfig, dtype: torch.dtype) -> None:
        super().__init__()
        assert config.experts is not None
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = attention(config)
        self.ffn_norm = RMSNorm(config.d_model, config.norm_eps)
        self.ffn = TrainedMixture(config.d_model, config.experts, dtype)

    def forward(
        self, x_BLD: Tensor, cos_LH: Tensor, sin_LH: Tensor, counted_BL: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        h_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), cos_LH, sin_LH)
        y_BLD, chosen_BLk, spread_2BE = self.ffn(self.ffn_norm(h_BLD), counted_BL)
        return h_BLD + y_BLD, chosen_BLk, spread_2BE


class TrainedMoe(TrainedLlama):
    """From tokens to the sum of their losses, that of the balance included."""

    def __init__(
        self,
        config: LlamaConfig,
        length: int,
        dtype: torch.dtype,
        *,
        recompute: bool,
        balance: Balance = UNBALANCED,
    ) -> None:
        super().__init__(config, length, dtype, recompute=recompute)
        self.balance = balance

    def block(self, config: LlamaConfig, index: int) -> nn.Module:
        return MixedBlock(config, self.dtype) if config.has_experts(index) else Block(config)

    def forward(self, tokens_BL: Tensor, targets_BL: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, a float32 scalar, and the experts that each token took: int32 of [B, L, M, k].

        The loss is the sum over all targets that are not IGNORED of −log p(target) and of the
        balance's loss: its mean for one token, times as many tokens.
        """
        table_VD, head_VD = self.tables()
        x_BLD = F.embedding(tokens_BL, table_VD)
        counted_BL = targets_BL != IGNORED
        counted = (counted_BL,) if self.balance.weight else ()
        taken, spreads = [], []
        for index, block in enumerate(self.blocks):
            if self.config.has_experts(index):
                x_BLD, chosen_BLk, spread_2BE = self.through(block, x_BLD, *counted)
                taken.append(chosen_BLk)
                spreads.append(spread_2BE)
            else:
                x_BLD = self.through(block, x_BLD)
        loss: Any = self.loss(self.norm(x_BLD), head_VD, targets_BL)
        if not taken:  # a few first layers, as they are compiled for an estimate
            return loss, tokens_BL.new_zeros((*tokens_BL.shape, 0, 0), dtype=torch.int32)
        if counted:
            experts = cast(Experts, self.config.experts)
            loss = loss + self.balance.loss(experts, torch.stack(spreads, dim=1), counted_BL)
        return loss, torch.stack(taken, dim=2)
