"""Real faults, produced on a real device library and told as JSON: one line a scenario.

    python guards.py xla|tpu

Runs in the environment of the backend under test, which has no pytest. Each scenario is a fault
that the guards must catch, or the same program without it, which must pass.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch

from tpubench.suite import child, clock_check, prepared, registry
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job
from tpubench.suite.timing import Pace
from tpubench.suite.workload import (
    Case,
    Device,
    Laps,
    Mark,
    Parameter,
    Step,
    Weights,
    Work,
    Workload,
)

PACE = Pace(warm_up_s=0.05, window_s=0.2, most_warm_up_s=0.5, latency_s=0.0, min_passes=3)
phase: list[str] = [""]
"""The phases so far."""
windowed: list[int] = []
"""Passes since the window began."""
Body = Callable[[torch.nn.Module, torch.Tensor, int], torch.Tensor]


class ToyStep(Step):
    """A linear layer over a fixed input; ``body`` says what a pass does, and knows its number."""

    marks = ("pass",)

    def __init__(self, device: str, body: Body) -> None:
        self.module = torch.nn.Sequential(torch.nn.Linear(16, 16)).to(device)
        self.x = torch.ones(8, 16).to(device)
        self.body = body
        self.numbers: Iterator[int] = itertools.count()

    @torch.no_grad()
    def run(self, mark: Mark) -> None:
        self.y = self.body(self.module, self.x, next(self.numbers))
        mark(self.y)

    @torch.no_grad()
    def probe(self) -> torch.Tensor:
        return self.module(self.x).cpu()

    @torch.no_grad()
    def reference(self) -> torch.Tensor:
        layer = self.module[0]
        return torch.nn.functional.linear(self.x.cpu(), layer.weight.cpu(), layer.bias.cpu())


class RememberingStep(ToyStep):
    """A product that is done once for the same input; every pass after copies its result."""

    def __init__(self, device: str, remembers: bool) -> None:
        super().__init__(device, plain)
        width = 768
        self.module = torch.nn.Sequential(torch.nn.Linear(width, width)).to(device)
        self.x = torch.ones(width, width).to(device)
        self.remembers, self.at, self.known_at = remembers, 0, -1

    @torch.no_grad()
    def run(self, mark: Mark) -> None:
        if not self.remembers or self.at != self.known_at:
            self.kept, self.known_at = self.module(self.x), self.at
        self.y = self.kept * 1.0
        mark(self.y)

    @torch.no_grad()
    def vary(self, by: int) -> bool:
        self.x.add_(by)
        self.at += by
        return True


class Toy(Workload):
    name = "toy"
    version = 1
    summary = "a linear layer"
    presets: ClassVar = {"toy": "the only size"}
    parameters: ClassVar = {"dtype": Parameter(default="float32", choices=("float32",), doc="")}
    primary_metric = "step_time_s"
    body: Body
    remembers: bool | None = None

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        if self.remembers is not None:
            return RememberingStep(device.torch_device, self.remembers)
        return ToyStep(device.torch_device, self.body)

    def work(self, case: Case) -> Work:
        return Work(items=1, unit="pass", flops=1, bytes=1)

    def measure(self, case: Case, windows: Any) -> Laps:
        return Laps(samples={"step_time_s": windows["pass"].passes_s})


def plain(module: torch.nn.Module, x: torch.Tensor, number: int) -> torch.Tensor:
    return module(x)


def new_shape(module: torch.nn.Module, x: torch.Tensor, number: int) -> torch.Tensor:
    """Inside the window, and there alone, two shapes never seen before."""
    windowed.append(number)
    # The first passes of the phase only rehearse how its laps are put together.
    rows = max(1, min(len(windowed) - 3, 3)) if phase[-1] == "window" else 1
    return module(torch.cat([x] * rows))


def unread(module: torch.nn.Module, x: torch.Tensor, number: int) -> torch.Tensor:
    """Work whose result is dropped at once."""
    module(x)
    return x


def host_operator(module: torch.nn.Module, x: torch.Tensor, number: int) -> torch.Tensor:
    """An operator that XLA does not have."""
    return torch.linalg.eigvals(module(x)[:4, :4])


def note(name: str, expected_s: float | None) -> None:
    phase.append(name)
    windowed.clear()


def run(backend: str, mode: str, body: Body, remembers: bool | None = None) -> dict[str, Any]:
    toy = Toy()
    toy.remembers = remembers
    toy.body = staticmethod(body)
    registry.workloads()["toy"] = toy
    (case,) = toy.cases("toy", {})
    job = Job(
        backend=backend, compile_mode=mode, case=case, weights=Weights(), pace=PACE, repetition=0
    )
    try:
        outcome = child.execute(job, note)
    except RuntimeError as error:
        return {"status": "raised", "reason": str(error)}
    return {"status": outcome.status, "reason": outcome.reason}


def clock(backend: Backend, barrier: Callable[[], None] | None) -> dict[str, Any]:
    """The verdict on the backend's clock, with its barrier or with a weaker one."""
    device = backend.open(backend.compile_modes[0])
    if barrier is not None:
        backend.barrier = barrier  # type: ignore[method-assign]
    timings, fault = clock_check.check(backend, device)
    return {"fault": fault, "left_over": timings.left_over}


def precision(backend: Backend) -> dict[str, Any]:
    """Settings, outside and inside, and what torch_xla compiles inside for a product."""
    device = backend.open(backend.compile_modes[0]).torch_device
    x = torch.ones(4, 4).to(device)
    before = _setting(backend)
    with backend.exact_float32():
        inside, y = _setting(backend), x @ x
        program = _program(y) if backend.name == "xla" else "highest"
    return {"outside": [before, _setting(backend)], "inside": inside, "program": program}


def _setting(backend: Backend) -> str:
    if backend.name == "xla":
        from torch_xla import backends

        return str(backends.get_mat_mul_precision())
    return torch.get_float32_matmul_precision()


def _program(tensor: torch.Tensor) -> str:
    import torch_xla

    return str(torch_xla._XLAC._get_xla_tensors_hlo([tensor]))


def no_wait() -> None:
    """What looks like a barrier of torch_xla and is none: it waits for nothing on the device."""
    import torch_xla

    torch_xla.sync(wait=True)


def main(name: str) -> None:
    tries, prepared.TRIES = prepared.TRIES, 1  # each scenario's fault happens once
    backend = registry.backend(name)
    tell("clock", clock(backend, None))
    # TorchTPU's own synchronize waits; the fault of its early releases was to return at once.
    weak = no_wait if name == "xla" else lambda: None
    tell("clock without a wait", clock(backend, weak))
    del backend.barrier
    tell("exact float32", precision(backend))
    for mode in backend.compile_modes:
        tell(f"{mode}: plain", run(name, mode, plain))
        tell(f"{mode}: a new shape", run(name, mode, new_shape))
    once, prepared.TRIES = prepared.TRIES, tries  # but that of a device which remembers goes on
    for remembers in (False, True):
        told = f"a result that is {'remembered' if remembers else 'computed again'}"
        tell(told, run(name, backend.compile_modes[-1], plain, remembers))
    prepared.TRIES = once
    tell("work that nobody reads", run(name, backend.compile_modes[-1], unread))
    tell("an operator of the host", run(name, backend.compile_modes[-1], host_operator))


def tell(scenario: str, facts: dict[str, Any]) -> None:
    print(json.dumps({"scenario": scenario, **facts}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
