"""``resnet50``: image classification with a residual convolutional network, from transformers.

He et al., 2016 (arXiv:1512.03385), in the form of MLPerf's reference ("v1.5"): the 3 × 3
convolution of a block halves the image, not the 1 × 1 before it. Batch norms are as when serving.

    tpubench run --workload resnet50 --set batch=1,64,256
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case
from tpubench.workloads.forward import Forward, Input, Needs, Tally, size, sizes

if TYPE_CHECKING:
    from torch import nn


class Resnet50(Forward):
    """ResNet-50 v1.5."""

    name = "resnet50"
    version = 1
    summary = "image classification: ResNet-50 v1.5, forward"
    unit = "image"
    needs = Needs(modules=("transformers",), extra="vision")
    presets: ClassVar[Mapping[str, str]] = {
        "resnet50": "16 blocks, 224 × 224 pixels: 25.6 M parameters",
        "tiny": "3 blocks, 32 × 32 pixels",
    }
    shapes: ClassVar = {
        "resnet50": {
            "pixels": 224, "stem": 64, "widths": (256, 512, 1024, 2048), "blocks": (3, 4, 6, 3),
            "classes": 1000,
        },
        "tiny": {"pixels": 32, "stem": 8, "widths": (16, 32), "blocks": (1, 2), "classes": 10},
    }  # fmt: skip
    batches: ClassVar = {"*": (1, 8, 64, 256)}

    def module(self, case: Case) -> nn.Module:
        from tpubench.workloads.forward.library import Plain, library, logits

        transformers = library("transformers")

        config = transformers.ResNetConfig(
            embedding_size=size(case, "stem"),
            hidden_sizes=sizes(case, "widths"),
            depths=sizes(case, "blocks"),
            layer_type="bottleneck",
            num_labels=size(case, "classes"),
        )
        return Plain(transformers.ResNetForImageClassification(config), logits)

    def inputs(self, case: Case) -> Sequence[Input]:
        return [Input(shape=(3, size(case, "pixels"), size(case, "pixels")))]

    def outputs(self, case: Case) -> int:
        return size(case, "classes")

    def tally(self, case: Case) -> Tally:
        """A batch norm also holds a mean and a variance, which no optimizer would change."""
        tally, stem = Tally(), size(case, "stem")

        def conv(side: int, channels: int, out: int, kernel: int) -> None:
            tally.conv(side, channels, out, kernel, bias=False)
            tally.norm(out)

        side = size(case, "pixels") // 2
        conv(side, 3, stem, 7)
        side, width = side // 2, stem
        for stage, (out, blocks) in enumerate(
            zip(sizes(case, "widths"), sizes(case, "blocks"), strict=True)
        ):
            for block in range(blocks):
                halves = stage > 0 and block == 0
                before, side = side, side // 2 if halves else side
                conv(before, width, out // 4, 1)
                conv(side, out // 4, out // 4, 3)
                conv(side, out // 4, out, 1)
                if block == 0 and (halves or width != out):
                    conv(side, width, out, 1)
                width = out
        tally.linear(1, width, size(case, "classes"))
        return tally
