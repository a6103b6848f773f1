"""Energy, clocks and power limits of Nvidia GPUs, by the driver's own library (NVML)."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tpubench.suite.energy import Energy, PowerMeter, integrate

SAMPLE_EVERY_S = 0.05
"""Between two readings of the power, where the GPU has no energy counter."""
SHORTEST_S = 0.5
"""The counter and the power reading move some ten times a second: less is not a measurement."""
_SCOPE = "board"


def library() -> ModuleType | None:
    """NVML, ready to be asked; None where there is no driver or no ``nvidia-ml-py``."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    found: ModuleType = pynvml
    return found


def handles(nvml: ModuleType, uuids: Sequence[str]) -> list[Any]:
    """The GPUs of these UUIDs: by UUID, since CUDA and NVML may number them differently."""
    return [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]


def describe(nvml: ModuleType, handle: Any) -> dict[str, str | int | float | bool | None]:
    """Settings of one GPU that decide its speed; None for what it does not tell."""

    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(nvml, name)(handle, *arguments)
        except nvml.NVMLError:
            return None

    limit_mw = ask("nvmlDeviceGetPowerManagementLimit")
    return {
        "driver": str(nvml.nvmlSystemGetDriverVersion()),
        "power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "max_sm_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        "max_memory_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
        "mig": bool((ask("nvmlDeviceGetMigMode") or [0])[0]),
    }


class BoardMeter(PowerMeter):
    """Energy of the boards held: their own counters, or their power, sampled and integrated."""

    def __init__(self, nvml: ModuleType, held: Sequence[Any]) -> None:
        self._nvml, self._held = nvml, list(held)
        self._began_s = 0.0
        self._counted_mj: list[int] | None = None
        self._times_s: list[float] = []
        self._watts: list[float] = []
        self._stopped = threading.Event()
        self._sampler: threading.Thread | None = None
        self._lost: str | None = None

    def start(self) -> None:
        self._began_s = time.monotonic()
        try:
            self._counted_mj = self._counters_mj()
        except self._nvml.NVMLError:  # before Volta
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()

    def stop(self) -> Energy:
        lasted_s = time.monotonic() - self._began_s
        method = "energy counter" if self._counted_mj is not None else "power, integrated"
        joules: float | None = None
        reason: str | None = None
        try:
            if self._counted_mj is not None:
                ended = self._counters_mj()
                pairs = zip(self._counted_mj, ended, strict=True)
                joules = sum(after - before for before, after in pairs) / 1000
            else:
                joules = self._sampled_j()
        except self._nvml.NVMLError as error:
            reason = f"NVML: {error}"
        if self._lost:
            joules, reason = None, f"NVML: {self._lost}"
        if joules is not None and lasted_s < SHORTEST_S:
            joules, reason = None, f"a window of {lasted_s:.2g} s is too short to tell the energy"
        return Energy(joules=joules, scope=_SCOPE, method=method, reason=reason)

    def _counters_mj(self) -> list[int]:
        """Millijoules since the driver was loaded, of each board."""
        return [self._nvml.nvmlDeviceGetTotalEnergyConsumption(board) for board in self._held]

    def _sample(self) -> None:
        while not self._stopped.is_set():
            try:
                milliwatts = [self._nvml.nvmlDeviceGetPowerUsage(board) for board in self._held]
            except self._nvml.NVMLError as error:
                self._lost = str(error)
                return
            self._times_s.append(time.monotonic())
            self._watts.append(sum(milliwatts) / 1000)
            self._stopped.wait(SAMPLE_EVERY_S)

    def _sampled_j(self) -> float:
        assert self._sampler is not None
        self._stopped.set()
        self._sampler.join()
        return integrate(self._times_s, self._watts)
