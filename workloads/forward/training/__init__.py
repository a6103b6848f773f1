"""What every workload that trains a model shares: forward, a loss, backward and an optimizer.

A model is a subclass of :class:`Training`, here or in anybody's package (docs/add-your-own.md): a
:class:`~tpubench.workloads.forward.Forward` that also says what is right, and by what loss and
optimizer it is learnt. Weights, gradients and the optimizer's state are float32; the arithmetic is
in ``dtype`` by ``torch.autocast``, as PyTorch programs have it. Every step has the same batch, so
that it is learnt by heart and a step that does nothing shows. Nothing is dropped out, since no two
devices draw alike; batch norms are as in training.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Device,
    Means,
    Phase,
    Program,
    Step,
    UsageError,
    Weights,
    Work,
)
from tpubench.workloads.forward import Forward, Input

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

_FLOAT32_BYTES = DTYPES["float32"]


class Training(Forward):
    """Training steps of a model on a batch, again and again."""

    trains = True
    gradient_cap: ClassVar[float] = 0.25
    """The most that the worst gradient may err, relative to float32, whatever a run as written in
    the precision of the case does. A deep network of ReLUs needs more: where rounding turns a
    unit's sign, its whole gradient comes or goes."""

    @abstractmethod
    def targets(self, case: Case) -> Sequence[Input]:
        """What is right for one sample; drawn as inputs are, and given to :meth:`loss`."""

    def loss(self, output: Tensor, *targets: Tensor) -> Tensor:
        """A scalar from what the module returned, float32, and what is right: [batch, …] each.

        The default is the mean cross-entropy of scores [batch, classes, …] and class numbers.
        """
        from torch.nn.functional import cross_entropy

        (right,) = targets
        return cross_entropy(output, right)

    def optimizer(self, named: Sequence[tuple[str, nn.Parameter]]) -> Optimizer:
        """What moves the weights, by ``step()`` alone.

        Called for the weights on the device, and again for elements of them on the host, which is
        how it is checked; for whole weights where it does not move every element by itself. The
        default is AdamW with a rate of 1e-4, in the form that suits the device.
        """
        from tpubench.workloads.llama_pretrain.reference import AdamWSettings
        from tpubench.workloads.llama_pretrain.step import adamw

        return adamw((parameter for _, parameter in named), AdamWSettings(lr=1e-4))

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if accelerator and preset != "tiny":
            return super().standard(preset, accelerator)
        return [{"batch": 8 if preset == "tiny" else 2}]

    def twin(self, case: Case) -> Case:
        """Of more than two samples: over two, a batch norm is one sign a channel."""
        small = super().twin(case)
        return replace(small, params={**small.params, "batch": 8})

    def begin(self, model: nn.Module) -> None:
        """Change drawn weights in place, where a model is known to begin otherwise."""

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        self.require()
        from tpubench.workloads.forward.training.step import TrainingStep

        return TrainingStep(self, case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        from tpubench.workloads.forward.training.parity import checks

        return checks(self, case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        """None: a step is not exported for the TPU compiler yet."""
        del case
        return {}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del case, phase, depth, chips
        raise UsageError(f"{self.name} has no program for the TPU compiler yet: run it on a device")

    def work(self, case: Case) -> Work:
        """FLOPs as torch counts them, forward and backward, on tensors without memory.

        Bytes: every weight is read forward and backward; its gradient, itself and what the
        optimizer keeps of it are written and read once in float32; and what comes in.
        """
        from tpubench.workloads.forward.training.step import counted_step

        counted, batch = counted_step(self, case), case.number("batch")
        kept = 2 + counted.moments
        return Work(
            items=batch,
            unit=self.unit,
            flops=batch * counted.flops,
            bytes=round(counted.weights * (2 * DTYPES[case.dtype] + 2 * kept * _FLOAT32_BYTES))
            + batch * self._given_bytes(case),
        )

    def memory_bytes(self, case: Case) -> int:
        """Weights, gradients and what the optimizer keeps; what a pass holds until its backward is
        not known beforehand."""
        from tpubench.workloads.forward.training.step import counted_step

        counted = counted_step(self, case)
        held = round(counted.weights * (2 + counted.moments) * _FLOAT32_BYTES)
        return held + case.number("batch") * self._given_bytes(case)

    def _given_bytes(self, case: Case) -> int:
        return sum(one.bytes("float32") for one in (*self.inputs(case), *self.targets(case)))
