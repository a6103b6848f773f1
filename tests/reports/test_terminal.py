"""Tables for a terminal: no figure hidden behind another, every $ with its price."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from rich.console import Console
from sample_rows import make_row

from tpubench.reports import terminal
from tpubench.results.calibration import as_calibration
from tpubench.results.row import Row
from tpubench.results.store import scan, write


def shown(rows: list[Row], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    files = [write(folder, f"case-{index:03d}", [row]) for index, row in enumerate(rows)]
    terminal.show_rows(scan(files), as_json=False, as_csv=False)
    return capfd.readouterr().out


def test_same_case_on_other_devices_chips_or_precisions_gets_a_table_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    params = json.dumps({"global_batch": 256})
    common = {"evidence": "published", "backend": "imported", "params": params}
    places = [
        ("tpu-v6e", 256, "bfloat16", 111.0),
        ("tpu-v6e", 128, "bfloat16", 222.0),
        ("tpu-v6e", 128, "fp8", 333.0),
        ("nvidia-h100-sxm", 128, "fp8", 444.0),
        ("nvidia-h100-sxm", 0, "fp8", 555.0),
    ]
    rows = [
        make_row(samples=[value], device=device, chips=chips, dtype=dtype, **common)
        for device, chips, dtype, value in places
    ]
    text = " ".join(shown(rows, tmp_path, capfd).split())
    for _, _, _, value in places:
        assert f"{value:g} tok/s" in text
    assert "bfloat16 on tpu-v6e, 256 chips" in text
    assert "fp8 on nvidia-h100-sxm, 128 chips" in text
    assert "on nvidia-h100-sxm, chips not stated" in text


def test_on_one_chip_a_figure_per_chip_is_left_out_only_where_it_would_repeat(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    alone = make_row("output_tok_s_per_chip", [900.0])
    assert "900 tok/s/chip" in shown([alone], tmp_path / "alone", capfd)
    both = [make_row("output_tok_s", [900.0]), alone]
    assert "/chip" not in shown(both, tmp_path / "both", capfd)


def test_an_interval_that_says_nothing_is_called_unusable(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [make_row(samples=[speed], repetition=i) for i, speed in enumerate((10.0, 40.0))]
    text = shown(rows, tmp_path, capfd)
    assert "20.0 tok/s [unusable]" in text
    assert "Unusable: the 95 % interval exceeds a factor of 10" in text
    near = shown([make_row(samples=[10.0])], tmp_path / "other", capfd)
    assert "nusable" not in near


def test_a_metrics_name_is_whole_at_80_columns(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "console", lambda: Console(width=80))
    shape = {"m": 2048, "n": 128256, "k": 14336, "steps": 100}
    rows = [
        make_row("peak_memory_bytes", [4e8], params=json.dumps({**shape, "steps": steps}))
        for steps in range(4)
    ]
    assert "peak_memory_bytes" in shown(rows, tmp_path, capfd)


def test_every_dollar_names_its_price(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    priced = make_row(
        "usd_per_mtok_out",
        usd_per_chip_hour=2.7,
        price_id="gcp-us-east5-tpu-v6e-on_demand-2024-12-23",
        price_as_of=dt.date(2024, 12, 23).isoformat(),
        price_sha256="a" * 64,
    )
    text = shown([priced, make_row()], tmp_path, capfd)
    note = "price: gcp-us-east5-tpu-v6e-on_demand-2024-12-23, 2.7 $ per chip-hour, of 2024-12-23"
    assert f"(1) {note}" in text
    assert text.count("(1)") == 2  # the cell and the note: a rate has no price
    assert "1 repetition " in text


def test_a_repetition_that_was_not_steady_is_said_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("steady", "erratic", "slowing")
    rows = [
        make_row(repetition=i, environment=json.dumps({"timing": {"steadiness": word}}))
        for i, word in enumerate(words)
    ]
    text = shown(rows, tmp_path, capfd)
    assert "not steady: batch=1: erratic, slowing in 2 of 3 repetitions" in text
    assert "not steady" not in shown([rows[0]], tmp_path / "other", capfd)


def test_what_measured_the_machine_is_a_line_after_the_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    context = as_calibration(make_row("flop_s", [2e11], workload="gemm", preset="square-2048"))
    text = shown([context, make_row()], tmp_path, capfd)
    assert text.index("llama-infer") < text.index("peaks of this machine: gemm bfloat16 200 GFLOP")
    assert "square-2048" not in text
    alone = shown([context], tmp_path / "other", capfd)
    assert "square-2048" in alone  # asked for by itself, it has its table


def test_json_columns_are_objects_and_what_is_none_stays_text() -> None:
    odd = make_row(params="not json", environment='{"a": NaN}')
    (record,) = terminal.records([odd])
    assert (record["params"], record["environment"]) == ("not json", '{"a": NaN}')
    (record,) = terminal.records([make_row(environment='{"a": [1]}')])
    assert record["environment"] == {"a": [1]} and record["params"]["batch"] == 1
