"""``h2d``: how fast the host's memory reaches the device's, and back.

What a program pays to be fed: batches, checkpoints, weights that do not fit. Bytes are those that
cross once, in one direction. Page-locked (``pinned``) memory lets a GPU fetch by itself; without it
the driver copies twice. On a backend whose device is the host, it is a copy within memory.

    tpubench run --workload h2d --preset pinned
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
    Step,
    Timed,
    UsageError,
    Weights,
    Work,
    Workload,
)

if TYPE_CHECKING:
    from torch import Tensor

_DIRECTIONS = ("to-device", "to-host")
_MIB = 2**20


class HostToDevice(Workload):
    """Copies between the host and the device."""

    name = "h2d"
    version = 1
    summary = "host to device and back: the bandwidth that feeds a device"
    presets: ClassVar[Mapping[str, str]] = {
        "pageable": "ordinary host memory, both directions; 64 MiB on a CPU, 16 and 1024 elsewhere",
        "pinned": "page-locked host memory (CUDA), both directions",
    }
    parameters: ClassVar[Mapping[str, Parameter]] = {
        "direction": Parameter(default="to-device", choices=_DIRECTIONS, doc="which way"),
        "memory": Parameter(
            default="pageable", choices=("pageable", "pinned"), doc="kind of host memory"
        ),
        "mib": Parameter(default=64, minimum=1, doc="size of a copy, MiB"),
        "steps": Parameter(default=1, minimum=1, doc="copies a pass"),
        "dtype": Parameter(default="float32", choices=tuple(DTYPES), doc="element type"),
    }
    primary_metric = "transfer_bytes_s"

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        return [
            {"direction": direction, "memory": preset, "mib": mib}
            for direction in _DIRECTIONS
            for mib in ((16, 1024) if accelerator else (64,))
        ]

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        return _build(case, device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        return lambda: _checked(step, means)

    def work(self, case: Case) -> Work:
        steps = case.number("steps")
        return Work(items=steps, unit="copy", flops=0, bytes=case.number("mib") * _MIB * steps)

    def memory_bytes(self, case: Case) -> int:
        return case.number("mib") * _MIB

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        steps, work = case.number("steps"), self.work(case)
        pass_s = windows["pass"].passes_s
        return Laps(
            samples={
                "step_time_s": [t / steps for t in pass_s],
                "transfer_bytes_s": [work.bytes / t for t in pass_s],
            }
        )


_CYCLE = 7
"""Whole numbers that repeat, exact in every precision; a multiple of no power of two."""


def _build(case: Case, device: Device) -> Step:
    import torch

    dtype: torch.dtype = getattr(torch, case.dtype)
    steps, pinned = case.number("steps"), case.params["memory"] == "pinned"
    elements = case.number("mib") * _MIB // DTYPES[case.dtype]
    if pinned and not device.torch_device.startswith("cuda"):
        raise UsageError(
            f"h2d: {device.torch_device} has no page-locked memory: take --preset pageable"
        )

    class CopyStep(Step):
        marks = ("copy",)

        def __init__(self) -> None:
            pattern = torch.arange(_CYCLE, dtype=dtype).repeat(elements // _CYCLE + 1)[:elements]
            host = torch.empty(elements, dtype=dtype, pin_memory=pinned)
            there = torch.zeros(elements, dtype=dtype, device=device.torch_device)
            forth = case.params["direction"] == "to-device"
            self.source, self.target = (host, there) if forth else (there, host)
            self.there = there
            self.source.copy_(pattern)
            self.target.zero_()

        def _copy(self) -> None:
            # Only page-locked memory can be copied behind the host's back.
            self.target.copy_(self.source, non_blocking=pinned)

        @torch.no_grad()
        def run(self, mark: Mark) -> None:
            for _ in range(steps):
                self._copy()
                self.flush()
            mark(self.there)

        @torch.no_grad()
        def spoil(self, by: int) -> None:
            """Add to what is copied, and wipe the copy: nothing old may pass for new.

            No other inputs for the clock: a copy would wait for what makes them.
            """
            self.source.add_(by)
            self.target.zero_()

    return CopyStep()


def _checked(step: Any, means: Means) -> list[Parity]:
    """Every element that the last timed pass left, then those of one more pass of other values."""
    checks = []
    for name, by in (("window", 0), ("other values", 1)):
        if by:
            step.spoil(by)
            means.barrier()
            step.run(lambda *_: None)
        means.flush()
        means.barrier()
        checks.append(_compared(name, step.target.to("cpu"), by))
    step.spoil(-1)
    return checks


def _compared(name: str, given: Tensor, by: int) -> Parity:
    import torch

    wanted = (torch.arange(_CYCLE) + by).to(given.dtype)
    whole = len(given) // _CYCLE * _CYCLE
    wrong = int((given[:whole].view(-1, _CYCLE) != wanted).sum())
    wrong += int((given[whole:] != wanted[: len(given) - whole]).sum())
    return Parity(
        name=name, error=wrong / len(given), tolerance=0.0, what="share of elements that are wrong"
    )
