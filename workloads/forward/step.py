"""A model and its batch on the device, and the same model as a program to export."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from tpubench.suite.workload import Case, Device, Mark, Program, Step
from tpubench.workloads._bound import Bound
from tpubench.workloads.forward import Forward, Input, Tally
from tpubench.workloads.forward.weights import filled


class ForwardStep(Step):
    """One pass: the whole batch through the model."""

    marks = ("forward",)

    def __init__(self, workload: Forward, case: Case, device: Device) -> None:
        dtype: torch.dtype = getattr(torch, case.dtype)
        self.below = [one.below for one in workload.inputs(case)]
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
        self.apply: Callable[[], Tensor] = lambda: self.model(*self.inputs)

    def to_capture(self) -> torch.nn.Module:
        self.apply = bound = Bound(self.model, *self.inputs)
        return bound

    @torch.no_grad()
    def run(self, mark: Mark) -> None:
        self.y = self.apply()
        mark(self.y)

    @torch.no_grad()
    def vary(self, by: int) -> bool:
        """Numbers moved on by so many places; identifiers by so much, among those that there are.

        Not where each place has identifiers of its own, as rows of tables: which rows lie in a
        cache is a matter of the batch.
        """
        if any(not isinstance(below, int | None) for below in self.below):
            return False
        for held, below in zip(self.inputs, self.below, strict=True):
            held.copy_(_moved(held, by, below))
        return True

    @torch.no_grad()
    def move_on(self, first: list[Tensor]) -> None:
        """Each sample one place further, and ``first`` in front, in the memory there is."""
        for held, new in zip(self.inputs, first, strict=True):
            held.copy_(torch.cat([new.to(held.device, held.dtype), held[:-1]]))


def _moved(held: Tensor, by: int, below: object) -> Tensor:
    if below is None:
        return held.reshape(-1).roll(by).view_as(held)
    assert isinstance(below, int)
    return (held + by) % below


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What torch counts of one sample without computing anything."""

    tally: Tally
    outputs: int


@contextlib.contextmanager
def unallocated() -> Iterator[None]:
    """Inside it tensors of the host have a shape and no memory, and attention is counted as the two
    products that it is."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what it cannot run is an error besides
    try:
        # Whatever device the caller has in hand is not asked.
        with _disable_current_modes(), FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        log.setLevel(level)


def bring_to_host(module: nn.Module) -> None:
    """Give a module on the meta device parameters and buffers without values; ties stay."""
    held: dict[Tensor, Tensor] = {}
    for owner in module.modules():
        for kept in (owner._parameters, owner._buffers):
            for name, tensor in kept.items():
                if tensor is None:
                    continue
                if tensor not in held:
                    value = torch.empty(tensor.shape, dtype=tensor.dtype)
                    trained = tensor.requires_grad
                    held[tensor] = (
                        nn.Parameter(value, trained) if kept is owner._parameters else value
                    )
                kept[name] = held[tensor]  # type: ignore[assignment]


def empty(inputs: Sequence[Input], batch: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """A batch without values, where torch's default device is."""
    return tuple(
        torch.empty((batch, *one.shape), dtype=dtype if one.below is None else torch.int64)
        for one in inputs
    )


_counted: dict[tuple[type[Forward], str], Counted] = {}


def counted(workload: Forward, case: Case) -> Counted:
    """FLOPs by torch's counter, weights as the module has them, and numbers returned.

    Embedding tables count as looked up once for each whole number that is given.
    """
    one = replace(case, params={**case.params, "batch": 1})
    key = type(workload), one.key
    if key not in _counted:
        dtype: torch.dtype = getattr(torch, case.dtype)
        with torch.device("meta"):
            module = workload.module(one).eval().to(dtype)
        with unallocated(), torch.no_grad():
            bring_to_host(module)
            inputs = empty(workload.inputs(one), 1, dtype)
            with FlopCounterMode(display=False) as counter:
                result = module(*inputs)
        tables = [m for m in module.modules() if isinstance(m, torch.nn.Embedding)]
        held = sum(table.weight.numel() for table in tables)
        ids = sum(tensor.numel() for tensor in inputs if not tensor.is_floating_point())
        width = max((table.embedding_dim for table in tables), default=0)
        _counted[key] = Counted(
            tally=Tally(
                flops=counter.get_total_flops(),
                read=sum(p.numel() for p in module.parameters()) - held,
                tables=held,
                looked_up=ids * width,
            ),
            outputs=result.numel(),
        )
    return _counted[key]


def program(workload: Forward, case: Case) -> Program:
    """The model and its inputs without memory; each device has its share of the batch."""
    dtype: torch.dtype = getattr(torch, case.dtype)
    with torch.device("meta"):
        module = Batch(workload.module(case).eval().requires_grad_(False).to(dtype))
        inputs = empty(workload.inputs(case), case.number("batch"), dtype)
    cut = {f"inputs_{index}": 0 for index in range(len(inputs))}
    return Program(module=module, inputs=inputs, split=cut, result=0)


class Batch(torch.nn.Module):
    """A model under names of inputs that are the same for all."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Tensor = self.model(*inputs)
        return result
