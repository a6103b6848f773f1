"""A model, its loss and its optimizer on the device, and one step of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import Case, Device, Mark, Step
from tpubench.workloads.forward.step import bring_to_host, drawn, empty, unallocated
from tpubench.workloads.forward.training import Training
from tpubench.workloads.forward.weights import filled

_BATCH_NORM = nn.modules.batchnorm._BatchNorm


class Scored(nn.Module):
    """From a batch and what is right to the loss: what is compiled."""

    def __init__(self, workload: Training, case: Case, model: nn.Module) -> None:
        super().__init__()
        self.model, self.loss, self.taken = model, workload.loss, len(workload.inputs(case))
        self.dtype: torch.dtype = getattr(torch, case.dtype)

    def forward(self, *given: Tensor) -> Tensor:
        """given: inputs, and then what is right."""
        inputs, targets = given[: self.taken], given[self.taken :]
        if self.dtype is torch.float32:
            return self.loss(self.model(*inputs), *targets)
        with torch.autocast(given[0].device.type, self.dtype):
            output = self.model(*inputs)
        return self.loss(output.float(), *targets)


class TrainingStep(Step):
    """Forward, backward and the optimizer on one batch, the same at each step."""

    marks = ("step",)
    trains = True

    def __init__(self, workload: Training, case: Case, device: Device) -> None:
        self.workload, self.case, self.device = workload, case, device
        self.given_on_host = drawn_batch(workload, case)
        self.given = tuple(one.to(device.torch_device) for one in self.given_on_host)
        self.model = initial_model(workload, case, device.torch_device)
        self.module = Scored(workload, case, self.model)
        self.optimizer = workload.optimizer(list(self.model.named_parameters()))
        self.optimizer.register_step_post_hook(self._count)
        self.whole = not moves_each_by_itself(workload)
        self.losses: list[Tensor] = []
        """Loss of each pass, on the device."""
        self.updates = 0
        """Steps that the optimizer has taken."""

    def _count(self, *_: Any) -> None:
        self.updates += 1

    def run(self, mark: Mark) -> None:
        loss = self.loss_and_gradients()
        self.losses.append(loss)
        self.update()
        mark(loss)

    def loss_and_gradients(self) -> Tensor:
        """The loss; gradients are left in the parameters."""
        assert self.module is not None
        loss: Tensor = self.module(*self.given)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach().clone()  # the next replay writes into its own

    def update(self) -> None:
        """One step of the optimizer; no gradient is left."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def start_again(self) -> None:
        """Weights, statistics and the optimizer as they were before the first step, in place."""
        first = initial_model(self.workload, self.case, self.device.torch_device)
        for held, value in zip(_values(self.model), _values(first), strict=True):
            held.copy_(value)
        for state in self.optimizer.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        self.losses, self.updates = [], 0
        self.barrier()


def _values(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


def drawn_batch(workload: Training, case: Case) -> list[Tensor]:
    """Inputs and what is right, float32 or whole numbers, on the CPU."""
    batch, seed = case.number("batch"), case.number("seed")
    inputs = drawn(workload.inputs(case), batch, seed, torch.float32)
    return [*inputs, *drawn(workload.targets(case), batch, seed + 1, torch.float32)]


def initial_model(workload: Training, case: Case, device: str) -> nn.Module:
    """The model with its first weights, float32, as it is trained."""
    seed = case.number("seed")
    model = filled(lambda: workload.module(case), seed, device, torch.float32)
    with torch.no_grad():
        workload.begin(model)
    return trained(model)


def trained(model: nn.Module) -> nn.Module:
    """The same, every weight to be learnt: batch norms as in training, nothing dropped out."""
    model.eval().requires_grad_()
    for module in model.modules():
        if isinstance(module, _BATCH_NORM):
            module.train()
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedStep:
    """What torch counts of a step without computing anything.

    flops: of one sample, forward and backward. moments: values that the optimizer keeps of each
    weight.
    """

    flops: int
    weights: int
    moments: float


_counted: dict[tuple[type[Training], str], CountedStep] = {}
_SAMPLES = 2
"""A batch norm cannot train on one value."""


def counted_step(workload: Training, case: Case) -> CountedStep:
    """Of a step of ``case``; FLOPs a sample do not depend on its batch."""
    few = replace(case, params={**case.params, "batch": _SAMPLES, "dtype": "float32"})
    key = type(workload), few.key
    if key not in _counted:
        with torch.device("meta"):
            model = trained(workload.module(few))
        with unallocated():
            bring_to_host(model)
            given = empty((*workload.inputs(few), *workload.targets(few)), _SAMPLES, torch.float32)
            with FlopCounterMode(display=False) as counter:
                loss: Tensor = Scored(workload, few, model)(*given)
                loss.backward()  # type: ignore[no-untyped-call]
        _counted[key] = CountedStep(
            flops=counter.get_total_flops() // _SAMPLES,
            weights=sum(parameter.numel() for parameter in model.parameters()),
            moments=_moments(workload),
        )
    return _counted[key]


def _moments(workload: Training) -> float:
    """Values that the optimizer keeps of each element of a weight once it has moved it."""
    with _disable_current_modes():
        weight = nn.Parameter(torch.zeros(64, 64))
        weight.grad = torch.ones(64, 64)
        optimizer = workload.optimizer([("weight", weight)])
        optimizer.step()
        state: dict[str, object] = optimizer.state[weight]
        kept = sum(v.numel() for v in state.values() if isinstance(v, Tensor) and v.ndim)
    return kept / weight.numel()


def moves_each_by_itself(workload: Training) -> bool:
    """Whether the optimizer makes of an element what it makes of it alone: seen on two steps."""
    with _disable_current_modes():
        generator = torch.Generator().manual_seed(0)
        start, *gradients = torch.randn(3, 6, 8, generator=generator, dtype=torch.float64)
        try:
            whole = _moved(workload, start, gradients)
            some = _moved(
                workload, start.flatten()[::3], [gradient.flatten()[::3] for gradient in gradients]
            )
        except (RuntimeError, ValueError):
            return False  # takes matrices alone
        return torch.allclose(whole.flatten()[::3], some, rtol=1e-6, atol=1e-9)


def _moved(workload: Training, start: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    weight = nn.Parameter(start.clone())
    optimizer = workload.optimizer([("weight", weight)])
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()
