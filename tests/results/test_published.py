"""The published results that ship: many, fully stated, plausible, and loadable like any rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.list_price import list_prices
from tpubench.devices.prices import prices
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError
from tpubench.results import published
from tpubench.results.select import select, select_for_report
from tpubench.results.store import iter_rows
from tpubench.results.summary import row_key
from tpubench.results.verify import verify

ROWS = published.rows()


def test_three_hundred_rows_state_everything_and_cover_both_kinds_of_device() -> None:
    full = [row for row in ROWS if row.dtype != "not-stated" and row.chips > 0]
    assert len(full) >= 300
    kinds = Counter(row.device for row in full)
    for device in ("tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7"):
        assert kinds[device], device
    for device in ("nvidia-a100-sxm-80gb", "nvidia-h100-sxm", "nvidia-h200-sxm"):
        assert kinds[device], device
    for device in ("nvidia-b200-sxm", "nvidia-gb200", "nvidia-l40s"):
        assert kinds[device], device


def test_every_row_names_source_date_known_device_and_lengths_or_scenario() -> None:
    for row in ROWS:
        assert row.evidence == "published"
        assert row.source
        assert row.value is not None
        assert row.value > 0
        assert row.device in devices()
        params = json.loads(row.params)
        assert {"seq_len", "input_len", "scenario", "resolution", "global_batch"} & params.keys()


def test_no_row_is_beyond_the_peak_of_its_chips() -> None:
    for row in ROWS:
        if row.metric == "flop_s" and row.value is not None:
            peak = max(devices()[row.device].peak_flop_s.values())
            assert row.value <= row.chips * peak


def test_no_row_is_there_twice_and_all_verify() -> None:
    assert max(Counter(row_key(row) for row in ROWS).values()) == 1
    assert not verify(ROWS)


@pytest.mark.parametrize(
    ("device", "preset", "chips", "metric", "value"),
    [
        # github.com/AI-Hypercomputer/tpu-recipes, Ironwood summary table, read 2026-08-06.
        ("tpu-v7", "deepseek-v3", 256, "train_tok_s_per_chip", 2968.49),
        # MLPerf Inference v4.1, closed, Google, tpu_v6_x4: 5.43896 samples/s on four chips.
        ("tpu-v6e", "stable-diffusion-xl", 4, "samples_s", 5.43896),
    ],
)
def test_known_figures_are_as_published(
    device: str, preset: str, chips: int, metric: str, value: float
) -> None:
    found = [
        row.value
        for row in ROWS
        if (row.device, row.preset, row.chips, row.metric) == (device, preset, chips, metric)
    ]
    assert any(one == pytest.approx(value) for one in found)


def test_the_selector_takes_them_without_a_store(tmp_path: Path) -> None:
    found = select(tmp_path / "none", ["published", "device=tpu-v7"])
    assert set(found.table["device"].to_pylist()) == {"tpu-v7"}
    with pytest.raises(UsageError, match="'published'"):
        select(tmp_path / "none", ["latest"])


def test_an_empty_store_is_reported_from_them_and_says_so(tmp_path: Path) -> None:
    found, note = select_for_report(tmp_path / "none", ["device=tpu-v6e"])
    assert found.table.num_rows
    assert "none of them measured here" in str(note)


def test_rates_get_one_dated_list_price_that_fits_the_device(tmp_path: Path) -> None:
    found = with_list_prices(select(tmp_path / "none", ["published", "device=tpu-v7"]))
    priced = [row for row in iter_rows(found.table) if row.price_id is not None]
    assert priced
    for row in priced:
        entry = prices()[str(row.price_id)]
        assert (entry.accelerator, entry.term, entry.layer) == ("tpu-v7", "on_demand", "list")
        assert (row.price_sha256, row.price_as_of) == (entry.sha256, entry.as_of.isoformat())
    trained = {row.metric: row.value for row in iter_rows(found.table) if row.preset == "gemma4-2b"}
    # $12 × 10⁶ ÷ (3600 × 57,873.71 tokens/s/chip)
    assert trained["usd_per_train_mtok"] == pytest.approx(12e6 / 3600 / 57873.71)


def test_the_list_price_is_the_middle_of_the_providers() -> None:
    found = list_prices("nvidia-h100-sxm")
    assert found is not None
    assert found.cheapest.usd_per_chip_hour < found.middle.usd_per_chip_hour
    assert found.middle.usd_per_chip_hour < found.dearest.usd_per_chip_hour
    assert list_prices("no-such-device") is None
