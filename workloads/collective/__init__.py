"""``collective``: what several chips take to exchange an array, by operation and size.

Sizes are those of nccl-tests: the whole array, of which a rank of n holds or ends with 1/n in an
all-gather, a reduce-scatter and an all-to-all. So are the two rates (github.com/NVIDIA/nccl-tests,
doc/PERFORMANCE.md): the algorithm's is size ÷ time; the bus's multiplies it by the share of the
array that each rank must send, and can be held against a link.

    tpubench run --workload collective --chips 8 --preset all-reduce
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Device,
    Laps,
    Mark,
    Means,
    Parameter,
    Parity,
    Phase,
    Program,
    Step,
    Timed,
    UsageError,
    Weights,
    Work,
    Workload,
)

if TYPE_CHECKING:
    from torch import Tensor

_OPERATIONS = {
    "all-reduce": "every rank has an array; all end with the sum",
    "all-gather": "every rank has a part; all end with the whole",
    "reduce-scatter": "every rank has an array; each ends with its part of the sum",
    "all-to-all": "every rank has a part for each other one",
}
_REDUCES = {"all-reduce", "reduce-scatter"}
_SIZES_KIB = {True: (1, 64, 1024, 16 * 1024, 256 * 1024, 1024 * 1024), False: (1, 64, 1024, 16384)}
"""On accelerators and on a CPU, whose ranks share its memory."""


class Collective(Workload):
    """One operation over all ranks, again and again."""

    name = "collective"
    version = 1
    summary = "all-reduce, all-gather, reduce-scatter and all-to-all over several chips"
    presets: ClassVar[Mapping[str, str]] = {
        "standard": "all four, 1 KiB to 1 GiB on accelerators, to 16 MiB on a CPU",
        **_OPERATIONS,
    }
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "operation": Parameter(default="all-reduce", choices=tuple(_OPERATIONS), doc="which"),
        "kib": Parameter(default=1024, minimum=1, doc="size of the whole array, KiB"),
        "steps": Parameter(default=1, minimum=1, doc="operations a pass"),
        "dtype": Parameter(default="float32", choices=tuple(DTYPES), doc="element type"),
        "ranks": Parameter(default=1, minimum=1, doc="devices that take part: --chips sets it"),
    }
    parallelism = "ranks"
    primary_metric = "algorithm_bytes_s"

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        operations = tuple(_OPERATIONS) if preset == "standard" else (preset,)
        return [
            {"operation": operation, "kib": kib}
            for operation in operations
            for kib in _SIZES_KIB[accelerator]
        ]

    def on_devices(self, case: Case, devices: int) -> Case:
        if case.number("ranks") not in (1, devices):
            raise UsageError(
                f"ranks={case.number('ranks')}, but {devices} take part: leave it to --chips"
            )
        case = replace(case, params={**case.params, "ranks": devices})
        self.validate(case)
        return case

    def validate(self, case: Case) -> None:
        ranks, elements = case.number("ranks"), _elements(case)
        if elements % ranks:
            raise UsageError(
                f"kib={case.number('kib')}: {elements} elements do not divide among {ranks} ranks"
            )

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        if device.ranks != case.number("ranks"):
            raise UsageError(
                "collective needs a process for each device: this backend spreads a program from"
                " one, and its exchanges are part of the program"
            )
        return _build(case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        return lambda: _checked(case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        return {str(case.params["operation"]): Phase(runs=case.number("steps"))}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del phase, depth
        return _program(case, chips)

    def work(self, case: Case) -> Work:
        """Of all ranks together: what each reads and writes of its own memory, and the sums."""
        ranks, steps, size = case.number("ranks"), case.number("steps"), case.number("kib") * 1024
        whole = {"all-reduce": 2 * ranks, "all-to-all": 2 * ranks}
        held = whole.get(str(case.params["operation"]), ranks + 1) * size
        sums = (ranks - 1) * _elements(case) if case.params["operation"] in _REDUCES else 0
        return Work(items=steps, unit="operation", flops=sums * steps, bytes=held * steps)

    def memory_bytes(self, case: Case) -> int:
        return self.work(case).bytes // case.number("steps")

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        steps, ranks = case.number("steps"), case.number("ranks")
        step_s = [t / steps for t in windows["pass"].passes_s]
        rate = [case.number("kib") * 1024 / t for t in step_s]
        samples = {"step_time_s": step_s, "algorithm_bytes_s": rate}
        if ranks == 1:
            alone = "one rank sends nothing: give --chips 2 or more"
            return Laps(samples=samples, missing={"bus_bytes_s": alone})
        share = sent_share(str(case.params["operation"]), ranks)
        return Laps(samples={**samples, "bus_bytes_s": [value * share for value in rate]})


def sent_share(operation: str, ranks: int) -> float:
    """Part of the array that each rank must send, by nccl-tests' doc/PERFORMANCE.md."""
    return (2 if operation == "all-reduce" else 1) * (ranks - 1) / ranks


