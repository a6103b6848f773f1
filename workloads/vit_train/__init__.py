"""``vit-train``: a training step of a Vision Transformer for image classification.

The model of ``vit-l16`` forward and backward, cross-entropy, and AdamW as Dosovitskiy et al. (2021,
arXiv:2010.11929, table 3) take Adam: a weight decay of 0.3 and β₂ of 0.999.

    tpubench run --workload vit-train --set batch=32,128
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case
from tpubench.workloads.forward import Input, size
from tpubench.workloads.forward.training import Training
from tpubench.workloads.vit import VitL16

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class VitTrain(Training, VitL16):
    """Training steps of a Vision Transformer, large, patches of 16."""

    name = "vit-train"
    version = 1
    summary = "image classification: a training step of ViT-L/16, AdamW"
    batches: ClassVar = {"*": (32, 128)}

    def targets(self, case: Case) -> Sequence[Input]:
        return [Input(shape=(), below=size(case, "classes"))]

    def optimizer(self, named: Sequence[tuple[str, nn.Parameter]]) -> Optimizer:
        from tpubench.workloads.llama_pretrain.reference import AdamWSettings
        from tpubench.workloads.llama_pretrain.step import adamw

        settings = AdamWSettings(lr=1e-4, beta2=0.999, weight_decay=0.3)
        return adamw((parameter for _, parameter in named), settings)
