"""The auxiliary loss that keeps experts evenly used, as models' authors define it.

Both kinds are α · E/c · Σₑ fₑ · Pₑ, with fₑ the share of tokens that took expert e (through which
no gradient goes) and Pₑ the mean of the router's softmax for it:

- ``pooled``: f and P over the tokens of all layers together, c = 1: what Hugging Face's Mixtral and
  Qwen3-MoE compute (``load_balancing_loss_func``, after Fedus et al., Switch Transformers, 2021,
  equations 4 to 6). α is their ``router_aux_loss_coef``: 0.02 for Mixtral, 0.001 for Qwen3.
- ``sequence``: f and P of one sequence in one layer, c = k, the mean over sequences and the sum
  over layers: DeepSeek's (Dai et al., DeepSeekMoE, 2024, equations 12 to 14; of each sequence by
  ``seq_aux`` in its configuration). α is its ``aux_loss_alpha``: 0.001.

A batch that passes in parts, or on several ranks, is pooled part by part, as those trainers do.
Tokens whose target is ignored count nowhere, as padding does there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpubench.workloads.llama.config import Experts

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """Which kind, and its α; 0 is none at all."""

    kind: str
    weight: float

    def loss(self, experts: Experts, spread_2MBE: Tensor, counted_BL: Tensor) -> Tensor:
        """That of one part, times the tokens counted in it: a float32 scalar.

        spread: assignments, and sums of the router's shares, of each layer and sequence.
        """
        taken_MBE, shares_MBE = spread_2MBE[0].detach(), spread_2MBE[1]
        scale = self.weight * experts.routed
        if self.kind == "sequence":
            tokens_B = counted_BL.sum(dim=1).clamp(min=1)
            return (
                scale / experts.top_k * ((taken_MBE * shares_MBE).sum(dim=(0, 2)) / tokens_B).sum()
            )
        layers, tokens = len(taken_MBE), counted_BL.sum().clamp(min=1)
        pooled = (taken_MBE.sum(dim=(0, 1)) * shares_MBE.sum(dim=(0, 1))).sum()
        return scale * pooled / (tokens * layers**2)


UNBALANCED = Balance(kind="pooled", weight=0.0)
"""No auxiliary loss."""
