"""The data sheets: every figure has a source and a date, and none is a guess."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from tpubench.devices.precisions import PEAKS
from tpubench.devices.sheets import DeviceSheet, device, devices
from tpubench.errors import UsageError

ASKED = [
    *(f"tpu-{g}" for g in ("v2", "v3", "v4", "v5e", "v5p", "v6e", "v7")),
    "nvidia-a100-sxm-40gb",
    "nvidia-a100-sxm-80gb",
    "nvidia-a100-pcie-80gb",
    "nvidia-h100-sxm",
    "nvidia-h100-pcie",
    "nvidia-h100-nvl",
    "nvidia-h200-sxm",
    "nvidia-b200-sxm",
    "nvidia-b300-sxm",
    "nvidia-gb200",
    "nvidia-gb300",
    "nvidia-l4",
    "nvidia-l40s",
    "amd-mi300x",
    "amd-mi325x",
    "amd-mi355x",
]


@pytest.mark.parametrize("name", ASKED)
def test_every_promised_device_is_in_the_table(name: str) -> None:
    assert device(name).name == name


@pytest.mark.parametrize("entry", devices().values(), ids=lambda d: d.name)
def test_every_figure_is_plausible(entry: DeviceSheet) -> None:
    assert set(entry.peak_flop_s) <= set(PEAKS)
    numbers = [entry.hbm_bytes, entry.hbm_bytes_s, entry.interconnect_bytes_s, entry.tdp_w]
    for number in (*numbers, *entry.peak_flop_s.values()):
        assert number is None or (math.isfinite(number) and number > 0)
    assert all(1e12 < peak < 1e17 for peak in entry.peak_flop_s.values())
    assert 8e9 < entry.hbm_bytes < 1e12
    assert entry.devices_per_chip in {1, 2}
    assert dt.date(2017, 1, 1) <= entry.on_sale <= entry.figures["on_sale"].as_of


@pytest.mark.parametrize("entry", devices().values(), ids=lambda d: d.name)
def test_every_figure_has_its_own_source_and_date(entry: DeviceSheet) -> None:
    for name, figure in entry.figures.items():
        assert figure.source, name
        assert dt.date(2026, 1, 1) <= figure.as_of <= dt.date(2026, 11, 28), name
        assert figure.value is not None or figure.note, f"{name} is empty and nobody says why"


@pytest.mark.parametrize("entry", devices().values(), ids=lambda d: d.name)
def test_narrower_arithmetic_is_never_slower(entry: DeviceSheet) -> None:
    """But for Blackwell Ultra, which gave up its int8 units."""
    peaks = entry.peak_flop_s
    order = [name for name in ("float32", "tf32", "bfloat16", "fp8", "fp4") if name in peaks]
    assert [peaks[name] for name in order] == sorted(peaks[name] for name in order)


def test_float32_has_a_peak_with_and_without_tf32_on_nvidia_and_none_on_a_tpu() -> None:
    h100 = device("nvidia-h100-sxm")
    assert h100.peak("float32") == pytest.approx(67e12, rel=0.01)
    assert h100.peak_flop_s["tf32"] == pytest.approx(494.7e12)
    assert h100.most("float32") == h100.peak_flop_s["tf32"]
    v6e = device("tpu-v6e")
    assert v6e.peak("float32") is None
    assert v6e.most("float32") == v6e.peak_flop_s["bfloat16"]
    assert "bfloat16 pass" in v6e.figures["float32_tflop_s"].note


def test_without_units_for_a_precision_the_next_wider_one_counts() -> None:
    assert device("nvidia-a100-sxm-80gb").peak("fp4") == 312e12
    assert device("nvidia-h100-sxm").peak("fp4") == 1979e12
    assert device("tpu-v5e").peak("float16") == 197e12
    assert device("nvidia-h100-nvl").peak("fp8") is None


def test_a_peak_that_nobody_published_is_absent_rather_than_zero() -> None:
    assert "fp8" not in device("nvidia-a100-sxm-80gb").peak_flop_s
    assert device("tpu-v5e").tdp_w is None


def test_ironwood_chip_shows_as_two_devices() -> None:
    assert device("tpu-v7").devices_per_chip == 2
    assert device("tpu-v7").peak_flop_s["bfloat16"] == 2307e12


def test_a_name_of_several_devices_names_them_alone() -> None:
    with pytest.raises(UsageError, match=r"'H100' is several devices.*nvidia-h100-pcie") as raised:
        device("H100")
    assert "tpu" not in str(raised.value)


def test_unknown_device_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown device 'tpu-v99'.*tpu-v6e"):
        device("tpu-v99")
