"""The published results that ship: many, fully stated, plausible, and loadable like any rows."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from tpubench.cli import main
from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.list_price import device_price
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
    values = [
        row.value
        for row in ROWS
        if (row.device, row.preset, row.chips, row.metric) == (device, preset, chips, metric)
    ]
    assert any(one == pytest.approx(value) for one in values)


def test_the_selector_takes_them_without_a_store(tmp_path: Path) -> None:
    selected = select(tmp_path / "none", ["published", "device=tpu-v7"])
    assert set(selected.table["device"].to_pylist()) == {"tpu-v7"}
    with pytest.raises(UsageError, match="'published'"):
        select(tmp_path / "none", ["latest"])


def test_an_empty_store_is_reported_from_them_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    selected, note = select_for_report(None, ["device=tpu-v6e"])
    assert selected.table.num_rows
    assert "none of them measured here" in str(note)


def test_rates_get_one_dated_list_price_that_fits_the_device(tmp_path: Path) -> None:
    published = with_list_prices(select(tmp_path / "none", ["published", "device=tpu-v7"]))
    priced = [row for row in iter_rows(published.table) if row.price_id is not None]
    assert priced
    for row in priced:
        entry = prices()[str(row.price_id)]
        assert (entry.accelerator, entry.term, entry.layer) == ("tpu-v7", "on_demand", "list")
        assert (row.price_sha256, row.price_as_of) == (entry.sha256, entry.as_of.isoformat())
    trained = {
        row.metric: row.value for row in iter_rows(published.table) if row.preset == "gemma4-2b"
    }
    # $12 × 10⁶ ÷ (3600 × 57,873.71 tokens/s/chip)
    assert trained["usd_per_train_mtok"] == pytest.approx(12e6 / 3600 / 57873.71)


def test_the_list_price_is_the_middle_of_the_providers() -> None:
    listed = device_price("nvidia-h100-sxm")
    assert listed is not None
    assert listed.cheapest.usd_per_chip_hour < listed.price.usd_per_chip_hour
    assert listed.price.usd_per_chip_hour < listed.dearest.usd_per_chip_hour
    assert device_price("no-such-device") is None


def lines() -> list[dict[str, str]]:
    with published.TABLE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_second_source_states_the_shipped_figure_and_is_another_document() -> None:
    shipped = {published.figure_key(line): line for line in lines()}
    assert len(published.second_figures()) >= 58
    for key, second in published.second_figures().items():
        line = shipped[key]
        assert second.agrees(float(line["value"])), (key, second.text)
        assert ("summary_results" in second.source) != ("summary_results" in line["source"])


def test_a_figure_shows_its_second_source_or_that_it_has_none() -> None:
    double = 0
    for row in ROWS:
        second = json.loads(row.environment)["import"]["second_source"]
        if second is None:
            assert published.SINGLE_SOURCE in str(row.reason)
        else:
            double += 1
            assert second in str(row.source)
            assert "single-source" not in str(row.reason)
    assert 2 * 58 <= double < len(ROWS) / 2


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("45333.4", 45333.4, True),
        ("0.88", 0.880856, True),  # two decimals of it
        ("370083", 370082.97, True),  # six digits of it
        ("673.765", 42755.7, False),
        ("28.46", 28.47, False),
    ],
)
def test_two_documents_agree_up_to_their_rounding(text: str, value: float, same: bool) -> None:
    assert published.SecondFigure(text=text, source="s").agrees(value) is same


def test_what_a_summary_called_samples_is_shipped_as_the_tokens_that_it_counts() -> None:
    rates = {
        (row.preset, json.loads(row.params)["submission"]): (row.metric, row.value)
        for row in ROWS
        if row.preset == "whisper"
        or ('"interactive"' in row.params and row.preset == "llama3.1-8b")
        if "per_chip" not in row.metric
    }
    assert rates == {
        ("whisper", "Google/B200-SXM-180GBx8_TRT"): ("output_tok_s", 42755.7),
        ("whisper", "NVIDIA/B200-SXM-180GBx8_TRT"): ("output_tok_s", 45333.4),
        ("whisper", "Oracle/B200-SXM-180GBx8_TRT"): ("output_tok_s", 43164.3),
        ("whisper", "Oracle/GB200-NVL72_GB200-186GB_aarch64x4_TRT"): ("output_tok_s", 22272.6),
        ("whisper", "Dell/R570-L4-PCIE-24GBx4_TRT"): ("output_tok_s", 1397.01),
        ("whisper", "Dell/XE7740_L40S_PCIe_48GBx8_TRT"): ("output_tok_s", 9272.0),
        ("llama3.1-8b", "NVIDIA/B200-SXM-180GBx8_TRT"): ("output_tok_s", 102903.0),
    }


def test_the_terminal_marks_what_is_single_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["tpubench", "show", "published", "device=tpu-v7"])
    with contextlib.suppress(SystemExit):
        main()
    assert published.SINGLE_SOURCE in capsys.readouterr().out
