"""Models of a library as modules that take and return plain tensors."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


def library(name: str) -> Any:
    """A library by name: its own types are not ours to check."""
    return importlib.import_module(name)


class Plain(nn.Module):
    """``answer(model, *inputs)`` as a module's forward."""

    def __init__(self, model: nn.Module, answer: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.answer = model, answer

    def forward(self, *inputs: Any) -> Tensor:
        return self.answer(self.model, *inputs)


def logits(model: nn.Module, pixels_BCHW: Tensor) -> Tensor:
    """Of an image classifier of transformers: [B, classes]."""
    output: Tensor = model(pixel_values=pixels_BCHW).logits
    return output
