"""``hbm``: how fast memory can be read, copied and combined, the other limit of a device.

Sizes are chosen beyond the caches. Bytes are those a kernel must move (STREAM's counting,
McCalpin 1995): read n, copy 2n, triad 3n; a CPU's write-allocate traffic is not added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Device,
    Laps,
    Mark,
    Parameter,
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
            pattern = torch.arange(7, dtype=dtype).repeat(elements // 7 + 1)[:elements]
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

        @torch.no_grad()
        def probe(self) -> Tensor:
            self.target.zero_()
            self._kernel()
            if kernel == "read":
                return self.total.to("cpu", torch.float32).reshape(1)
            return self.target[:: max(1, elements // 4096)].to("cpu", torch.float32)

        @torch.no_grad()
        def reference(self) -> Tensor:
            source = self.source.to("cpu", torch.float64)
            if kernel == "read":
                return source.sum().reshape(1).float()
            sample = source[:: max(1, elements // 4096)]
            return (sample if kernel == "copy" else sample * 4.0).float()

    return HbmStep()


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
