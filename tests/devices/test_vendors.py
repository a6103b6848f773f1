"""Whose a device is, and how it is written for people."""

from __future__ import annotations

import pytest

from tpubench.devices.sheets import devices
from tpubench.devices.vendors import COLOURS, colour_name, is_gpu, is_tpu, label, side, vendor


@pytest.mark.parametrize("name", devices())
def test_every_device_is_a_tpu_or_a_gpu_with_its_makers_colour(name: str) -> None:
    assert is_tpu(name) != is_gpu(name)
    assert colour_name(name) == COLOURS[devices()[name].vendor]


@pytest.mark.parametrize("name", ["cpu", "unknown", "tpu-v99", ""])
def test_what_has_no_sheet_is_neither_and_keeps_its_words(name: str) -> None:
    assert vendor(name) is None
    assert not is_tpu(name) and not is_gpu(name)
    assert (label(name), colour_name(name)) == (name, "grey")


def test_a_legend_names_the_maker_or_says_that_it_is_a_cpu() -> None:
    named = [side(name) for name in ("tpu-v7", "nvidia-b200-sxm", "amd-mi300x", "unknown")]
    assert named == ["TPU", "Nvidia", "AMD", "other"]
    assert side("AMD EPYC 9B14", backend="cpu") == "CPU"


def test_labels_are_as_people_write_them() -> None:
    assert label("tpu-v6e") == "TPU v6e"
    assert label("nvidia-h100-sxm") == "NVIDIA H100 SXM"
    assert label("amd-mi300x") == "AMD MI300X"
