"""The training step that a compiler is given: forward, backward and Adagrad, on the meta device.

Traced to a graph of plain operations as ``llama_pretrain/program.py`` does; weights, tables and
sums of squares are buffers that the program replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tpubench.suite.workload import Case, Program
from tpubench.workloads.dlrm_train.model import TrainedDlrm, row_moves
from tpubench.workloads.dlrm_train.reference import adagrad_step
from tpubench.workloads.dlrm_train.step import SETTINGS
from tpubench.workloads.llama_pretrain.program import Buffers, graph_of

if TYPE_CHECKING:
    from tpubench.workloads.dlrm_train import DlrmTrain

_TABLE = "lookup.table"


class TracedDlrmStep(nn.Module):
    """One training step as a module: a batch in, the mean loss out.

    A call advances the buffers: ``weight.NAME`` and ``square.NAME`` of layers, ``table.rows`` and
    ``table.squares``.
    """

    def __init__(self, model: TrainedDlrm, bag_I: Tensor, batch: Sequence[Tensor]) -> None:
        super().__init__()
        weights = {name: p.detach() for name, p in model.named_parameters()}
        table_RW = model.lookup.table
        self.weight = Buffers(weights)
        self.square = Buffers({name: torch.zeros_like(w) for name, w in weights.items()})
        self.table = Buffers({"rows": table_RW, "squares": torch.zeros_like(table_RW)})
        slot_R = torch.zeros(len(table_RW), dtype=torch.int32, device=table_RW.device)
        self.lookup = Buffers({"bag": bag_I, "slot": slot_R})
        self.graph = graph_of(_step(model), (self.state(), bag_I, slot_R, *batch))

    def state(self) -> list[Tensor]:
        """Weights, their sums of squares, the tables' rows, and theirs."""
        return [b for part in (self.weight, self.square, self.table) for b in part.buffers()]

    def forward(self, dense: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        state = self.state()
        loss: Tensor
        bag_I, slot_R = self.lookup.buffers()
        loss, *advanced = self.graph(state, bag_I, slot_R, dense, ids, labels)
        for old, new in zip(state, advanced, strict=True):
            old.copy_(new)
        return loss


def _step(model: TrainedDlrm) -> Callable[..., list[Tensor]]:
    """One step, forward and backward and update, from tensors to tensors."""
    names = [name for name, _ in model.named_parameters()]

    def step(
        state: list[Tensor],
        bag_I: Tensor,
        slot_R: Tensor,
        dense_BD: Tensor,
        ids_BI: Tensor,
        labels_B: Tensor,
    ) -> list[Tensor]:
        n = len(names)
        weights = [weight.detach().requires_grad_() for weight in state[:n]]
        squares, (rows_RW, squares_RW) = state[n : 2 * n], state[2 * n :]
        width = rows_RW.shape[1] * len(model.hot)
        shift_BP = torch.zeros(len(labels_B), width, device=rows_RW.device, requires_grad=True)
        live = {**dict(zip(names, weights, strict=True)), _TABLE: rows_RW}
        loss = functional_call(model, live, (dense_BD, ids_BI, labels_B, shift_BP))
        *gradients, pooled_BP = torch.autograd.grad(loss, [*weights, shift_BP])
        moved = [
            adagrad_step(weight.detach(), square, gradient, SETTINGS)
            for weight, square, gradient in zip(weights, squares, gradients, strict=True)
        ]
        moves = row_moves(ids_BI, bag_I, pooled_BP, squares_RW, slot_R, SETTINGS)
        return [
            loss.detach(),
            *(weight for weight, _ in moved),
            *(square for _, square in moved),
            rows_RW.index_add(0, moves.row, moves.change),
            squares_RW.index_add(0, moves.row, moves.square),
        ]

    return step


def program(workload: DlrmTrain, case: Case) -> Program:
    """One step, on one chip."""
    sizes, batch = workload.sizes(case), case.number("batch")
    with torch.device("meta"):
        model = TrainedDlrm(sizes, getattr(torch, case.dtype))
        model.lookup.table = torch.empty(sum(sizes.rows), sizes.width)
        given = (
            torch.empty(batch, sizes.dense, dtype=model.dtype),
            torch.empty(batch, sum(sizes.hot), dtype=torch.int64),
            torch.empty(batch),
        )
        bag_I = torch.empty(sum(sizes.hot), dtype=torch.int64)
    return Program(module=TracedDlrmStep(model, bag_I, given), inputs=given)
