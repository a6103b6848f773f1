"""One resolver for every way to name a device: strict for facts, loose where it says so."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from tpubench.devices.names import LONGEST, canonical, chips_in_slice, in_machine, likeliest, of_pci
from tpubench.devices.sheets import devices


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


@pytest.mark.parametrize("name", devices())
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


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        # MLPerf's system names.
        ("NVIDIA Blackwell GPU (B200-SXM-180GB)", "nvidia-b200-sxm"),
        ("NVIDIA Blackwell GPU (GB200)", "nvidia-gb200"),
        ("NVIDIA Blackwell Ultra GPU (B300-SXM-270GB)", "nvidia-b300-sxm"),
        ("NVIDIA Blackwell Ultra GPU (GB300)", "nvidia-gb300"),
        ("NVIDIA H100-SXM-80GB", "nvidia-h100-sxm"),
        ("NVIDIA GH200 Grace Hopper Superchip 144GB", "nvidia-gh200-144gb"),
        ("Virtualized NVIDIA H200-SXM-141GB", "nvidia-h200-sxm"),
        ("NVIDIA H200-SXM-141GB-CTS", "nvidia-h200-sxm"),
        ("AMD Instinct MI300X 192GB HBM3", "amd-mi300x"),
        ("AMD Instinct MI300X-NPS1-SPX-192GB-750W", "amd-mi300x"),
        # The driver counts the Grace CPU's memory.
        ("NVIDIA GH200 480GB", "nvidia-gh200-96gb"),
        # Google's machine types.
        ("ct5lp-hightpu-4t", "tpu-v5e"),
        ("ct6e-standard-8t", "tpu-v6e"),
        ("tpu7x-standard-4t", "tpu-v7"),
        # The same words in another order.
        ("80GB H100 SXM5", "nvidia-h100-sxm"),
        ("A100 80 GB PCIe", "nvidia-a100-pcie-80gb"),
        ("NVIDIA B300 SXM6 288 GB", "nvidia-b300-sxm"),
    ],
)
def test_names_of_submissions_drivers_and_machine_types(raw: str, name: str) -> None:
    assert canonical(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",  # a slice of a GPU
        "AMD Instinct MI300X-NPS4-CPX",  # an eighth of one
        "NVIDIA H100 96GB HBM2e 2.4TB/s 500W (Grand Teton)",  # another memory
        "NVIDIA A100-PCIE-40GB",  # no sheet: not the 80 GB card
        "NVIDIA H200 NVL 141GB",  # no sheet: not the SXM board
        "H100 96GB",
        "8x H100-SXM",
        "H100-SXM and A100-SXM-80GB",
    ],
)
def test_a_variant_without_a_sheet_is_not_taken_for_its_sibling(raw: str) -> None:
    assert canonical(raw) is None


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("NVIDIA A100", "nvidia-a100-sxm-80gb"),
        ("A100-40GB", "nvidia-a100-sxm-40gb"),
        ("A100 PCIe", "nvidia-a100-pcie-80gb"),
        ("NVIDIA H200-NVL-141GB", "nvidia-h200-sxm"),
        ("NVIDIA H100 96GB HBM2e 2.4TB/s 500W (Grand Teton)", "nvidia-h100-sxm"),
    ],
)
def test_the_loose_answer_says_what_it_assumed(raw: str, name: str) -> None:
    likely = likeliest(raw)
    assert likely is not None
    assert likely.device == name
    assert likely.assumed is not None and name in likely.assumed


@pytest.mark.parametrize("name", devices())
def test_the_loose_answer_assumes_nothing_about_a_clear_name(name: str) -> None:
    likely = likeliest(name)
    assert likely is not None and (likely.device, likely.assumed) == (name, None)


@pytest.mark.parametrize(
    ("raw", "machine", "name"),
    [
        ("A100", "a2-highgpu-8g", "nvidia-a100-sxm-40gb"),
        ("A100-80GB", "p4de.24xlarge", "nvidia-a100-sxm-80gb"),
        ("A100-80GB", "Standard_NC24ads_A100_v4", "nvidia-a100-pcie-80gb"),
        ("H100", "Standard_NC40ads_H100_v5", "nvidia-h100-nvl"),
        ("H100", "BM.GPU.H100.8", "nvidia-h100-sxm"),
        ("B200", "a4-highgpu-8g", "nvidia-b200-sxm"),
        ("H100", "some-machine", None),
    ],
)
def test_the_machine_type_settles_the_board(raw: str, machine: str, name: str | None) -> None:
    assert in_machine(raw, machine) == name


def test_pci_ids_name_the_generation() -> None:
    assert of_pci("0x1ae0", "0x006f") == "tpu-v6e"
    assert of_pci("0x1ae0", "0x0027") == "tpu"  # v2 or v3
    assert of_pci("0x10de", "0x006f") is None


@given(strategies.text(min_size=LONGEST + 1))
def test_an_endless_name_is_none(raw: str) -> None:
    assert canonical(raw) is None
    assert likeliest(raw) is None
