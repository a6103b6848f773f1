"""DLRM-DCNv2 as it is trained: float32 weights, arithmetic in a smaller precision, Adagrad.

Projections are float32 and cast where they are used, as in ``llama_pretrain/model.py``. All tables
lie one after another in one tensor, so that a step looks up and writes once, whatever their number.
They are no parameters: a gradient of their size would have to be made, and moved, for the few rows
that a batch takes. What autograd gives is the gradient of each sample's sums instead, and
:func:`row_moves` makes of it what Adagrad makes of the rows taken, and of no other.

torch's sparse gradients do the same on a CPU and a GPU, but wait for the device to count distinct
rows, and neither XLA nor TorchTPU has them; here all backends run one program. On a CPU, which has
nothing to wait for, theirs is somewhat faster: of 27,392 rows of 128 on one shared core 52 to 84 ms
in four runs, against 82 to 125 ms.

Letters: B samples, D dense features, I rows that a sample takes, P width of all sums side by side,
R rows of all tables, W width of a row, N rows that all samples take, B·I.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tpubench.workloads.dlrm.model import Dlrm
from tpubench.workloads.llama_pretrain.model import Linear

if TYPE_CHECKING:
    from tpubench.workloads.dlrm import Sizes


@dataclass(frozen=True, slots=True, kw_only=True)
class AdagradSettings:
    """Adagrad (Duchi et al., 2011) for every weight alone, of tables too: FBGEMM's EXACT_ADAGRAD.

    MLPerf's reference (mlcommons/training, recommendation_v2/torchrec_dlrm: ``--adagrad
    --learning_rate 0.005``, and ADAGRAD_EPS in ``dlrm_main.py``), whose sums begin at nothing, with
    no decay of the rate or of weights. Its warm-up and decay of the rate are left out: they cost
    no time.
    """

    lr: float = 0.005
    eps: float = 1e-8


class Lookup(nn.Module):
    """Sums of the rows that a sample takes of each table."""

    table: Tensor

    def __init__(self, hot: Sequence[int]) -> None:
        super().__init__()
        self.hot = list(hot)
        self.register_buffer("table", None)

    def forward(self, ids_BI: Tensor) -> Tensor:
        """[B, P] in float32. ids: numbered through all tables."""
        rows_BIW = F.embedding(ids_BI, self.table)
        return torch.cat(
            [taken.sum(dim=1) for taken in torch.split(rows_BIW, self.hot, dim=1)], dim=1
        )


class TrainedDlrm(Dlrm):
    """From features and rows to the loss."""

    linear = Linear

    def __init__(self, sizes: Sizes, dtype: torch.dtype) -> None:
        """Without its tables: whoever builds it gives ``lookup.table``, [R, W] in float32."""
        super().__init__(sizes)
        self.dtype = dtype

    def hold(self, rows: Sequence[int], width: int) -> None:
        self.lookup = Lookup(self.hot)

    def forward(  # type: ignore[override]  # of a batch with answers
        self, dense_BD: Tensor, ids_BI: Tensor, labels_B: Tensor, shift_BP: Tensor
    ) -> Tensor:
        """Mean binary cross-entropy of the batch: a float32 scalar.

        shift: zeros that are added to the sums, so that its gradient is theirs.
        """
        pooled_BP = (self.lookup(ids_BI) + shift_BP).to(self.dtype)
        logits_B = self.answer(dense_BD, pooled_BP).squeeze(1).float()
        return F.binary_cross_entropy_with_logits(logits_B, labels_B)


class Shifted(nn.Module):
    """The model with its shift in place: what is compiled, and may copy what it is given."""

    def __init__(self, model: TrainedDlrm, batch: int, pooled: int) -> None:
        """pooled: width of all sums side by side."""
        super().__init__()
        self.model = model
        self.shift = nn.Parameter(torch.zeros(batch, pooled, device=model.lookup.table.device))

    def forward(self, dense_BD: Tensor, ids_BI: Tensor, labels_B: Tensor) -> Tensor:
        loss: Tensor = self.model(dense_BD, ids_BI, labels_B, self.shift)
        return loss


def adagrad(parameters: Iterable[nn.Parameter], settings: AdagradSettings) -> torch.optim.Adagrad:
    """torch's own, for what is no table; one fused kernel where torch has it."""
    weights = list(parameters)
    return torch.optim.Adagrad(
        weights, lr=settings.lr, eps=settings.eps, fused=weights[0].device.type == "cpu"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMoves:
    """What Adagrad adds to the rows of a batch.

    row: as samples take them, [N]. square, change: what is added to the sums of squares and to the
    rows, [N, W]; of a row that several samples take, once, and nothing for the others.
    """

    row: Tensor
    square: Tensor
    change: Tensor


def row_moves(
    ids_BI: Tensor,
    bag_I: Tensor,
    gradient_BP: Tensor,
    squares_RW: Tensor,
    slot_R: Tensor,
    settings: AdagradSettings,
) -> RowMoves:
    """Adagrad's step for the rows taken, a row that several samples take moving once.

    bag: the table of each of a sample's rows. gradient: of each sample's sums, which is that of
    every row in them. slot: room for a whole number of each row, int32; what it holds before does
    not matter. Whoever takes a row writes its own place there; all read the one that stayed, and
    their gradients are summed in that place. No shape depends on how many rows are distinct, so
    nothing waits for the device and nothing is compiled again, and nothing has to be sorted.
    """
    width, row_N = squares_RW.shape[1], ids_BI.reshape(-1)
    own_N = torch.arange(len(row_N), dtype=slot_R.dtype, device=slot_R.device)
    slot_R.scatter_(0, row_N, own_N)
    place_N = slot_R.index_select(0, row_N)
    each_NW = gradient_BP.view(len(ids_BI), -1, width).index_select(1, bag_I).view(-1, width)
    summed_NW = torch.zeros_like(each_NW).index_add(0, place_N, each_NW)
    square_NW = summed_NW.square()
    root_NW = (squares_RW.index_select(0, row_N) + square_NW).sqrt()
    return RowMoves(
        row=row_N,
        square=square_NW,
        change=summed_NW / (root_NW + settings.eps) * -settings.lr,
    )
