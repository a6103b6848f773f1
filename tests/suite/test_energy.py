"""Joules: the integral against closed forms, and the meter over a scripted NVML.

No GPU is at hand: NVML itself is scripted here, at the calls that the meter makes. What it shows is
the arithmetic and the reasons, not that a GPU answers so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from tpubench.suite import facts
from tpubench.suite.backends import _nvml
from tpubench.suite.energy import Energy, integrate, slowdown
from tpubench.suite.job import Outcome
from tpubench.suite.workload import Timed, Work


def test_constant_power_gives_power_times_time() -> None:
    assert integrate([0.0, 0.1, 2.0], [300.0, 300.0, 300.0]) == pytest.approx(600.0)


def test_a_ramp_is_exact_at_uneven_times() -> None:
    times = [0.0, 0.3, 1.0, 4.0]
    assert integrate(times, [100 + 50 * t for t in times]) == pytest.approx(100 * 4 + 25 * 16)


def test_a_sine_converges_with_the_square_of_the_step() -> None:
    def error(steps: int) -> float:
        times = [math.pi * i / steps for i in range(steps + 1)]
        return abs(integrate(times, [math.sin(t) for t in times]) - 2.0)

    assert error(200) == pytest.approx(error(100) / 4, rel=1e-3)


def test_one_sample_has_no_energy() -> None:
    assert integrate([1.0], [300.0]) == 0.0


class NVMLError(Exception):
    pass


def scripted(
    counters_mj: Iterator[int] | None,
    milliwatts: int = 300_000,
    limit_mw: int = 700_000,
    held_back_ns: Iterator[dict[int, int]] | None = None,
) -> Any:
    def total(board: str) -> int:
        if counters_mj is None:
            raise NVMLError("Not Supported")
        return next(counters_mj)

    def field_values(board: str, fields: list[int]) -> list[pynvml.c_nvmlFieldValue_t]:
        known = {} if held_back_ns is None else next(held_back_ns)
        values = []
        for field in fields:
            value = pynvml.c_nvmlFieldValue_t(fieldId=field)
            value.nvmlReturn = (
                pynvml.NVML_SUCCESS if field in known else pynvml.NVML_ERROR_NOT_SUPPORTED
            )
            value.value.ullVal = known.get(field, 0)
            values.append(value)
        return values

    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_SUCCESS=pynvml.NVML_SUCCESS,
        NVML_CLOCK_SM=pynvml.NVML_CLOCK_SM,
        NVML_CLOCK_MEM=pynvml.NVML_CLOCK_MEM,
        NVML_TEMPERATURE_GPU=pynvml.NVML_TEMPERATURE_GPU,
        nvmlDeviceGetFieldValues=field_values,
        nvmlDeviceGetClockInfo=lambda board, clock: 1755 if clock == pynvml.NVML_CLOCK_SM else 2619,
        nvmlDeviceGetTemperature=lambda board, sensor: 61,
        nvmlDeviceGetCurrentClocksEventReasons=lambda board: 4,
        nvmlDeviceGetTotalEnergyConsumption=total,
        nvmlDeviceGetPowerUsage=lambda board: milliwatts,
        nvmlDeviceGetPowerManagementLimit=lambda board: limit_mw,
    )


def clock(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """The meter's clock: the given times, then the last one for ever."""
    ticks = itertools.chain(seconds, itertools.repeat(seconds[-1]))
    monkeypatch.setattr(_nvml, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


def test_the_counters_of_all_boards_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 0.0, 2.0)
    meter = _nvml.BoardMeter(scripted(iter([1000, 5000, 601_000, 705_000])), ["a", "b"])
    meter.start()
    energy = meter.stop()
    assert energy.joules == pytest.approx(600 + 700)
    assert (energy.scope, energy.method) == ("board", "energy counter")


def test_without_a_counter_the_power_is_integrated(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, sampled = [0.0], []

    def monotonic() -> float:
        sampled.append(None)
        ended[0] += 0.25
        return ended[0]

    monkeypatch.setattr(_nvml, "time", SimpleNamespace(monotonic=monotonic))
    monkeypatch.setattr(_nvml, "SAMPLE_EVERY_S", 0.001)
    meter = _nvml.BoardMeter(scripted(None), ["a", "b"])
    meter.start()
    while len(sampled) < 20:
        meter._stopped.wait(0.001)
    energy = meter.stop()
    times = meter._times_s
    assert energy.joules == pytest.approx(600.0 * (times[-1] - times[0]))
    assert energy.method == "power, integrated"


def test_a_short_window_has_a_reason_in_place_of_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 0.0, 1.5)  # the counter moves ten times a second: 13 % either way
    meter = _nvml.BoardMeter(scripted(iter([0, 30_000])), ["a"])
    meter.start()
    energy = meter.stop()
    assert energy.joules is None
    assert "too short" in str(energy.reason)


