"""Problems for tests."""

from __future__ import annotations

from typing import Any

from tpubench.estimates.problem import Problem
from tpubench.estimates.roofline import chips
from tpubench.suite import decoders


def make_problem(device: str = "nvidia-h100-sxm", model: str = "llama-3.1-8b",
                 **changes: Any) -> Problem:  # fmt: skip
    """A decoding problem; ``changes`` replace fields."""
    chip, shape = chips.resolve(device), decoders.find_decoder(model)
    assert chip is not None and shape is not None
    fields: dict[str, Any] = {
        "kind": "decode",
        "metric": "tpot_ms",
        "chip": chip,
        "chips": 1,
        "software": "trtllm",
        "source": "nobody",
        "family": "nobody",
        "date": 2025.0,
        "model": shape.name,
        "shape": shape,
        "batch": 1.0,
        "input_len": 1000.0,
        "output_len": 48.0,
        "seq_len": 8192.0,
        "global_batch": 512.0,
        "scenario": "decode-only",
    }
    return Problem(**(fields | changes))
