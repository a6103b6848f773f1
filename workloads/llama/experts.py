"""A mixture of experts: a router, the experts that it picks, and those that every token takes.

No token is ever dropped and no expert has a capacity. Tokens are put in the order of their experts,
and each expert multiplies as many rows as it was given. Three forms of that product give the same:

- ``grouped``: ``torch._grouped_mm``, one kernel over segments of any length, in bfloat16: on a CPU,
  and on an Nvidia GPU of compute capability 9.0 or more.
- ``blocks``: the same segments cut into blocks of one expert and a fixed number of rows, an
  expert's last block filled up with rows that nobody reads. There are as many blocks as any routing
  can need, so shapes never depend on the routing.
- ``every expert``: all experts over all tokens, what was not asked for weighted by zero. Where
  shapes must not depend on the routing and few tokens pass together but most experts are needed:
  then reading the weights once takes longer than multiplying by them.

Letters beside those of ``model.py``: T tokens, E experts, k experts a token, A = T·k assignments,
J blocks of C rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from tpubench.workloads.llama.config import Experts

FEW_TOKENS = 256
"""Up to here a bfloat16 product is bound by reading its weights: the ratio of a chip's peak to its
memory bandwidth is 240 to 560 FLOPs a byte on TPU v5e … v7 and H100 … B200 (devices/sheets.csv)."""
LARGEST_BLOCK = 256


@register_flop_formula(torch.ops.aten._grouped_mm)
def _grouped_flops(
    rows: tuple[int, ...], weights: tuple[int, ...], *_: object, **__: object
) -> int:
    """Of rows [A, D] by weights [E, D, F], each row by one of them; of [D, A] by [A, F], where each
    expert's part of A gives a product of its own (the gradient of weights)."""
    return 2 * rows[0] * rows[1] * weights[-1]


class Stacked(nn.Module):
    """The same projection of every expert, rows after rows: [E·R, D]."""

    def __init__(self, experts: int, width: int, rows: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.experts = experts
        self.weight = nn.Parameter(torch.empty(experts * rows, width, dtype=dtype))

    def each(self) -> Tensor:
        """[E, D, R], so that rows are multiplied from the left."""
        return self.weight.view(self.experts, -1, self.weight.shape[1]).transpose(1, 2)


class Correction(nn.Module):
    """What is added to how much each expert is wanted, before they are compared: [E]."""

    def __init__(self, experts: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, dtype=dtype))


