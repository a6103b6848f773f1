"""Faults that the checks of a generating program do not see when it is deep.

They are in the timed program alone, not in its twin: a kernel that rounds more in bfloat16, or one
layer of many in which little is missing. docs/parity.md has them in a table of their own.
"""

from __future__ import annotations

import attention_defects
import decoder_defects
import llama_defects
import torch
from llama_defects import Defect, blocks
from torch import nn

from tpubench.workloads.llama.step import LlamaStep


def when_deep(defect: Defect) -> Defect:
    """As a fault of a long chain would be: a shallow twin does not have it."""

    def deep(step: LlamaStep) -> None:
        if len(blocks(step)) > 4:
            defect(step)

    return deep


def weights_of_two_layers_swapped(step: LlamaStep) -> None:
    """Two in the middle, next to each other."""
    layers: list[nn.Module] = list(step.model.blocks)
    at = len(layers) // 2
    layers[at - 1], layers[at] = layers[at], layers[at - 1]
    step.model.blocks = nn.ModuleList(layers)


DEFECTS: dict[str, Defect] = {
    "softmax in bfloat16, not in float32": attention_defects.softmax_in(
        torch.bfloat16, torch.bfloat16
    ),
    "norms summed in bfloat16, not in float32": decoder_defects.norms_summed_in_bfloat16_only,
    "products summed in bfloat16, not in float32": decoder_defects.products_summed_in_bfloat16_only,
    **{
        f"{name} when deep": when_deep({**llama_defects.DEFECTS, **attention_defects.DEFECTS}[name])
        for name in (
            "reads one slot less",
            "first key never read",
            "prompt does not see itself",
            "angles in bfloat16",
            "stretched as llama 3",
            "int8 cache",
            "int8 weights",
            "norm eps wrong",
        )
    },
    "two layers in the middle swapped when deep": when_deep(weights_of_two_layers_swapped),
}
