"""DLRM-DCNv2 in plain torch, and the same from its formulas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from tpubench.workloads.dlrm import Sizes


class Cross(nn.Module):
    """One crossing: x ← x₀ ∘ (W·V·x + b) + x, with W·V of low rank."""

    def __init__(self, width: int, rank: int, linear: type[nn.Linear] = nn.Linear) -> None:
        super().__init__()
        self.down = linear(width, rank, bias=False)
        self.up = linear(rank, width)

    def forward(self, x_BC: Tensor, first_BC: Tensor) -> Tensor:
        crossed: Tensor = first_BC * self.up(self.down(x_BC)) + x_BC
        return crossed


class Dlrm(nn.Module):
    """Dense features and looked-up rows, crossed, to one number a sample."""

    linear: type[nn.Linear] = nn.Linear
    """What a projection is."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.hot, linear = list(sizes.hot), self.linear
        into = [sizes.dense, *sizes.bottom]
        self.bottom = nn.ModuleList(linear(a, b) for a, b in pairwise(into))
        self.hold(sizes.rows, sizes.width)
        crossed = sizes.width * (1 + len(sizes.rows))
        self.cross = nn.ModuleList(Cross(crossed, sizes.rank, linear) for _ in range(sizes.cross))
        self.top = nn.ModuleList(linear(a, b) for a, b in pairwise([crossed, *sizes.top]))

    def hold(self, rows: Sequence[int], width: int) -> None:
        """Make the tables."""
        # Not drawn: on the meta device that would import the compiler, a second of every process.
        self.tables = nn.ModuleList(
            nn.Embedding(count, width, _weight=torch.empty(count, width)) for count in rows
        )

    def forward(self, dense_BD: Tensor, ids_BI: Tensor) -> Tensor:
        """Logits [B, 1]. ids_BI: the rows taken of each table, one table after another."""
        taken = torch.split(ids_BI, self.hot, dim=1)
        pooled = [table(ids).sum(dim=1) for table, ids in zip(self.tables, taken, strict=True)]
        return self.answer(dense_BD, torch.cat(pooled, dim=1))

    def answer(self, dense_BD: Tensor, pooled_BP: Tensor) -> Tensor:
        """Logits [B, 1]. pooled: the sums of each table's rows, side by side."""
        x = dense_BD
        for layer in self.bottom:
            x = F.relu(layer(x))
        first_BC = x_BC = torch.cat([x, pooled_BP], dim=1)
        for layer in self.cross:
            x_BC = layer(x_BC, first_BC)
        for layer in self.top[:-1]:
            x_BC = F.relu(layer(x_BC))
        answer: Tensor = self.top[-1](x_BC)
        return answer


def bags(tables: Sequence[Tensor], hot: Sequence[int], ids_BI: Tensor) -> Tensor:
    """Sums of the rows that each sample takes of each table, side by side, by torch's own bags."""
    taken = torch.split(ids_BI, list(hot), dim=1)
    pooled = [
        F.embedding_bag(ids, table, mode="sum") for ids, table in zip(taken, tables, strict=True)
    ]
    return torch.cat(pooled, dim=1)


def formula(weights: Mapping[str, Tensor], dense_BD: Tensor, pooled_BP: Tensor) -> Tensor:
    """Logits from the papers' formulas, with a module's weights by name and none of its code.

    Cross layers multiply their two factors out.
    """

    def layers(x: Tensor, name: str, *, last: bool) -> Tensor:
        count = sum(key.startswith(f"{name}.") for key in weights) // 2
        for index in range(count):
            x = x @ weights[f"{name}.{index}.weight"].T + weights[f"{name}.{index}.bias"]
            x = x.clamp_min(0) if last or index < count - 1 else x
        return x

    x0 = x = torch.cat([layers(dense_BD, "bottom", last=True), pooled_BP], dim=1)
    for index in range(sum(key.endswith("down.weight") for key in weights)):
        matrix = weights[f"cross.{index}.up.weight"] @ weights[f"cross.{index}.down.weight"]
        x = x0 * (x @ matrix.T + weights[f"cross.{index}.up.bias"]) + x
    return layers(x, "top", last=False)