def _elements(case: Case) -> int:
    return case.number("kib") * 1024 // DTYPES[case.dtype]


def _build(case: Case, device: Device) -> Step:
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    steps, operation = case.number("steps"), str(case.params["operation"])

    class CollectiveStep(Step):
        marks = (operation,)

        def __init__(self) -> None:
            self.x = held(case, device.rank, 0).to(device.torch_device, dtype)
            result = expected(case, device.rank, 0)
            # NCCL's own way to sum is in place; one rank's copy needs another place.
            alone = operation != "all-reduce" or device.ranks == 1
            self.y = torch.zeros(len(result), dtype=dtype, device=device.torch_device)
            self.y = self.y if alone else self.x

        def _exchange(self) -> None:
            exchange(operation, self.x, self.y, device.ranks)

        @torch.no_grad()
        def run(self, mark: Mark) -> None:
            self.times(steps)
            mark(self.y)

        @torch.no_grad()
        def times(self, operations: int) -> None:
            for _ in range(operations):
                self._exchange()
                self.flush()

        @torch.no_grad()
        def fill(self, variant: int) -> None:
            """Other values to exchange, and none of them where they are to arrive."""
            self.y.zero_()
            self.x.copy_(held(case, device.rank, variant))

    return CollectiveStep()


def exchange(operation: str, x: Tensor, y: Tensor, ranks: int) -> None:
    """One operation from ``x`` to ``y``, which are the same memory in an all-reduce."""
    import torch.distributed as dist

    if ranks == 1:
        y.copy_(x)
    elif operation == "all-reduce":
        dist.all_reduce(y)
    elif operation == "all-gather":
        _named("all_gather_single", "all_gather_into_tensor")(y, x)
    elif operation == "reduce-scatter":
        _named("reduce_scatter_single", "reduce_scatter_tensor")(y, x)
    else:
        dist.all_to_all_single(y, x)


def _named(now: str, before: str) -> Callable[[Tensor, Tensor], object]:
    """torch 2.13 warns of the names by which torch to 2.12 alone knows two operations."""
    import torch.distributed as dist

    function: Callable[[Tensor, Tensor], object] = getattr(dist, now, None) or getattr(dist, before)
    return function


_CYCLE = 7
_WIDE = {"float32": 16381, "bfloat16": 127, "float16": 31}
"""Whole numbers of the other values, by the precision that they fill: one that is sent in less does
not arrive. Sums stay in range, and exact in float32 up to 44 ranks."""


def _weight(rank: int, ranks: int, variant: int) -> int:
    """What a rank's array is multiplied by. In a window sums are zero, or adding up in place, pass
    after pass, would leave the range of numbers; a rank that is left out still shows."""
    if variant:
        return rank + 1
    if ranks % 2 and rank >= ranks - 3:
        return (1, 1, -2)[rank - ranks] if ranks > 1 else 1
    return 1 - 2 * (rank % 2)


def _pattern(elements: int, variant: int, dtype: str) -> Tensor:
    import torch

    place = torch.arange(elements)
    if not variant:
        return (place % _CYCLE).float()
    return (place * 101 % _WIDE[dtype] + 1).float()


