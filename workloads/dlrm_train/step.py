"""The timed program of ``dlrm-train``: a model, its tables, a batch, and one step of Adagrad."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import DTYPES, Case, Device, Mark, Step
from tpubench.workloads._normal_values import PERIOD, normal_values
from tpubench.workloads.dlrm_train.model import (
    AdagradSettings,
    Shifted,
    TrainedDlrm,
    adagrad,
    row_moves,
)
from tpubench.workloads.forward.step import drawn
from tpubench.workloads.forward.weights import filled

if TYPE_CHECKING:
    from tpubench.workloads.dlrm import Sizes
    from tpubench.workloads.dlrm_train import DlrmTrain

SETTINGS = AdagradSettings()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickBatch:
    """What a step is given.

    dense: features in the precision of the arithmetic, [B, D]. ids: rows, numbered through all
    tables, [B, I]. labels: what is right, 0 or 1, [B].
    """

    dense: Tensor
    ids: Tensor
    labels: Tensor

    def to(self, device: str) -> ClickBatch:
        return ClickBatch(
            dense=self.dense.to(device),
            ids=self.ids.to(device),
            labels=self.labels.to(device),
        )


class DlrmTrainStep(Step):
    """Forward, backward and Adagrad on one batch, the same at each step, so that it is learnt."""

    marks = ("step",)
    trains = True

    def __init__(self, workload: DlrmTrain, case: Case, device: Device) -> None:
        where = device.torch_device
        self.workload, self.case, self.device = workload, case, device
        sizes = workload.sizes(case)
        self.on_host = drawn_batch(workload, case)
        self.given = self.on_host.to(where)
        self.model = initial_model(workload, case, where)
        self.model.lookup.table = initial_table(sizes, case.number("seed"), where)
        self.squares_RW = torch.zeros_like(self.model.lookup.table)
        self.slot_R = torch.zeros(len(self.squares_RW), dtype=torch.int32, device=where)
        self.bag_I = bag_of_each(sizes).to(where)
        self.optimizer = adagrad(self.model.parameters(), SETTINGS)
        shifted = Shifted(self.model, case.number("batch"), sizes.width * len(sizes.rows))
        self.module, self.shift_BP = shifted, shifted.shift
        self.losses: list[Tensor] = []
        """Loss of each pass, on the device."""

    def run(self, mark: Mark) -> None:
        loss = self.loss_and_gradients()
        self.losses.append(loss)
        self.update()
        mark(loss)

    def loss_and_gradients(self) -> Tensor:
        """The loss; gradients are left in the parameters and, of the tables' sums, in the shift."""
        given = self.given
        assert self.module is not None
        loss: Tensor = self.module(given.dense, given.ids, given.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().clone()  # the next replay writes into its own

    def update(self) -> None:
        """One step of Adagrad; no gradient is left."""
        self.optimizer.step()
        self.move_rows()
        self.forget_gradients()

    def forget_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.shift_BP.grad = None

    @torch.no_grad()
    def move_rows(self) -> None:
        """Adagrad's step for the rows taken, in the memory where they lie."""
        assert self.shift_BP.grad is not None
        gradient_BP = self.shift_BP.grad
        moves = row_moves(
            self.given.ids, self.bag_I, gradient_BP, self.squares_RW, self.slot_R, SETTINGS
        )
        self.squares_RW.index_add_(0, moves.row, moves.square)
        self.model.lookup.table.index_add_(0, moves.row, moves.change)

    @torch.no_grad()
    def start_again(self, rows: Tensor) -> None:
        """Weights and sums as they were before the first step, in place; of the tables ``rows``,
        numbers on the CPU, which must be those that the batch takes."""
        where = self.device.torch_device
        first = initial_model(self.workload, self.case, where)
        for parameter, value in zip(self.model.parameters(), first.parameters(), strict=True):
            parameter.copy_(value)
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()
        sizes, seed = self.workload.sizes(self.case), self.case.number("seed")
        at = rows.to(where)
        self.model.lookup.table.index_copy_(0, at, initial_rows(sizes, seed, rows).to(where))
        self.squares_RW.index_fill_(0, at, 0.0)
        self.losses = []
        self.barrier()


def drawn_batch(workload: DlrmTrain, case: Case) -> ClickBatch:
    """The batch of a case, on the CPU: as the forward pass is given, and answers at even odds."""
    sizes, seed = workload.sizes(case), case.number("seed")
    dtype: torch.dtype = getattr(torch, case.dtype)
    dense_BD, ids_BI = drawn(workload.inputs(case), case.number("batch"), seed, dtype)
    before = torch.tensor([0, *itertools.accumulate(sizes.rows)])
    generator = torch.Generator().manual_seed(seed + 1)
    labels_B = torch.randint(2, (len(ids_BI),), generator=generator).float()
    return ClickBatch(dense=dense_BD, ids=ids_BI + before[bag_of_each(sizes)], labels=labels_B)


def bag_of_each(sizes: Sizes) -> Tensor:
    """Number of the table of each row that a sample takes."""
    return torch.arange(len(sizes.hot)).repeat_interleave(torch.tensor(list(sizes.hot)))


def initial_model(workload: DlrmTrain, case: Case, device: str) -> TrainedDlrm:
    """The model with its first weights, all but the tables."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    sizes = workload.sizes(case)
    model = filled(lambda: TrainedDlrm(sizes, dtype), case.number("seed"), device, torch.float32)
    assert isinstance(model, TrainedDlrm)
    return model.requires_grad_()


def initial_table(sizes: Sizes, seed: int, device: str) -> Tensor:
    """First rows of all tables, one table after another: [R, W] in float32.

    Normal values, smaller where a sample takes more: a table's sum is as large as a dense feature.
    """
    where = device if torch.device(device).type in {"cpu", "cuda"} else "cpu"
    table_RW = torch.empty(sum(sizes.rows), sizes.width, device=where)
    flat, values = table_RW.view(-1), normal_values(seed, where)[:PERIOD]
    for first in range(0, len(flat), PERIOD):
        part = flat[first : first + PERIOD]
        part.copy_(values[: len(part)])
    for rows, hot in zip(torch.split(table_RW, list(sizes.rows)), sizes.hot, strict=True):
        rows.mul_(1 / math.sqrt(hot))
    return table_RW.to(device)


def initial_rows(sizes: Sizes, seed: int, rows: Tensor) -> Tensor:
    """The same of some rows alone, by their numbers on the CPU."""
    at = (rows.unsqueeze(1) * sizes.width + torch.arange(sizes.width)) % PERIOD
    ends = torch.tensor(list(itertools.accumulate(sizes.rows)))
    hot = torch.tensor(list(sizes.hot))[torch.searchsorted(ends, rows, right=True)]
    scale = torch.tensor([1 / math.sqrt(many) for many in hot.tolist()]).unsqueeze(1)
    return normal_values(seed, "cpu")[at] * scale


def count(workload: DlrmTrain, case: Case) -> Mapping[str, int]:
    """FLOPs and bytes of one step, counted on meta tensors; nothing is allocated.

    Bytes: see :meth:`DlrmTrain.work`; of the tables, those of the rows that this batch takes.
    """
    sizes, dtype = workload.sizes(case), getattr(torch, case.dtype)
    batch, ids_BI = case.number("batch"), drawn_batch(workload, case).ids
    with torch.device("meta"):
        model = TrainedDlrm(sizes, dtype)
        model.lookup.table = torch.empty(sum(sizes.rows), sizes.width)
        shift_BP = torch.zeros(batch, sizes.width * len(sizes.rows), requires_grad=True)
        dense_BD = torch.empty(batch, sizes.dense, dtype=dtype)
        labels_B, somewhere_BI = torch.empty(batch), torch.empty(ids_BI.shape, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        loss = model(dense_BD, somewhere_BI, labels_B, shift_BP)
        loss.backward()
    optimizer = adagrad(model.parameters(), SETTINGS)
    optimizer.step()
    kept = [state["sum"] for state in optimizer.state.values()]
    held = [*kept, *model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    weights = sum(p.numel() for p in model.parameters())
    row_bytes = len(torch.unique(ids_BI)) * model.lookup.table[0].nbytes
    given = dense_BD.nbytes + somewhere_BI.nbytes + labels_B.nbytes
    return {
        "flops": counter.get_total_flops(),
        "bytes": 2 * weights * DTYPES[case.dtype]
        + 2 * sum(tensor.nbytes for tensor in held)
        + 5 * row_bytes
        + given,
    }
