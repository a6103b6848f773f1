"""The mixtures of a model that is trained, from their formulas, along the route it took.

``llama_pretrain/reference.py`` goes through the layers, forward and backward; what it asks for here
is a layer's mixture for some of the sequences, and what that adds to the loss. The sums that a
balance needs of all layers are known beforehand: they count routes, through which nothing flows.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.experts_reference import mixture
from tpubench.workloads.llama.reference import Layer
from tpubench.workloads.llama_pretrain.model import IGNORED
from tpubench.workloads.moe_pretrain.balance import Balance


class Routed:
    """The mixtures of sequences whose tokens took known experts."""

    def __init__(
        self,
        config: LlamaConfig,
        balance: Balance,
        routing: Tensor,
        targets_BL: Tensor,
        parts: list[int],
        device: str,
    ) -> None:
        """routing: [B, L, M, k]. targets: [B, L]. parts: which sequences passed together, the
        number of its part for each. device: where it is computed; all is there from the start,
        since nothing should have to wait between the two directions."""
        assert config.experts is not None
        self.config, self.experts, self.balance = config, config.experts, balance
        counted_BL = (targets_BL != IGNORED).cpu().float()
        self.route = hashlib.sha256(routing.numpy().tobytes()).hexdigest()
        self.parts, self.tokens = parts, counted_BL.sum(dim=1).tolist()
        self.taken_MBE = self._taken(routing.long(), counted_BL).to(device)
        self.routing, self.counted_BL = routing.long().to(device), counted_BL.to(device)
        self.regrets: list[Tensor] = []

    def identity(self) -> dict[str, object]:
        balance = [self.balance.kind, self.balance.weight]
        # Sequences of one rank or part are balanced together, and of several apart.
        return {"routing": self.route, "balance": balance, "parts": list(self.parts)}

    def regret(self) -> Tensor:
        return torch.cat([regret.flatten() for regret in self.regrets])

    def ffn(self, index: int, layer: Layer, rows: slice, *, judge: bool) -> RoutedLayer | None:
        if not self.config.has_experts(index):
            return None
        number = index - self.experts.dense_layers
        return RoutedLayer(self, number, layer, range(len(self.parts))[rows], judge)

    def _taken(self, routing: Tensor, counted_BL: Tensor) -> Tensor:
        """Counted tokens that took each expert, of each layer and sequence."""
        B, _, M, k = routing.shape
        taken_MBE = torch.zeros(M, B, self.experts.routed)
        counted_BA = counted_BL.repeat_interleave(k, dim=1)
        chosen_BLMk = routing.clamp(0, self.experts.routed - 1)
        for number in range(M):
            chosen_BA = chosen_BLMk[:, :, number].flatten(1)
            taken_MBE[number].scatter_add_(1, chosen_BA, counted_BA)
        return taken_MBE

    def weights(self, number: int, row: int) -> Tensor:
        """What each router's share of a token of this sequence adds to the sum of losses: [E].

        The loss is linear in the shares, since routes are counted, not differentiated.
        """
        each = self.balance.weight * self.experts.routed
        if self.balance.kind == "sequence":
            taken_E, divisor = self.taken_MBE[number, row], self.experts.top_k
            tokens = self.tokens[row]
        else:
            together = [other for other, part in enumerate(self.parts) if part == self.parts[row]]
            taken_E = self.taken_MBE[:, together].sum(dim=(0, 1))
            divisor = len(self.taken_MBE) ** 2
            tokens = sum(self.tokens[other] for other in together)
        weighed_E: Tensor = each / (max(tokens, 1.0) * divisor) * taken_E
        return weighed_E


class RoutedLayer:
    """One layer's mixture for the sequences ``rows``."""

    def __init__(self, routed: Routed, number: int, layer: Layer, rows: range, judge: bool) -> None:
        self.routed, self.number, self.layer, self.rows = routed, number, layer, rows
        self.judge = judge
        self.added = torch.empty(0)

    def __call__(self, x_BLD: Tensor) -> Tensor:
        routed, (B, L, D) = self.routed, x_BLD.shape
        x_TD = x_BLD.reshape(B * L, D)
        chosen_BLk = routed.routing[self.rows.start : self.rows.stop, :, self.number]
        y_TD, regret_T = mixture(routed.experts, self.layer, x_TD, chosen_BLk.reshape(B * L, -1))
        if self.judge:
            routed.regrets.append(regret_T.detach().cpu())
        weighs = routed.balance.weight > 0
        self.added = self._balance(x_BLD) if weighs else torch.zeros((), device=x_BLD.device)
        return y_TD.view(B, L, D)

    def auxiliary(self) -> Tensor:
        return self.added

    def _balance(self, x_BLD: Tensor) -> Tensor:
        score_BLE = (x_BLD @ self.layer["ffn.router.weight"].T).float()
        share_BLE = score_BLE.softmax(dim=2)
        total = torch.zeros((), device=x_BLD.device)
        for share_LE, row in zip(share_BLE, self.rows, strict=True):
            shares_E = self.routed.counted_BL[row] @ share_LE
            total = total + (shares_E * self.routed.weights(self.number, row)).sum()
        return total
