"""What a training step of DLRM should give: loss and gradients in float32 on the host, and Adagrad.

The model is that of the papers' formulas (``dlrm/model.py``), its tables torch's own bags, and the
gradients torch's. It is computed at the weights that the program had, so no error adds up from step
to step, and what Adagrad makes of a gradient is a formula for each weight alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tpubench.workloads.dlrm.model import bags, formula
from tpubench.workloads.dlrm_train.model import AdagradSettings, TrainedDlrm
from tpubench.workloads.dlrm_train.step import ClickBatch

_SAMPLES_AT_ONCE = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """The rows that a batch takes, each once.

    rows: their numbers, ascending [U]. place: where each sample's are among them, [B, I]. hot: how
    many are of each table.
    """

    rows: Tensor
    place: Tensor
    hot: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Loss and gradients, float32 on the CPU: of weights by name, and of each sample's sums."""

    loss: Tensor
    weights: Mapping[str, Tensor]
    pooled: Tensor


def taken(ids_BI: Tensor, hot: list[int]) -> Taken:
    """ids: numbered through all tables."""
    rows_U, place_BI = torch.unique(ids_BI, return_inverse=True)
    return Taken(rows=rows_U, place=place_BI, hot=hot)


def gradients(
    weights: Mapping[str, Tensor], rows_UW: Tensor, taken: Taken, batch: ClickBatch
) -> Gradients:
    """At these weights and rows, some samples after others."""
    live = {name: value.detach().requires_grad_() for name, value in weights.items()}
    losses, pooled = [], []
    for first in range(0, len(batch.labels), _SAMPLES_AT_ONCE):
        part = slice(first, first + _SAMPLES_AT_ONCE)
        tables = [rows_UW] * len(taken.hot)
        pooled_BP = bags(tables, taken.hot, taken.place[part]).requires_grad_()
        loss = _summed(live, pooled_BP, batch, part) / len(batch.labels)
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        assert pooled_BP.grad is not None
        pooled.append(pooled_BP.grad)
    return Gradients(
        loss=torch.stack(losses).sum(),
        weights={name: _gradient(value) for name, value in live.items()},
        pooled=torch.cat(pooled),
    )


@torch.no_grad()
def loss(weights: Mapping[str, Tensor], rows_UW: Tensor, taken: Taken, batch: ClickBatch) -> float:
    """The loss alone."""
    total = 0.0
    for first in range(0, len(batch.labels), _SAMPLES_AT_ONCE):
        part = slice(first, first + _SAMPLES_AT_ONCE)
        pooled_BP = bags([rows_UW] * len(taken.hot), taken.hot, taken.place[part])
        total += float(_summed(weights, pooled_BP, batch, part))
    return total / len(batch.labels)


def as_written(model: TrainedDlrm, rows_UW: Tensor, taken: Taken, batch: ClickBatch) -> Gradients:
    """What the model itself gives on the host, uncompiled, in the precision that it computes in."""
    model.lookup.table = rows_UW
    width = rows_UW.shape[1] * len(taken.hot)
    shift_BP = torch.zeros(len(batch.labels), width, requires_grad=True)
    loss = model(batch.dense.to(model.dtype), taken.place, batch.labels, shift_BP)
    loss.backward()
    return Gradients(
        loss=loss.detach(),
        weights={name: _gradient(value) for name, value in model.named_parameters()},
        pooled=_gradient(shift_BP),
    )


def adagrad_step(
    weight: Tensor, square: Tensor, gradient: Tensor, settings: AdagradSettings
) -> tuple[Tensor, Tensor]:
    """Weight and sum of squares after a step, element by element (Duchi et al., 2011, figure 1,
    with ε beside the root as torch and FBGEMM have it)."""
    square = square + gradient.square()
    return weight - settings.lr * gradient / (square.sqrt() + settings.eps), square


def of_rows(pooled_BP: Tensor, taken: Taken, chosen: Tensor) -> Tensor:
    """Gradients of some of the rows, from those of each sample's sums: [chosen, W] in float64.

    chosen: places among the rows, ascending.
    """
    each_BTW = pooled_BP.view(len(pooled_BP), len(taken.hot), -1).double()
    bag_I = torch.arange(len(taken.hot)).repeat_interleave(torch.tensor(taken.hot))
    at = torch.searchsorted(chosen, taken.place).clamp_max(len(chosen) - 1)
    sample, place = (chosen[at] == taken.place).nonzero(as_tuple=True)
    summed = torch.zeros(len(chosen), each_BTW.shape[2], dtype=torch.float64)
    return summed.index_add(0, at[sample, place], each_BTW[sample, bag_I[place]])


def _summed(
    weights: Mapping[str, Tensor], pooled_BP: Tensor, batch: ClickBatch, part: slice
) -> Tensor:
    logits_B = formula(weights, batch.dense[part].float(), pooled_BP).squeeze(1)
    return F.binary_cross_entropy_with_logits(logits_B, batch.labels[part], reduction="sum")


def _gradient(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
