"""``resnet50-train``: a training step of ResNet-50 for image classification.

The model of ``resnet50`` forward and backward, its batch norms over the batch, cross-entropy, and
SGD as He et al. (2016, arXiv:1512.03385, section 3.4) take it: a rate of 0.1, a momentum of 0.9 and
a weight decay of 1e-4.

    tpubench run --workload resnet50-train --set batch=64,256
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import Case
from tpubench.workloads.forward import Input, size
from tpubench.workloads.forward.training import Training
from tpubench.workloads.resnet50 import Resnet50

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


class Resnet50Train(Training, Resnet50):
    """Training steps of ResNet-50 v1.5."""

    name = "resnet50-train"
    version = 1
    summary = "image classification: a training step of ResNet-50 v1.5, SGD"
    batches: ClassVar = {"*": (64, 256)}

    gradient_cap = 0.75

    def begin(self, model: nn.Module) -> None:
        """Each block's last batch norm begins at a fifth: training begins it at nothing (Goyal et
        al., 2017, arXiv:1706.02677, section 5.1). At one, a gradient in bfloat16 has nothing to do
        with that in float32: of 8 random images it errs by 1.2."""
        for name, parameter in model.named_parameters():
            if name.endswith("layer.2.normalization.weight"):
                parameter.mul_(0.2)

    def targets(self, case: Case) -> Sequence[Input]:
        return [Input(shape=(), below=size(case, "classes"))]

    def optimizer(self, named: Sequence[tuple[str, nn.Parameter]]) -> Optimizer:
        from torch.optim import SGD

        weights = [parameter for _, parameter in named]
        fused = weights[0].device.type in {"cpu", "cuda"}
        return SGD(weights, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=fused)
