"""``vit-l16``: image classification with a Vision Transformer, from transformers.

Dosovitskiy et al., 2021 (arXiv:2010.11929): patches of 16 × 16 pixels become tokens, with a class
token in front. The encoder is that of a language model without a mask.

    tpubench run --workload vit-l16 --set batch=1,64,256
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case
from tpubench.workloads.forward import Forward, Input, Needs, Tally, size

if TYPE_CHECKING:
    from torch import nn


class VitL16(Forward):
    """Vision Transformer, large, patches of 16."""

    name = "vit-l16"
    version = 1
    summary = "image classification: Vision Transformer, forward"
    unit = "image"
    needs = Needs(modules=("transformers",), extra="vision")
    presets: ClassVar[Mapping[str, str]] = {
        "vit-l16": "24 layers of 1024, 224 × 224 pixels: 304 M parameters",
        "tiny": "2 layers of 32, 32 × 32 pixels",
    }
    shapes: ClassVar = {
        "vit-l16": {
            "pixels": 224, "patch": 16, "width": 1024, "layers": 24, "heads": 16, "ffn": 4096,
            "classes": 1000,
        },
        "tiny": {
            "pixels": 32, "patch": 8, "width": 32, "layers": 2, "heads": 2, "ffn": 64,
            "classes": 10,
        },
    }  # fmt: skip
    batches: ClassVar = {"*": (1, 8, 64, 256)}

    def module(self, case: Case) -> nn.Module:
        from tpubench.workloads.forward.library import Plain, library, logits

        transformers = library("transformers")

        config = transformers.ViTConfig(
            image_size=size(case, "pixels"),
            patch_size=size(case, "patch"),
            hidden_size=size(case, "width"),
            num_hidden_layers=size(case, "layers"),
            num_attention_heads=size(case, "heads"),
            intermediate_size=size(case, "ffn"),
            num_labels=size(case, "classes"),
            attn_implementation="sdpa",
        )
        return Plain(transformers.ViTForImageClassification(config), logits)

    def inputs(self, case: Case) -> Sequence[Input]:
        return [Input(shape=(3, size(case, "pixels"), size(case, "pixels")))]

    def outputs(self, case: Case) -> int:
        return size(case, "classes")

    def depth(self, case: Case) -> int:
        return size(case, "layers")

    def with_depth(self, case: Case, depth: int) -> Case:
        return replace(case, shape={**case.shape, "layers": depth})

    def tally(self, case: Case) -> Tally:
        D, patch = size(case, "width"), size(case, "patch")
        side = size(case, "pixels") // patch
        tokens = side * side + 1
        tally = Tally(read=D + tokens * D)  # class token and positions
        tally.conv(side, 3, D, patch)
        encoder(tally, size(case, "layers"), tokens, D, size(case, "ffn"))
        tally.norm(D)
        tally.linear(1, D, size(case, "classes"))
        return tally


def encoder(tally: Tally, layers: int, tokens: int, width: int, ffn: int) -> None:
    """Transformer layers in which every token sees every other."""
    for _ in range(layers):
        tally.norm(width)
        for _ in ("query", "key", "value", "out"):
            tally.linear(tokens, width, width)
        tally.attend(tokens, tokens, width)
        tally.norm(width)
        tally.linear(tokens, width, ffn)
        tally.linear(tokens, ffn, width)
