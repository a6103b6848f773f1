"""Energy, clocks and power limits of Nvidia GPUs, by the driver's own library (NVML)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tpubench.suite.energy import POWER_BRAKE, POWER_CAP, THERMAL, Energy, PowerMeter, integrate

SAMPLE_EVERY_S = 0.05
"""Between two readings of the power, where the GPU has no energy counter."""
SHORTEST_S = 2.0
"""The counter and the power reading move some ten times a second: each end of the window is off by
up to 0.1 s of power, which is 10 % of 2 s at the very worst, and 40 % of half a second."""
_MOST_OF_THE_LIMIT = 1.2
"""How much of its power limit a board may draw on average over a window: the limit is held within
tenths of a second, and the counter's ends are off by as much."""
_LEAST_OF_NOW = 0.2
"""How much less than at its end a window may have drawn on average; idle boards draw that much."""
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
    module: ModuleType = pynvml
    return module


def gpus(nvml: Any) -> list[tuple[str, str]]:
    """Name and UUID of every GPU, in the order of the bus; empty for what is not told."""
    listed = []
    for index in range(_ask(nvml, "nvmlDeviceGetCount") or 0):
        handle = _ask(nvml, "nvmlDeviceGetHandleByIndex", index)
        words = (
            _ask(nvml, name, handle) if handle is not None else None
            for name in ("nvmlDeviceGetName", "nvmlDeviceGetUUID")
        )
        name, uuid = (word or "" for word in words)
        listed.append((name, uuid))
    return listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One device as NVML knows it. handle: None where it does not know it."""

    handle: Any = None
    mig: bool = False
    """Whether the device is a slice of a GPU, so that the board's joules are not its own."""


def board(nvml: Any, uuid: str) -> Board:
    """The board of a CUDA device: by UUID, since CUDA and NVML may number them differently.

    uuid: as torch gives it, without what NVML writes in front: ``GPU-``, or ``MIG-`` for a slice.
    """
    for prefix in ("GPU-", "MIG-"):
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(prefix + uuid.removeprefix(prefix))
        except nvml.NVMLError:
            continue
        return Board(handle=handle, mig=prefix == "MIG-" or _cut_up(nvml, handle))
    return Board()


def _cut_up(nvml: Any, handle: Any) -> bool:
    """Whether MIG is on: then what a process holds is a slice, whatever its UUID says."""
    return bool((_ask(nvml, "nvmlDeviceGetMigMode", handle) or [0])[0])


def exclusive(nvml: Any, uuids: Sequence[str]) -> bool:
    """Whether one of these GPUs admits one process at a time; unknown ones count as shared."""
    boards = [board(nvml, uuid.lower().removeprefix("gpu-")).handle for uuid in uuids]
    modes = [_ask(nvml, "nvmlDeviceGetComputeMode", one) for one in boards if one is not None]
    return any(
        mode in (nvml.NVML_COMPUTEMODE_EXCLUSIVE_THREAD, nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS)
        for mode in modes
    )


def _watts(milliwatts: float | None) -> str:
    return "an unknown power" if milliwatts is None else f"{milliwatts / 1000:.3g} W"


def _ask(nvml: Any, name: str, *arguments: Any) -> Any:
    """None where the driver lacks the function, refuses it, or answers with what is no text."""
    try:
        return getattr(nvml, name)(*arguments)
    except (nvml.NVMLError, UnicodeDecodeError):
        return None


def describe(nvml: ModuleType, handle: Any) -> dict[str, str | int | float | bool | None]:
    """Settings of one GPU that decide its speed; None for what it does not tell."""
    limit_mw = _ask(nvml, "nvmlDeviceGetPowerManagementLimit", handle)
    return {
        "driver": _ask(nvml, "nvmlSystemGetDriverVersion"),
        "power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "max_sm_clock_mhz": _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        "max_memory_clock_mhz": _ask(
            nvml, "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM
        ),
        "mig": _cut_up(nvml, handle),
    }


_CAUSES = {74: POWER_CAP, 75: THERMAL, 269: THERMAL, 270: THERMAL, 271: POWER_BRAKE}
"""NVML's field ids, each a counter of nanoseconds for which the clocks were held back: the policy
counters of older drivers (74, 75), and the clock event reasons: software thermal (269), hardware
thermal (270), hardware power brake (271). nvml.h; 74 is also the software power cap."""


