"""The device table: sourced figures, canonical names, slice sizes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies

from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.sheets import PRECISIONS, device, devices
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
def test_every_figure_has_a_source_and_is_plausible(entry) -> None:
    assert entry.source
    assert set(entry.peak_flop_s) <= set(PRECISIONS)
    numbers = [entry.hbm_bytes, entry.hbm_bytes_s, entry.interconnect_bytes_s, entry.tdp_w]
    for number in (*numbers, *entry.peak_flop_s.values()):
        assert number is None or (math.isfinite(number) and number > 0)
    assert all(1e12 < peak < 1e17 for peak in entry.peak_flop_s.values())
    assert 8e9 < entry.hbm_bytes < 1e12
    assert entry.devices_per_chip in {1, 2}


def test_a_peak_that_nobody_published_is_absent_rather_than_zero() -> None:
    assert "fp8" not in device("nvidia-a100-sxm-80gb").peak_flop_s
    assert device("tpu-v5e").tdp_w is None


def test_ironwood_chip_shows_as_two_devices() -> None:
    assert device("tpu-v7").devices_per_chip == 2
    assert device("tpu-v7").peak_flop_s["bfloat16"] == 2307e12


def test_unknown_device_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown device 'tpu-v99'.*tpu-v6e"):
        device("tpu-v99")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("TPU v6 lite", "tpu-v6e"),
        ("TPU v6e (Trillium)", "tpu-v6e"),
        ("v6e-8", "tpu-v6e"),
        ("TPU v5 lite", "tpu-v5e"),
        ("v5litepod-16", "tpu-v5e"),
        ("tpu-v5-lite-podslice", "tpu-v5e"),
        ("tpu-v5p-8", "tpu-v5p"),
        ("TPU v5p", "tpu-v5p"),
        ("tpu-v2-pod", "tpu-v2"),
        ("TPU v4", "tpu-v4"),
        ("TPU7x", "tpu-v7"),
        ("TPU v7x (Ironwood)", "tpu-v7"),
        ("Ironwood", "tpu-v7"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-sxm"),
        ("H100-MEGA", "nvidia-h100-sxm"),
        ("NVIDIA H100 PCIe", "nvidia-h100-pcie"),
        ("NVIDIA H100 NVL", "nvidia-h100-nvl"),
        ("NVIDIA A100-SXM4-40GB", "nvidia-a100-sxm-40gb"),
        ("A100-SXM4-80GB", "nvidia-a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", "nvidia-a100-pcie-80gb"),
        ("NVIDIA H200", "nvidia-h200-sxm"),
        ("NVIDIA B200", "nvidia-b200-sxm"),
        ("NVIDIA B300 SXM6 AC", "nvidia-b300-sxm"),
        ("NVIDIA GB200", "nvidia-gb200"),
        ("NVIDIA GB300 (NVL72)", "nvidia-gb300"),
        ("NVIDIA L4", "nvidia-l4"),
        ("NVIDIA L40S", "nvidia-l40s"),
        ("AMD Instinct MI300X", "amd-mi300x"),
        ("MI355X", "amd-mi355x"),
    ],
)
def test_names_of_drivers_and_catalogues_become_canonical(raw: str, name: str) -> None:
    assert canonical(raw) == name


@pytest.mark.parametrize(
    "raw", ["H100", "A100", "TPU", "TPU v5", "L40", "H200 NVL", "H20", "A10", "", "4", "gpu"]
)
def test_a_name_that_leaves_the_variant_open_is_not_guessed(raw: str) -> None:
    assert canonical(raw) is None


@pytest.mark.parametrize("name", ASKED)
def test_a_canonical_name_is_its_own_canonical_name(name: str) -> None:
    assert canonical(name) == name


@given(strategies.text())
def test_any_text_is_a_known_device_or_none(raw: str) -> None:
    name = canonical(raw)
    assert name is None or name in devices()


@pytest.mark.parametrize(
    ("name", "chips"),
    [
        ("tpu-v5p-8", 4),
        ("v4-8", 4),
        ("v3-32", 16),
        ("v5e-8", 8),
        ("v5litepod-16", 16),
        ("v6e-256", 256),
        ("v5p-7", None),
        ("v6e-0", None),
        ("tpu7x-8", None),
        ("h100", None),
    ],
)
def test_slice_names_count_cores_or_chips(name: str, chips: int | None) -> None:
    assert chips_in_slice(name) == chips