class Mixture(nn.Module):
    """The feed-forward of a layer with experts."""

    static = False
    """Whether shapes must not depend on the routing, wherever the tensors stand: what is traced on
    one device for another."""

    def __init__(
        self, width: int, experts: Experts, dtype: torch.dtype, shared: nn.Module | None
    ) -> None:
        """shared: the feed-forward that every token takes besides, if there is one."""
        super().__init__()
        self.experts = experts
        self.router = nn.Linear(width, experts.routed, bias=False, dtype=dtype)
        self.correction = Correction(experts.routed, dtype) if experts.corrected else None
        self.gate_up = Stacked(experts.routed, width, 2 * experts.d_ffn, dtype)
        self.down = Stacked(experts.routed, experts.d_ffn, width, dtype)
        self.shared = shared

    def forward(self, x_BLD: Tensor, record: Tensor, positions_L: Tensor) -> Tensor:
        """The mixture of each token; ``record`` [B, 1, capacity, k] is told which experts it took.

        The record is what lets a reference follow the same route: at a near tie two correct
        programs may take different experts, and all that comes after differs.
        """
        B, L, D = x_BLD.shape
        x_TD = x_BLD.reshape(B * L, D)
        gate_Tk, chosen_Tk = self.route(x_TD)
        record.index_copy_(2, positions_L, chosen_Tk.view(B, 1, L, -1).to(record.dtype))
        y_TD = self.mixed(x_TD, gate_Tk.to(x_TD.dtype), chosen_Tk)
        if self.shared is not None:
            y_TD = y_TD + self.shared(x_TD)
        return y_TD.view(B, L, D)

    def route(self, x_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Gates, float32, and experts of each token: [T, k] each."""
        score_TE = self.router(x_TD).float()
        if self.correction is None:
            return self.gates(score_TE.softmax(dim=-1))
        return gates(self.experts, score_TE.sigmoid(), self.correction.weight.float())

    def gates(self, share_TE: Tensor) -> tuple[Tensor, Tensor]:
        """The same, from what share each expert has of a token."""
        return gates(self.experts, share_TE, None)

    def mixed(self, x_TD: Tensor, gate_Tk: Tensor, chosen_Tk: Tensor) -> Tensor:
        """Σ gate · expert(x) over the chosen experts: [T, D]."""
        T, k = chosen_Tk.shape
        form = product_form(x_TD, T * k, self.experts.routed, self.static)
        if form == "every expert":
            return self._by_every_expert(x_TD, gate_Tk, chosen_Tk)
        sorted_A, order_A = chosen_Tk.reshape(-1).sort(stable=True)
        expert_E = torch.arange(self.experts.routed, device=x_TD.device)
        end_E = (sorted_A <= expert_E.unsqueeze(1)).sum(dim=1, dtype=torch.int32)
        rows_AD = x_TD[order_A // k]
        if form == "grouped":
            y_AD = self._grouped(rows_AD, end_E)
        else:
            y_AD = self._in_blocks(rows_AD, end_E, sorted_A)
        # Back in the order of tokens.
        return (y_AD[order_A.argsort()].view(T, k, -1) * gate_Tk.unsqueeze(2)).sum(dim=1)

    def _grouped(self, rows_AD: Tensor, end_E: Tensor) -> Tensor:
        """What its expert makes of each row; rows of expert e end before ``end_E[e]``: [A, D]."""
        gate_up_AF = torch._grouped_mm(rows_AD, self.gate_up.each(), offs=end_E)
        return torch._grouped_mm(_gated(gate_up_AF), self.down.each(), offs=end_E)

    def _in_blocks(self, rows_AD: Tensor, end_E: Tensor, sorted_A: Tensor) -> Tensor:
        """The same with shapes that do not depend on the routing."""
        A, E = len(rows_AD), self.experts.routed
        C, J = blocks(A, E)
        begin_E = F.pad(end_E[:-1], (1, 0))
        blocks_E = (end_E - begin_E + C - 1) // C
        # A running sum, spelled out: XLA's CPU compiler aborts on ``cumsum`` of what was computed.
        expert_E = torch.arange(E, device=rows_AD.device)
        end_block_E = ((expert_E <= expert_E.unsqueeze(1)) * blocks_E).sum(dim=1)
        # How much further down an expert's rows stand once those before it fill whole blocks.
        shift_E = C * (end_block_E - blocks_E) - begin_E
        block_J = torch.arange(J, device=rows_AD.device)
        expert_J = (end_block_E <= block_J.unsqueeze(1)).sum(dim=1).clamp(max=E - 1)
        row_JC = block_J.unsqueeze(1) * C + torch.arange(C, device=rows_AD.device)
        x_JCD = rows_AD[(row_JC - shift_E[expert_J].unsqueeze(1)).clamp(0, A - 1)]
        gate_up_JCF = torch.bmm(x_JCD, self.gate_up.each()[expert_J])
        y_JCD = torch.bmm(_gated(gate_up_JCF), self.down.each()[expert_J])
        row_A = torch.arange(A, device=rows_AD.device) + shift_E[sorted_A]
        return y_JCD.view(J * C, -1)[row_A]

    def _by_every_expert(self, x_TD: Tensor, gate_Tk: Tensor, chosen_Tk: Tensor) -> Tensor:
        expert_E = torch.arange(self.experts.routed, device=x_TD.device)
        asked_TkE = chosen_Tk.unsqueeze(2) == expert_E
        gate_TE = (asked_TkE * gate_Tk.unsqueeze(2)).sum(dim=1)
        x_ETD = x_TD.unsqueeze(0).expand(self.experts.routed, -1, -1)
        hidden_ETF = _gated(torch.bmm(x_ETD, self.gate_up.each()))
        y_ETD = torch.bmm(hidden_ETF, self.down.each())
        return (y_ETD * gate_TE.T.unsqueeze(2)).sum(dim=0)


def gates(experts: Experts, share_TE: Tensor, correction_E: Tensor | None) -> tuple[Tensor, Tensor]:
    """Gates and experts of each token, [T, k] each, from how much it wants each expert."""
    if correction_E is None:
        gate_Tk, chosen_Tk = share_TE.topk(experts.top_k, dim=-1)
    else:
        wanted_TE = in_best_groups(experts, share_TE + correction_E)
        chosen_Tk = wanted_TE.topk(experts.top_k, dim=-1).indices
        gate_Tk = share_TE.gather(1, chosen_Tk)
    if experts.normalised:
        gate_Tk = gate_Tk / gate_Tk.sum(dim=-1, keepdim=True)
    return (gate_Tk if experts.scale == 1.0 else gate_Tk * experts.scale), chosen_Tk


def in_best_groups(experts: Experts, wanted_TE: Tensor) -> Tensor:
    """The same, minus infinity for experts outside of a token's best groups."""
    if experts.groups == 1:
        return wanted_TE
    wanted_TGe = wanted_TE.view(len(wanted_TE), experts.groups, -1)
    pair_TG = wanted_TGe.topk(2, dim=-1).values.sum(dim=-1)
    best_Tg = pair_TG.topk(experts.top_groups, dim=-1).indices
    group_G = torch.arange(experts.groups, device=wanted_TE.device)
    open_TG = (best_Tg.unsqueeze(2) == group_G).any(dim=1)
    return wanted_TGe.masked_fill(~open_TG.unsqueeze(2), -torch.inf).view_as(wanted_TE)


def product_form(x: Tensor, assignments: int, experts: int, static: bool = False) -> str:
    """Which form of the experts' product serves this tensor's device; see above."""
    here = x.device.type in {"cpu", "meta"} or x.is_cuda
    if here and not static and not torch.compiler.is_exporting():
        kernel = x.dtype is torch.bfloat16 and (not x.is_cuda or _has_grouped_kernel(x.device))
        return "grouped" if kernel else "blocks"
    tokens_are_few = x.shape[0] <= FEW_TOKENS
    # A block's weights are gathered first: read, written and read again.
    return "every expert" if tokens_are_few and 3 * assignments >= experts else "blocks"


def _has_grouped_kernel(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (9, 0)


def blocks(assignments: int, experts: int) -> tuple[int, int]:
    """Rows of a block, and the most blocks that any routing of so many assignments needs.

    An expert with n rows takes ⌈n/C⌉ ≤ (n + C − 1)/C blocks, and at most min(E, A) experts have
    any row.
    """
    rows = min(LARGEST_BLOCK, max(1, -(-assignments // experts)))
    used = min(experts, assignments)
    return rows, (assignments + used * (rows - 1)) // rows


def _gated(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