def _addressed(count: int, source: int, to: int, variant: int, dtype: str) -> Tensor:
    """What one rank has for another: whole numbers that tell both."""
    return (_pattern(count, variant, dtype) + 3 * source + to) % max(127, _WIDE[dtype])


def held(case: Case, rank: int, variant: int) -> Tensor:
    """What a rank brings, float32: whole numbers that are exact in the precision of the case."""
    import torch

    ranks, elements = case.number("ranks"), _elements(case)
    operation, part = case.params["operation"], elements // ranks
    if operation in _REDUCES:
        return _pattern(elements, variant, case.dtype) * _weight(rank, ranks, variant)
    if operation == "all-gather":
        return _addressed(part, rank, 0, variant, case.dtype)
    return torch.cat([_addressed(part, rank, to, variant, case.dtype) for to in range(ranks)])


def expected(case: Case, rank: int, variant: int) -> Tensor:
    """What a rank must end with, float32, from the definition of the operation."""
    import torch

    ranks, elements = case.number("ranks"), _elements(case)
    operation, part = case.params["operation"], elements // ranks
    if operation in _REDUCES:
        total = sum(_weight(one, ranks, variant) for one in range(ranks))
        whole = _pattern(elements, variant, case.dtype) * total
        return whole if operation == "all-reduce" else whole[rank * part : (rank + 1) * part]
    to = 0 if operation == "all-gather" else rank
    return torch.cat([_addressed(part, source, to, variant, case.dtype) for source in range(ranks)])


_TOLERANCE = {"float32": 1e-6, "bfloat16": 1.6e-2, "float16": 2e-3}
"""Rounding sums of up to ``_RANKS`` in that precision: each sum on the way is rounded, so that of
more the error grows as their root. Float32 is exact up to 44 ranks."""
_RANKS = 64


def _checked(case: Case, step: Any, means: Means) -> list[Parity]:
    """Every element on every rank as the window left it, then after one exchange of others."""
    checks = []
    for name, variant in (("window", 0), ("other values", 1)):
        if variant:
            step.fill(variant)
            means.barrier()
            step.times(1)  # a sum in place would grow with each
        means.flush()
        means.barrier()
        wanted = expected(case, means.device.rank, variant)
        error = (step.y.to("cpu").float() - wanted).abs().max() / wanted.abs().max().clamp_min(1)
        checks.append(
            Parity(
                name=name,
                error=_of_all_ranks(float(error), means),
                tolerance=_TOLERANCE[case.dtype] * max(1.0, case.number("ranks") / _RANKS) ** 0.5,
                what="error of the worst element of any rank, as a share of the largest",
            )
        )
    step.fill(0)
    return checks


def _of_all_ranks(error: float, means: Means) -> float:
    import math

    import torch
    import torch.distributed as dist

    if means.device.ranks == 1:
        return error
    worst = math.inf if math.isnan(error) else error
    errors = torch.tensor([worst], device=means.device.torch_device)
    dist.all_reduce(errors, op=dist.ReduceOp.MAX)
    return float(errors.cpu()[0])


def _program(case: Case, chips: int) -> Program:
    """As XLA is told it: where an array lies before and after, from which the exchange follows."""
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    operation, elements = str(case.params["operation"]), _elements(case)
    if chips == 1 or elements % chips:
        raise UsageError(f"{elements} elements do not divide among {chips} chips: two at least")

    class Exchange(torch.nn.Module):
        def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.change = change

        def forward(self, source: Tensor) -> Tensor:
            return self.change(source)

    def summed(source: Tensor) -> Tensor:
        return source.sum(dim=0)

    changes: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...], int | None]] = {
        "all-reduce": (summed, (chips, elements), None),
        "reduce-scatter": (summed, (chips, elements), 0),
        "all-gather": (torch.clone, (elements,), None),
        "all-to-all": (torch.clone, (chips, elements), 1),
    }
    change, shape, result = changes[operation]
    return Program(
        module=Exchange(change),
        inputs=(torch.empty(shape, dtype=dtype, device="meta"),),
        split={"source": 0},
        result=result,
    )