@pytest.mark.parametrize(
    ("after_mj", "joules"),
    [
        (600_000, 600.0),
        (1_600_000, 1600.0),
        (1_700_000, None),  # 850 W on average, of a board that is held to 700
        (600, None),  # joules in place of millijoules
        (0, None),  # it stands still
        (-50_000_000, None),  # the driver was loaded again, or it wrapped
    ],
)
def test_a_counter_that_says_what_no_board_can_draw_gives_a_reason(
    monkeypatch: pytest.MonkeyPatch, after_mj: int, joules: float | None
) -> None:
    clock(monkeypatch, 0.0, 2.0)
    began = 90_000_000
    meter = _nvml.BoardMeter(scripted(iter([began, began + after_mj])), ["a"])
    meter.start()
    energy = meter.stop()
    assert energy.joules == (None if joules is None else pytest.approx(joules))
    if joules is None:
        assert "the energy counter says" in str(energy.reason)


def test_of_two_boards_neither_hides_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 0.0, 2.0)
    meter = _nvml.BoardMeter(scripted(iter([0, 9000, 1_200_000, 9000])), ["a", "b"])
    meter.start()
    assert meter.stop().joules is None


def test_a_gpu_that_stops_answering_has_no_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    clock(monkeypatch, 0.0, 2.0)

    def lost(board: str) -> int:
        raise NVMLError("GPU is lost")

    nvml = scripted(iter([0]))
    meter = _nvml.BoardMeter(nvml, ["a"])
    meter.start()
    nvml.nvmlDeviceGetTotalEnergyConsumption = lost
    energy = meter.stop()
    assert (energy.joules, energy.reason) == (None, "NVML: GPU is lost")


def test_joules_are_shared_by_the_tokens_of_all_passes() -> None:
    work = Work(items=50, unit="token", flops=0, bytes=0)
    energy = {"joules": 600.0, "scope": "board", "method": "energy counter", "reason": None}
    samples: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    outcome = Outcome(
        status="ok",
        device="nvidia-h100-sxm",
        windows={
            "pass": Timed(
                marks=("pass",), laps_s=[[1.0], [1.0]], wall_s=2.0, passes=2, how="host clock"
            )
        },
        energy=energy,
    )
    facts._add_energy(samples, missing, work, outcome)
    assert (samples, missing) == ({"joules_per_token": [6.0]}, {})


def test_a_tpu_reports_no_power() -> None:
    missing: dict[str, str] = {}
    work = Work(items=50, unit="token", flops=0, bytes=0)
    facts._add_energy({}, missing, work, Outcome(status="ok", device="tpu-v6e"))
    assert missing == {"joules_per_token": "tpu-v6e reports no power"}


POWER, POLICY_THERMAL, SW_THERMAL, HW_THERMAL, BRAKE = 74, 75, 269, 270, 271


def test_the_fields_are_those_of_the_drivers_own_header() -> None:
    names = ("SW_POWER_CAP", "SW_THERM_SLOWDOWN", "HW_THERM_SLOWDOWN", "HW_POWER_BRAKE_SLOWDOWN")
    fields = [getattr(pynvml, f"NVML_FI_DEV_CLOCKS_EVENT_REASON_{name}") for name in names]
    assert fields == [POWER, SW_THERMAL, HW_THERMAL, BRAKE]
    assert pynvml.NVML_FI_DEV_PERF_POLICY_THERMAL == POLICY_THERMAL


def held_back(
    monkeypatch: pytest.MonkeyPatch, before: dict[int, int], after: dict[int, int]
) -> Energy:
    clock(monkeypatch, 0.0, 2.0)
    nvml = scripted(iter([0, 1_000_000]), held_back_ns=iter([before, after]))
    meter = _nvml.BoardMeter(nvml, ["a"])
    meter.start()
    return meter.stop()


def test_a_power_cap_is_context_and_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 10**9
    energy = held_back(monkeypatch, {POWER: 7 * second}, {POWER: 9 * second})
    assert energy.slowed_s == {"power cap": 2.0}
    assert slowdown(energy, 2.0) is None


@pytest.mark.parametrize("field", [POLICY_THERMAL, SW_THERMAL, HW_THERMAL])
def test_any_counter_of_heat_marks_the_row(monkeypatch: pytest.MonkeyPatch, field: int) -> None:
    before = {POLICY_THERMAL: 5, SW_THERMAL: 5, HW_THERMAL: 5}
    energy = held_back(monkeypatch, before, {**before, field: 500_000_005})
    assert slowdown(energy, 2.0) == "thermal slowdown for 0.5 s of 2 s"


def test_a_counter_that_stands_still_marks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = {SW_THERMAL: 10**12, BRAKE: 10**10}  # since the driver was loaded, long ago
    assert slowdown(held_back(monkeypatch, ended, ended), 2.0) is None


def test_a_gpu_that_counts_nothing_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    energy = held_back(monkeypatch, {}, {})
    assert (energy.slowed_s, energy.joules) == ({}, 1000.0)


def test_clocks_power_and_heat_are_those_at_the_end_of_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert held_back(monkeypatch, {}, {}).at_end == {
        "sm_clock_mhz": 1755,
        "memory_clock_mhz": 2619,
        "power_w": 300.0,
        "temperature_c": 61,
        "event_reasons": 4,
    }
