"""Catalogue importers: every trap seen in the real files, one test each."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpubench.costs.importers import formats, read_catalogue
from tpubench.costs.importers._catalogue import ImportedPrices
from tpubench.costs.price_files import read_prices, write_prices
from tpubench.errors import UsageError

DAY = dt.date(2026, 11, 1)
GCP = (
    "InstanceType,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,"
    "Region,AvailabilityZone,Price,SpotPrice"
)
AWS = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,"
    "Price,SpotPrice,Region,AvailabilityZone"
)
HUNT = "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size"


def skypilot(folder: Path, cloud: str, header: str, *lines: str) -> ImportedPrices:
    path = folder / cloud / "vms.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return read_catalogue("skypilot", path, DAY)


def gpuhunt(folder: Path, name: str, text: str) -> ImportedPrices:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return read_catalogue("gpuhunt", path, DAY)


def rates(catalogue: ImportedPrices) -> dict[tuple[str, str, str], float]:
    return {
        (p.accelerator, p.region, p.term): round(p.usd_per_chip_hour, 5) for p in catalogue.prices
    }


def test_the_formats() -> None:
    assert formats() == ["gpuhunt", "skypilot"]


def test_google_host_row_and_accelerator_row_are_added(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path,
        "gcp",
        GCP,
        "a3-highgpu-8g,208,1872,,,,us-central1,us-central1-a,9.46,2.89",
        ",,,H100,8,,us-central1,us-central1-a,78.4,16.0",
        ",,,H100,8,,us-west1,us-west1-b,78.4,16.0",
    )
    assert rates(catalogue) == {
        ("nvidia-h100-sxm", "us-central1", "on_demand"): round((9.46 + 78.4) / 8, 5),
        ("nvidia-h100-sxm", "us-central1", "spot"): round((2.89 + 16.0) / 8, 5),
        ("nvidia-h100-sxm", "us-west1", "on_demand"): 9.8,
        ("nvidia-h100-sxm", "us-west1", "spot"): 2.0,
    }
    assert {p.region: p.includes_host for p in catalogue.prices} == {
        "us-central1": True,
        "us-west1": False,
    }


def test_seven_hundred_is_no_price_for_v6e_and_691_is_one(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path,
        "gcp",
        GCP,
        "TPU-VM,,,tpu-v6e-8,1,,us-south1,us-south1-a,21.6,700.0",
        "TPU-VM,,,tpu-v6e-256,1,,us-east5,us-east5-a,691.2,700.0",
        "TPU-VM,,,tpu-v6e-16,1,,us-east5,us-east5-b,700.0,700.0",
    )
    assert rates(catalogue) == {
        ("tpu-v6e", "us-south1", "on_demand"): 2.7,
        ("tpu-v6e", "us-east5", "on_demand"): 2.7,
    }
    assert [r.reason for r in catalogue.rejected] == ["no price: not sold"]


def test_spot_above_on_demand_is_rejected(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path, "gcp", GCP, ",,,H200,8,,us-south1,us-south1-a,36.60258,43.9512"
    )  # fmt: skip
    assert catalogue.prices == []
    assert catalogue.rejected[0].where == "line 2"
    assert "above on-demand" in catalogue.rejected[0].reason


def test_an_on_demand_price_that_looks_like_flex_is_flagged(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path,
        "gcp",
        GCP,
        *(
            f",,,B200,8,,us-{i},us-{i}-a,{usd},30"
            for i, usd in enumerate((90.216, 90.216, 90.216, 64.44))
        ),
    )
    flagged = [p for p in catalogue.prices if p.suspect]
    assert [(p.region, p.usd_per_chip_hour, p.term) for p in flagged] == [
        ("us-3", 8.055, "on_demand")
    ]
    assert "looks like the flex-start rate" in flagged[0].note


def test_v5p_counts_cores_and_v6e_counts_chips(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path,
        "gcp",
        GCP,
        "TPU-VM,,,tpu-v5p-8,1,,us-east5,us-east5-a,16.8,",
        "TPU-VM,,,tpu-v5litepod-8,1,,us-east5,us-east5-a,9.6,",
        "TPU-VM,,,tpu-v6e-4,1,,us-east5,us-east5-a,10.8,",
    )
    assert rates(catalogue) == {
        ("tpu-v5p", "us-east5", "on_demand"): 4.2,
        ("tpu-v5e", "us-east5", "on_demand"): 1.2,
        ("tpu-v6e", "us-east5", "on_demand"): 2.7,
    }


def test_spot_equal_to_on_demand_means_no_spot_market(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path, "aws", AWS, "p5.48xlarge,H100,8,192,2048,,55.04,55.04,us-east-1,use1-az1"
    )
    assert list(rates(catalogue)) == [("nvidia-h100-sxm", "us-east-1", "on_demand")]


def test_an_empty_price_means_not_sold(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path, "aws", AWS, "p6-b200.48xlarge,B200,8,192,2048,,,,us-east-1,use1-az1"
    )
    assert catalogue.prices == []
    assert catalogue.rejected[0].reason == "no price: not sold"


@pytest.mark.parametrize(
    ("cloud", "instance", "name", "device"),
    [
        ("aws", "p4d.24xlarge", "A100", "nvidia-a100-sxm-40gb"),
        ("aws", "p4de.24xlarge", "A100-80GB", "nvidia-a100-sxm-80gb"),
        ("azure", "Standard_NC24ads_A100_v4", "A100-80GB", "nvidia-a100-pcie-80gb"),
        ("azure", "Standard_ND96isr_H100_v5", "H100", "nvidia-h100-sxm"),
        ("azure", "Standard_NC40ads_H100_v5", "H100", "nvidia-h100-nvl"),
        ("lambda", "gpu_1x_h100_pcie", "H100", "nvidia-h100-pcie"),
        ("lambda", "gpu_8x_h100_sxm5", "H100-SXM", "nvidia-h100-sxm"),
        ("lambda", "gpu_8x_a100_80gb_sxm4", "A100-80GB", "nvidia-a100-sxm-80gb"),
        ("oci", "BM.GPU.H100.8", "H100", "nvidia-h100-sxm"),
    ],
)
def test_the_variant_comes_from_the_machine_type(
    tmp_path: Path, cloud: str, instance: str, name: str, device: str
) -> None:
    catalogue = skypilot(tmp_path, cloud, AWS, f"{instance},{name},1,8,80,,2.5,,any,")
    assert [p.accelerator for p in catalogue.prices] == [device]


def test_a_variant_that_nobody_says_is_rejected_rather_than_guessed(tmp_path: Path) -> None:
    catalogue = skypilot(tmp_path, "fluidstack", AWS, "node-7,H100,1,8,80,,2.5,,any,")
    assert catalogue.prices == []
    assert "SXM, PCIe or NVL not said" in catalogue.rejected[0].reason


def test_mega_is_an_sxm_board(tmp_path: Path) -> None:
    catalogue = skypilot(tmp_path, "gcp", GCP, ",,,H100-MEGA,8,,us-east4,us-east4-b,82.75,14.9")
    assert {p.accelerator for p in catalogue.prices} == {"nvidia-h100-sxm"}


def test_gpuhunts_tpu_rates_are_per_chip(tmp_path: Path) -> None:
    catalogue = gpuhunt(
        tmp_path,
        "tpu_pricing.json",
        """{"TPU v6e": {"us-east5": {"On Demand (USD)": 2.7, "Spot (USD)": 1.89}},
            "TPU v4 pod": {"us-central2": {"On Demand (USD)": 3.22, "Spot (USD)": 3.686}},
            "TPU v99": {"moon": {"On Demand (USD)": 1}}, "odd": 3}""",
    )
    # Old chips cost more on the spot than on demand: the rate card's own price still holds.
    assert rates(catalogue) == {
        ("tpu-v6e", "us-east5", "on_demand"): 2.7,
        ("tpu-v6e", "us-east5", "spot"): 1.89,
        ("tpu-v4", "us-central2", "on_demand"): 3.22,
    }
    assert sorted(r.reason for r in catalogue.rejected) == [
        "not an object of regions",
        "spot 3.686 above on-demand 3.22: the spot price alone is left out",
        "unknown TPU",
    ]
    assert [p.note for p in catalogue.prices if p.note] == [
        "left out: spot 3.686 above on-demand 3.22"
    ]


def test_gpuhunts_spot_and_on_demand_rows_are_joined(tmp_path: Path) -> None:
    catalogue = gpuhunt(
        tmp_path,
        "aws.csv",
        "\n".join(
            [
                HUNT,
                "p4d.24xlarge,us-east-1,21.96,96,1152,8,A100,40.0,False,",
                "p4d.24xlarge,us-east-1,9.6,96,1152,8,A100,40.0,True,",
                "p5.48xlarge,us-east-1,55.04,192,2048,8,H100,80.0,False,",
                "p5.48xlarge,us-east-1,60.0,192,2048,8,H100,80.0,True,",
                "m7i.large,us-east-1,0.1,2,8,0,,,False,",
            ]
        ),
    )
    assert rates(catalogue) == {
        ("nvidia-a100-sxm-40gb", "us-east-1", "on_demand"): 2.745,
        ("nvidia-a100-sxm-40gb", "us-east-1", "spot"): 1.2,
    }
    assert {r.where: r.reason for r in catalogue.rejected} == {
        "line 4": "spot 60 above on-demand 55.04",
        "line 6": "no accelerator",
    }


def test_equal_sizes_are_one_price_and_unequal_ones_keep_their_instance(tmp_path: Path) -> None:
    catalogue = skypilot(
        tmp_path,
        "lambda",
        AWS,
        "gpu_1x_h100_sxm5,H100-SXM,1,8,80,,4.29,,any,",
        "gpu_8x_h100_sxm5,H100-SXM,8,8,80,,31.92,,any,",
        "gpu_4x_h100_sxm5,H100-SXM,4,8,80,,17.16,,any,",
    )
    ids = [p.id for p in catalogue.prices]
    assert len(ids) == 2
    assert ids[1].endswith("gpu-8x-h100-sxm5-x8")


@pytest.mark.parametrize("region", ["", "=cmd()", "@x", "-1", "us\x07east"])
def test_a_region_that_a_spreadsheet_would_run_is_left_out(tmp_path: Path, region: str) -> None:
    catalogue = skypilot(tmp_path, "aws", AWS, f"p5.48xlarge,H100,8,1,1,,55.04,20,{region},a")
    assert catalogue.prices == []
    assert [row.reason for row in catalogue.rejected] == ["no usable region"]


def test_a_date_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--as-of"):
        read_catalogue("skypilot", tmp_path / "gcp" / "vms.csv", None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gcp_vms.csv", b"a,b\n1,2\n", "no column InstanceType"),
        ("gcp_vms.csv", b"\xff\xfe", "not UTF-8"),
        ("gcp_vms.csv", b"", "no column"),
        ("x y.csv", (AWS + "\n").encode(), "give --provider"),
        ("gcp_vms.csv", (AWS + "\n" + "x" * 200_000).encode(), "field larger"),
    ],
)
def test_an_unreadable_catalogue_is_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_catalogue("skypilot", path, DAY)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hundred_megabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "gcp_vms.csv"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(UsageError, match="100,000,000 bytes"):
        read_catalogue("skypilot", path, DAY)


def test_an_import_is_written_once_and_reads_back_the_same(tmp_path: Path) -> None:
    catalogue = skypilot(tmp_path, "aws", AWS, "p5.48xlarge,H100,8,1,1,,55.04,20,us-east-1,a")
    table = tmp_path / "aws-2026-11-01.csv"
    write_prices(table, catalogue.prices)
    assert read_prices(table) == catalogue.prices
    with pytest.raises(UsageError, match="never overwritten"):
        write_prices(table, catalogue.prices)


CELL = st.one_of(
    st.sampled_from(
        ["H100", "A100", "tpu-v6e-8", "tpu-v5p-7", "nan", "inf", "-1", "0", "8", "1e400"]
    ),
    st.text(max_size=8),
)


@given(st.lists(st.lists(CELL, max_size=11), max_size=6), st.sampled_from([GCP, AWS, HUNT]))
def test_any_cells_give_prices_rejections_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], header: str
) -> None:
    text = "\n".join([header, *(",".join(row) for row in rows)])
    path = tmp_path_factory.mktemp("fuzz") / "gcp_vms.csv"
    path.write_text(text, encoding="utf-8", errors="replace")
    for name in ("skypilot", "gpuhunt"):
        try:
            read_catalogue(name, path, DAY, provider="gcp")
        except UsageError as error:
            assert str(path) in str(error)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["TPU v6e", "us-east5", "On Demand (USD)", "Spot (USD)", ""]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_gives_prices_rejections_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: object
) -> None:
    import json

    path = tmp_path_factory.mktemp("fuzz") / "tpu_pricing.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        read_catalogue("gpuhunt", path, DAY)
    except UsageError as error:
        assert str(path) in str(error)
