"""DLRM-DCNv2 in plain torch, and the same from its formulas."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Cross(nn.Module):
    """One crossing: x ← x₀ ∘ (W·V·x + b) + x, with W·V of low rank."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width)

    def forward(self, x_BC: Tensor, first_BC: Tensor) -> Tensor:
        crossed: Tensor = first_BC * self.up(self.down(x_BC)) + x_BC
        return crossed


class Dlrm(nn.Module):
    """Dense features and looked-up rows, crossed, to one number a sample."""

    def __init__(
        self,
        *,
        dense: int,
        width: int,
        rows: Sequence[int],
        hot: Sequence[int],
        bottom: Sequence[int],
        cross: int,
        rank: int,
        top: Sequence[int],
    ) -> None:
        super().__init__()
        self.hot = list(hot)
        self.bottom = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([dense, *bottom]))
        # Not drawn: on the meta device that would import the compiler, a second of every process.
        self.tables = nn.ModuleList(
            nn.Embedding(count, width, _weight=torch.empty(count, width)) for count in rows
        )
        crossed = width * (1 + len(rows))
        self.cross = nn.ModuleList(Cross(crossed, rank) for _ in range(cross))
        self.top = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([crossed, *top]))

    def forward(self, dense_BD: Tensor, ids_BI: Tensor) -> Tensor:
        """Logits [B, 1]. ids_BI: the rows taken of each table, one table after another."""
        x = dense_BD
        for layer in self.bottom:
            x = F.relu(layer(x))
        taken = torch.split(ids_BI, self.hot, dim=1)
        pooled = [table(ids).sum(dim=1) for table, ids in zip(self.tables, taken, strict=True)]
        first_BC = x_BC = torch.cat([x, *pooled], dim=1)
        for layer in self.cross:
            x_BC = layer(x_BC, first_BC)
        for layer in self.top[:-1]:
            x_BC = F.relu(layer(x_BC))
        answer: Tensor = self.top[-1](x_BC)
        return answer


def formula(module: nn.Module, dense_BD: Tensor, ids_BI: Tensor) -> Tensor:
    """The same from the papers' formulas, with the module's weights by name and none of its code.

    Cross layers multiply their two factors out; lookups are torch's own bags.
    """
    weights = dict(module.named_parameters())

    def layers(x: Tensor, name: str, *, last: bool) -> Tensor:
        count = sum(key.startswith(f"{name}.") for key in weights) // 2
        for index in range(count):
            x = x @ weights[f"{name}.{index}.weight"].T + weights[f"{name}.{index}.bias"]
            x = x.clamp_min(0) if last or index < count - 1 else x
        return x

    features, first = [layers(dense_BD, "bottom", last=True)], 0
    hot: list[int] = module.hot  # type: ignore[assignment]
    for index, many in enumerate(hot):
        ids = ids_BI[:, first : first + many]
        features.append(F.embedding_bag(ids, weights[f"tables.{index}.weight"], mode="sum"))
        first += many
    x0 = x = torch.cat(features, dim=1)
    for index in range(sum(key.endswith("down.weight") for key in weights)):
        matrix = weights[f"cross.{index}.up.weight"] @ weights[f"cross.{index}.down.weight"]
        x = x0 * (x @ matrix.T + weights[f"cross.{index}.up.bias"]) + x
    return layers(x, "top", last=False)
