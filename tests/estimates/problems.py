"""Problems for tests."""

from __future__ import annotations

from typing import Any

from tpubench.estimates.problem import Serving, Training
from tpubench.estimates.roofline import chips
from tpubench.suite import decoders


def make_serving(
    device: str = "nvidia-h100-sxm", model: str = "llama-3.1-8b", **changes: Any
) -> Serving:
    """A decoding problem; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "kind": "decode",
        "metric": "tpot_s",
        "batch": 1.0,
        "input_len": 1000.0,
        "output_len": 48.0,
        "scenario": "decode-only",
    }
    return Serving(**(_stated(device, model) | fields | changes))


def make_training(
    device: str = "nvidia-h100-sxm", model: str = "llama-3.1-8b", **changes: Any
) -> Training:
    """A training step; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "metric": "train_tok_s_per_chip",
        "seq_len": 8192.0,
        "global_batch": 512.0,
    }
    return Training(**(_stated(device, model) | fields | changes))


def _stated(device: str, model: str) -> dict[str, Any]:
    chip, shape = chips.resolve(device), decoders.find_decoder(model)
    assert chip is not None and shape is not None
    return {
        "chip": chip,
        "chips": 1,
        "software": "trtllm",
        "source": "nobody",
        "family": "nobody",
        "date": 2025.0,
        "model": shape.name,
        "shape": shape,
    }
