"""Catalogues that contradict themselves: what is left out is named, whatever the order of rows."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from tpubench.costs.importers import read_catalogue
from tpubench.costs.importers._catalogue import ImportedPrices, line_ranges
from tpubench.costs.price_diff import diff, partial
from tpubench.devices.prices import price

DAY = dt.date(2026, 11, 1)
SHIPPED = Path(__file__).parent.parent / "results" / "fixtures" / "imports"
HEADER = "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region,AvailabilityZone"
HUNT = "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size"
HOST = "a2-highgpu-8g,,,7.52,2.25,us-central1,us-central1-a"
OTHER = "a2-highgpu-8g,,,11.90,3.10,us-central1,us-central1-a"
GPU = ",A100,8,21.87,8.0,us-central1,us-central1-a"


def skypilot(folder: Path, cloud: str, *lines: str) -> ImportedPrices:
    path = folder / cloud / "vms.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return read_catalogue("skypilot", path, DAY)


def rates(imported: ImportedPrices) -> dict[str, float]:
    return {entry.id: round(entry.usd_per_chip_hour, 4) for entry in imported.prices}


def test_a_catalogue_with_two_prices_of_one_host() -> None:
    imported = read_catalogue("skypilot", SHIPPED / "gcp" / "vms.csv", DAY)
    assert not imported.prices
    where = {row.where: row.reason for row in imported.rejected}
    assert where.keys() == {"line 4", "lines 2-3"}
    assert all("7.52 (line 2) and 11.90 (line 3)" in reason for reason in where.values())


@pytest.mark.parametrize("rows", list(itertools.permutations((HOST, OTHER, GPU))))
def test_conflicting_hosts_are_left_out_in_every_order(
    rows: tuple[str, ...], tmp_path: Path
) -> None:
    imported = skypilot(tmp_path, "gcp", *rows)
    assert not imported.prices
    assert len(imported.rejected) == 2
    assert all("conflicting prices" in row.reason for row in imported.rejected)


def test_a_host_row_that_is_there_twice_is_no_conflict(tmp_path: Path) -> None:
    imported = skypilot(tmp_path, "gcp", HOST, HOST.replace("7.52", "7.520"), GPU)
    assert {round(p.usd_per_chip_hour, 5) for p in imported.prices} == {
        round((7.52 + 21.87) / 8, 5),
        round((2.25 + 8.0) / 8, 5),
    }
    assert not imported.rejected


def test_another_zones_host_does_not_matter(tmp_path: Path) -> None:
    imported = skypilot(tmp_path, "gcp", HOST, OTHER.replace("central1-a", "central1-b"), GPU)
    assert len(imported.prices) == 2
    assert [row.where for row in imported.rejected] == ["line 3"]


@pytest.mark.parametrize("reverse", [False, True])
def test_one_offer_at_two_prices_is_left_out_and_named(reverse: bool, tmp_path: Path) -> None:
    rows = [
        "p5.48xlarge,H100,8,55.04,20,us-east-1,use1-az1",
        "p5.48xlarge,H100,8,60.0,20,us-east-1,use1-az1",
    ]
    imported = skypilot(tmp_path, "aws", *(reversed(rows) if reverse else rows))
    assert [p.term for p in imported.prices] == ["spot"]
    (row,) = imported.rejected
    assert row.where == "line 2, line 3"
    assert "55.04 and 60" in row.reason


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_no_price_is_dropped_and_no_id_hangs_on_the_order(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    rows = [
        "gpu_1x,H100-SXM,1,4.0,,east,a",
        "gpu_8x,H100-SXM,8,30.0,,east,a",
        "gpu_8x,H100-SXM,8,31.0,,east,b",
        "gpu_8x,H100-SXM,8,28.0,,east,c",
    ]
    imported = skypilot(tmp_path, "lambda", *(rows[place] for place in order))
    base = "lambda-east-nvidia-h100-sxm-on_demand-2026-11-01"
    assert rates(imported) == {
        base: 4.0,
        f"{base}-gpu-8x-x8": 3.75,
        f"{base}-gpu-8x-x8-b": 3.875,
        f"{base}-gpu-8x-x8-c": 3.5,
    }
    assert not imported.rejected


def test_gpuhunts_conflicting_rows_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "aws.csv"
    rows = [
        "p5.48xlarge,us-east-1,55.04,192,2048,8,H100,80.0,False,",
        "p5.48xlarge,us-east-1,60.0,192,2048,8,H100,80.0,False,",
        "p4d.24xlarge,us-east-1,21.96,96,1152,8,A100,40.0,False,",
        "p4d.24xlarge,us-east-1,21.960,96,1152,8,A100,40.0,False,",
    ]
    path.write_text("\n".join([HUNT, *rows]) + "\n", encoding="utf-8")
    imported = read_catalogue("gpuhunt", path, DAY)
    assert [entry.accelerator for entry in imported.prices] == ["nvidia-a100-sxm-40gb"]
    assert [(row.where, row.reason) for row in imported.rejected] == [
        ("lines 2-3", "conflicting prices for one offer: 55.04 and 60.0")
    ]


def test_only_who_sells_flex_start_is_suspected_of_it(tmp_path: Path) -> None:
    nebius = read_catalogue("skypilot", SHIPPED / "nebius" / "vms.csv", DAY)
    assert len(nebius.prices) == 3
    rows = [f",B200,8,{usd},30,us-{i},us-{i}-a" for i, usd in enumerate((90.2, 90.2, 90.2, 64.4))]
    gcp = skypilot(tmp_path, "gcp", *rows)
    assert [entry.suspect for entry in (*nebius.prices, *gcp.prices)].count(True) == 1
    assert not any(entry.suspect for entry in nebius.prices)


def test_machines_without_an_accelerator_are_named_together(tmp_path: Path) -> None:
    cpu = [f"cpu-{i},,,{i + 1},,east," for i in range(3)]
    imported = skypilot(tmp_path, "aws", *cpu, "p5.48xlarge,H100,8,55.04,20,east,a", cpu[0])
    (row,) = imported.rejected
    assert (row.where, row.reason.split(":")[0]) == ("lines 2-4, 6", "no accelerator")
    assert line_ranges([7]) == "line 7"


V6E = "gcp-us-east5-tpu-v6e-on_demand-2024-12-23"


def test_a_table_that_omits_a_whole_kind_is_partial_and_says_nothing_of_it() -> None:
    held = price(V6E)
    elsewhere = replace(held, id="y", region="us-west9")
    spot = replace(held, id="z", term="spot")
    changes = diff([held, elsewhere, spot], [held])
    assert {(c.region, c.term): c.kind for c in changes} == {
        ("us-west9", "on_demand"): "gone",
        ("us-east5", "spot"): "not listed",
    }
    assert partial(changes, after=True) == ["gcp tpu-v6e spot (1)"]
    assert not partial(changes, after=False)
    back = diff([held], [held, elsewhere, spot])
    assert {c.kind for c in back} == {"new", "not listed"}
    assert partial(back, after=False) == ["gcp tpu-v6e spot (1)"]