def held_back_ns(nvml: Any, handle: Any) -> dict[int, int]:
    """Nanoseconds since the driver was loaded, by field; without those the GPU does not count."""
    try:
        values = nvml.nvmlDeviceGetFieldValues(handle, list(_CAUSES))
    except nvml.NVMLError:
        return {}
    return {v.fieldId: int(v.value.ullVal) for v in values if v.nvmlReturn == nvml.NVML_SUCCESS}


def slowed_s(before: Mapping[int, int], after: Mapping[int, int]) -> dict[str, float]:
    """Seconds between two readings, by cause; of counters of one cause the largest."""
    seconds: dict[str, float] = {}
    for field, ended in after.items():
        if field in before:
            cause = _CAUSES[field]
            seconds[cause] = max(seconds.get(cause, 0.0), (ended - before[field]) / 1e9)
    return seconds


def state(nvml: Any, handle: Any) -> dict[str, float | None]:
    """Clocks, power and temperature now."""
    milliwatts = _ask(nvml, "nvmlDeviceGetPowerUsage", handle)
    return {
        "sm_clock_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": _ask(nvml, "nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "power_w": None if milliwatts is None else milliwatts / 1000,
        "temperature_c": _ask(nvml, "nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
        "event_reasons": _ask(nvml, "nvmlDeviceGetCurrentClocksEventReasons", handle),
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
        self._held_back_ns: list[dict[int, int]] = []

    def start(self) -> None:
        self._held_back_ns = [held_back_ns(self._nvml, board) for board in self._held]
        self._began_s = time.monotonic()
        try:
            self._counted_mj = self._counters_mj()
        except self._nvml.NVMLError:  # before Volta
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()

    def stop(self) -> Energy:
        lasted_s = time.monotonic() - self._began_s
        at_end = state(self._nvml, self._held[0])
        method = "energy counter" if self._counted_mj is not None else "power, integrated"
        joules: float | None = None
        reason: str | None = None
        try:
            if self._counted_mj is not None:
                ended = self._counters_mj()
                drawn_j = [
                    (after - before) / 1000
                    for before, after in zip(self._counted_mj, ended, strict=True)
                ]
                joules, reason = sum(drawn_j), self._implausible(drawn_j, lasted_s)
            else:
                joules = self._sampled_j()
        except self._nvml.NVMLError as error:
            reason = f"NVML: {error}"
        if self._lost:
            joules, reason = None, f"NVML: {self._lost}"
        if joules is not None and lasted_s < SHORTEST_S:
            joules, reason = None, f"a window of {lasted_s:.2g} s is too short to tell the energy"
        joules = joules if reason is None else None
        return Energy(
            joules=joules,
            scope=_SCOPE,
            method=method,
            reason=reason,
            slowed_s=self._slowed_s(),
            at_end=at_end,
        )

    def _implausible(self, drawn_j: Sequence[float], lasted_s: float) -> str | None:
        """Why no board can have drawn so much or so little, going by its limit and its power now.

        A counter that was reset, stands still or counts in another unit.
        """
        for board, joules in zip(self._held, drawn_j, strict=True):
            limit_mw = _ask(self._nvml, "nvmlDeviceGetPowerManagementLimit", board)
            now_mw = _ask(self._nvml, "nvmlDeviceGetPowerUsage", board)
            most_w = math.inf if limit_mw is None else _MOST_OF_THE_LIMIT * limit_mw / 1000
            least_w = 0.0 if now_mw is None else _LEAST_OF_NOW * now_mw / 1000
            watts = joules / lasted_s
            if joules <= 0 or not least_w <= watts <= most_w:
                return (
                    f"the energy counter says {watts:.3g} W on average, where the board draws"
                    f" {_watts(now_mw)} now and {_watts(limit_mw)} at most"
                )
        return None

    def _slowed_s(self) -> dict[str, float]:
        longest: dict[str, float] = {}
        for board, before in zip(self._held, self._held_back_ns, strict=True):
            for cause, seconds in slowed_s(before, held_back_ns(self._nvml, board)).items():
                longest[cause] = max(longest.get(cause, 0.0), seconds)
        return longest

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
