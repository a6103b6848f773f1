"""``hbm``: how fast memory can be read, copied and combined, the other limit of a device.

Sizes are chosen beyond the caches. Bytes are those a kernel must move (STREAM's counting,
McCalpin 1995): read n, copy 2n, triad 3n; a CPU's write-allocate traffic is not added.
"""

from __future__ import annotations

from collections.abc import Mapping
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

_TRAFFIC = {"read": 1, "copy": 2, "triad": 3}
_MIB = 2**20


class Hbm(Workload):
    """Read, copy and triad over arrays larger than any cache."""

    name = "hbm"
    version = 2
    summary = "memory read, copy and triad: the bandwidth limit"
    presets: ClassVar[Mapping[str, str]] = {
        "standard": "read, copy, triad; 256 and 1024 MiB on a CPU, 1 and 4 GiB on an accelerator",
        "read": "sum of an array",
        "copy": "one array to another",
        "triad": "a = b + s·c",
    }
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "kernel": Parameter(default="read", choices=tuple(_TRAFFIC), doc="read, copy or triad"),
        "mib": Parameter(default=256, minimum=1, doc="size of each array, MiB"),
        "steps": Parameter(default=1, minimum=1, doc="kernels a pass"),
        "dtype": Parameter(default="float32", choices=tuple(DTYPES), doc="element type"),
    }
    primary_metric = "bandwidth_bytes_s"
    fractions: ClassVar[Mapping[str, str]] = {"mbu": "pass"}

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        kernels = tuple(_TRAFFIC) if preset == "standard" else (preset,)
        sizes = (1024, 4096) if accelerator else (256, 1024)
        return [{"kernel": kernel, "mib": mib} for kernel in kernels for mib in sizes]

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        return _build(case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        return lambda: _checked(case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        return {"kernel": Phase(runs=case.number("steps"))}

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        del phase, depth
        return _program(case, chips)

    def work(self, case: Case) -> Work:
        steps, kernel = case.number("steps"), str(case.params["kernel"])
        size = case.number("mib") * _MIB
        elements = size // DTYPES[case.dtype]
        flops = {"read": elements, "copy": 0, "triad": 2 * elements}[kernel]
        return Work(
            items=steps, unit="kernel", flops=flops * steps, bytes=_TRAFFIC[kernel] * size * steps
        )

    def memory_bytes(self, case: Case) -> int:
        arrays = 3 if case.params["kernel"] == "triad" else 2
        return arrays * case.number("mib") * _MIB

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        steps, work = case.number("steps"), self.work(case)
        pass_s = windows["pass"].passes_s
        return Laps(
            samples={
                "step_time_s": [t / steps for t in pass_s],
                "bandwidth_bytes_s": [work.bytes / t for t in pass_s],
            }
        )


def _build(case: Case, device: Device) -> Step:
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    kernel, steps = str(case.params["kernel"]), case.number("steps")
    elements = case.number("mib") * _MIB // DTYPES[case.dtype]

    class HbmStep(Step):
        marks = ("kernel",)

        def __init__(self) -> None:
            # Small whole numbers repeat, so that a sum of bfloat16 values has an exact answer.
            pattern = torch.arange(_CYCLE, dtype=dtype).repeat(elements // _CYCLE + 1)[:elements]
            self.source = pattern.to(device.torch_device)
            self.target = torch.zeros_like(self.source)
            self.addend = self.source.clone() if kernel == "triad" else self.source
            self.total = torch.zeros((), device=device.torch_device)

        def _kernel(self) -> None:
            if kernel == "read":
                self.total = self.source.sum(dtype=torch.float32)
            elif kernel == "copy":
                self.target.copy_(self.source)
            else:
                torch.add(self.addend, self.source, alpha=3.0, out=self.target)

        @torch.no_grad()
        def run(self, mark: Mark) -> None:
            for _ in range(steps):
                self._kernel()
                self.flush()
            mark(self.total if kernel == "read" else self.target)

        def output(self) -> Tensor:
            """What the last kernel gave, on the device: the sum, or the array it wrote."""
            return self.total if kernel == "read" else self.target

        @torch.no_grad()
        def vary(self, by: int) -> bool:
            """Add to what is read, and wipe what was written: nothing old may pass for new."""
            self.source.add_(by)
            if kernel == "triad":
                self.addend.add_(by)
            self.target.zero_()
            return True

    return HbmStep()


_CYCLE = 7
_SUM_TOLERANCE = 1e-4
"""Float32 partial sums of whole numbers; correct: 1e-7 where a device adds in a tree."""


def _checked(case: Case, step: Any, means: Means) -> list[Parity]:
    """Every element that the last timed pass left, then those of one more pass on other values."""
    checks = []
    for name, by in (("window", 0), ("other values", 1)):
        if by:
            step.vary(by)
            step.run(lambda *_: None)
        means.flush()
        means.barrier()
        checks.append(_compared(case, name, step.output(), by))
    step.vary(-1)
    return checks


def _compared(case: Case, name: str, output: Tensor, by: int) -> Parity:
    """by: what was added to every element of the arrays that are read."""
    import torch

    given = output.to("cpu")
    cycle = torch.arange(_CYCLE) + by
    if case.params["kernel"] == "read":
        elements = case.number("mib") * _MIB // DTYPES[case.dtype]
        cycles, rest = divmod(elements, _CYCLE)
        total = cycles * int(cycle.sum()) + int(cycle[:rest].sum())
        return Parity(
            name=name,
            error=abs(float(given) / total - 1),
            tolerance=_SUM_TOLERANCE,
            what="relative error of the sum",
        )
    wanted = (cycle * (1 if case.params["kernel"] == "copy" else 4)).to(given.dtype)
    whole = len(given) // _CYCLE * _CYCLE
    wrong = int((given[:whole].view(-1, _CYCLE) != wanted).sum())
    wrong += int((given[whole:] != wanted[: len(given) - whole]).sum())
    return Parity(
        name=name, error=wrong / len(given), tolerance=0.0, what="share of elements that are wrong"
    )


def _program(case: Case, chips: int) -> Program:
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    elements = case.number("mib") * _MIB // DTYPES[case.dtype]

    if elements % chips:
        raise UsageError(f"{elements} elements do not divide among {chips} devices")

    def array() -> Tensor:
        return torch.empty(elements, dtype=dtype, device="meta")

    class Read(torch.nn.Module):
        def forward(self, source: Tensor) -> Tensor:
            return source.sum(dtype=torch.float32)

    class Copy(torch.nn.Module):
        def forward(self, source: Tensor) -> Tensor:
            return source.clone()

    class Triad(torch.nn.Module):
        def forward(self, addend: Tensor, source: Tensor) -> Tensor:
            return torch.add(addend, source, alpha=3.0)

    kernels = {
        "read": (Read(), (array(),)),
        "copy": (Copy(), (array(),)),
        "triad": (Triad(), (array(), array())),
    }
    kernel = str(case.params["kernel"])
    module, inputs = kernels[kernel]
    # Each chip its part of every array; only a sum has a result that is whole on all.
    return Program(
        module=module,
        inputs=inputs,
        split={"source": 0, "addend": 0},
        result=None if kernel == "read" else 0,
    )
