"""A model and its batch on the device, and the same model as a program to export."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Device, Mark, Program, Step
from tpubench.workloads._forward import Forward, Input
from tpubench.workloads._forward.weights import filled


class ForwardStep(Step):
    """One pass: the whole batch through the model."""

    marks = ("forward",)

    def __init__(self, workload: Forward, case: Case, device: Device) -> None:
        dtype: torch.dtype = getattr(torch, case.dtype)
        self.inputs = tuple(
            one.to(device.torch_device)
            for one in drawn(
                workload.inputs(case), case.number("batch"), case.number("seed"), dtype
            )
        )
        self.y = torch.empty(0)
        self.model = filled(
            lambda: workload.module(case), case.number("seed"), device.torch_device, dtype
        )
        self.module = self.model

    @torch.no_grad()
    def run(self, mark: Mark) -> None:
        self.y = self.model(*self.inputs)
        mark(self.y)

    @torch.no_grad()
    def move_on(self, first: list[Tensor]) -> None:
        """Each sample one place further, and ``first`` in front, in the memory there is."""
        for held, new in zip(self.inputs, first, strict=True):
            held.copy_(torch.cat([new.to(held.device, held.dtype), held[:-1]]))


def drawn(inputs: Sequence[Input], batch: int, seed: int, dtype: torch.dtype) -> list[Tensor]:
    """A batch of random inputs, on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for one in inputs:
        shape = (batch, *one.shape)
        if one.below is None:
            tensors.append(torch.randn(shape, generator=generator).to(dtype))
        elif isinstance(one.below, int):
            tensors.append(torch.randint(one.below, shape, generator=generator))
        else:
            limits = torch.tensor(one.below)
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
            tensors.append((uniform * limits).long().clamp_max(limits - 1))
    return tensors


def program(workload: Forward, case: Case) -> Program:
    """The model and its inputs without memory."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    with torch.device("meta"):
        module = workload.module(case).eval().to(dtype)
        inputs = tuple(
            torch.empty(
                (case.number("batch"), *one.shape),
                dtype=dtype if one.below is None else torch.int64,
            )
            for one in workload.inputs(case)
        )
    return Program(module=module, inputs=inputs)
