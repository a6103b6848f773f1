"""The random numbers that weights and inputs are cut from, the same on every device."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PERIOD = 4_194_301
"""Random values before they repeat, a prime: no two rows of a matrix are alike."""


@lru_cache(maxsize=1)
def normal_values(seed: int, device: str) -> Tensor:
    """The values of a seed, twice one after the other, so that any piece is one slice."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(PERIOD, generator=generator).repeat(2).to(device)
