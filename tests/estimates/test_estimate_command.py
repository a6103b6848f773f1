"""``tpubench estimate`` from the outside: rows, reasons, prices, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Call, caller

from tpubench.devices.list_price import device_price
from tpubench.results import store
from tpubench.results.summary import summarise
from tpubench.suite import registry

BASIC = ("estimate", "--workload", "llama-infer", "--preset", "llama-3.1-8b", "--device", "v6e")


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))

    return caller(monkeypatch, capfd)


def rows_of(out: str) -> dict[str, dict[str, Any]]:
    return {row["metric"]: row for row in json.loads(out)["rows"]}


def test_rows_say_that_they_are_modelled_and_what_binds(call: Call) -> None:
    code, out, _ = call(*BASIC, "--chips", "8", "--set", "batch=8", "--json")
    assert code == 0
    rows = rows_of(out)
    assert {"ttft_s", "tpot_s", "output_tok_s", "output_tok_s_per_chip"} <= set(rows)
    for row in rows.values():
        assert (row["evidence"], row["device"], row["chips"]) == ("modelled", "tpu-v6e", 8)
    tpot = rows["tpot_s"]
    estimate = tpot["environment"]["estimate"]
    assert estimate["bound"] == "HBM"
    assert (
        tpot["ci_low"] < estimate["low_90"] < tpot["value"] < estimate["high_90"] < tpot["ci_high"]
    )
    assert sum(estimate["share_of_time"].values()) == pytest.approx(1, abs=0.001)
    rate = rows["output_tok_s"]["value"]
    assert rows["output_tok_s_per_chip"]["value"] == pytest.approx(rate / 8)


def test_without_a_price_the_devices_own_counts_and_says_by_which_rule(
    call: Call, tmp_path: Path
) -> None:
    _, out, _ = call(*BASIC, "--json")
    listed = rows_of(out)["usd_per_mtok_out"]
    chosen = device_price("tpu-v6e")
    assert chosen is not None
    assert (listed["price_id"], listed["reason"]) == (
        chosen.price.id,
        f"output_tok_s at {chosen.rule}",
    )
    assert "stale" in call(*BASIC)[1]  # the table's price is of 2025-01-01
    own = tmp_path / "mine.toml"
    own.write_text(
        "[[negotiated]]\nid = 'deal'\nprovider = 'gcp'\naccelerator = 'tpu-v6e'\nterm = '1y'\n"
        "usd_per_chip_hour = 1.35\nsource = 'order'\nas_of = 2026-11-01\n",
        encoding="utf-8",
    )
    mine = rows_of(call(*BASIC, "--prices", str(own), "--json")[1])["usd_per_mtok_out"]
    assert mine["price_id"] == "deal"
    assert mine["value"] == pytest.approx(listed["value"] / 2)
    assert "own price" in mine["reason"]


def test_no_price_no_dollars_and_a_price_names_itself(call: Call) -> None:
    v4 = [a.replace("v6e", "v4") for a in BASIC]
    missing = rows_of(call(*v4, "--json")[1])["usd_per_mtok_out"]
    assert missing["value"] is None and "no list price of tpu-v4" in missing["reason"]
    _, out, _ = call(*BASIC, "--json", "--usd-per-chip-hour", "2.70")
    rows = rows_of(out)
    dollars = rows["usd_per_mtok_out"]
    assert dollars["value"] == pytest.approx(1e6 * 2.7 / 3600 / rows["output_tok_s"]["value"])
    assert (dollars["price_id"], dollars["usd_per_chip_hour"]) == ("given", 2.7)


def test_a_model_that_does_not_fit_gets_a_reason_and_no_figure(call: Call) -> None:
    arguments = [a.replace("llama-3.1-8b", "llama-3.1-70b") for a in BASIC]
    code, out, _ = call(*arguments, "--json")
    assert code == 1  # the answer is no
    for row in rows_of(out).values():
        assert row["status"] == "skipped" and row["value"] is None
        assert "does not fit" in row["reason"]


def test_training_and_crossed_cases(call: Call) -> None:
    code, out, _ = call(
        "estimate", "--workload", "llama-pretrain", "--preset", "llama-3.1-8b", "--device",
        "nvidia-h100-sxm", "--chips", "8", "--set", "batch=8,16", "--json",
    )  # fmt: skip
    assert code == 0
    steps = [r for r in json.loads(out)["rows"] if r["metric"] == "step_time_s"]
    assert len(steps) == 2 and steps[0]["value"] < steps[1]["value"]


def test_a_device_never_fitted_has_a_wider_interval_and_a_note(call: Call) -> None:
    def width(device: str) -> float:
        _, out, _ = call(*BASIC[:-1], device, "--json")
        estimate = rows_of(out)["tpot_s"]["environment"]["estimate"]
        return float(estimate["high_90"] / estimate["low_90"])

    _, out, _ = call(*BASIC[:-1], "mi355x", "--json")
    assert any("no published row" in note for note in json.loads(out)["notes"])
    assert width("mi355x") > width("nvidia-a100-sxm-80gb")


def test_stored_rows_can_be_shown_and_verified(call: Call, tmp_path: Path) -> None:
    where = str(tmp_path / "facts")
    assert call(*BASIC, "--store", where)[0] == 0
    code, out, _ = call("show", "--store", where, "--json")
    assert code == 0 and {row["evidence"] for row in json.loads(out)} == {"modelled"}
    assert call("verify", "--store", where)[0] == 0


def test_a_stored_estimate_keeps_its_interval_and_has_no_repetitions(
    call: Call, tmp_path: Path
) -> None:
    where = str(tmp_path / "facts")
    _, out, _ = call(*BASIC, "--chips", "8", "--store", where, "--json")
    row = rows_of(out)["tpot_s"]
    assert (row["parallelism"], row["workload_version"]) == (
        "tp=8",
        registry.workload("llama-infer").version,
    )
    (summary,) = [
        s
        for s in summarise(store.iter_rows(store.scan(store.files(Path(where))).table))
        if s.first.metric == "tpot_s"
    ]
    assert summary.estimate is not None
    assert (summary.estimate.low, summary.estimate.high) == (row["ci_low"], row["ci_high"])
    _, out, _ = call("show", "--store", where)
    assert "repetition\n" not in out and "1 repetition" not in out


def test_the_table_off_a_terminal_is_plain(call: Call) -> None:
    code, out, _ = call(*BASIC)
    assert code == 0 and "\x1b" not in out
    assert "modelled" in out and "90 % interval" in out and "HBM" in out


def test_validate_prints_its_errors_and_json(call: Call) -> None:
    table = str(Path(__file__).with_name("table.csv"))
    code, out, _ = call("estimate", "--validate", table)
    assert code == 0 and "3 of 6 rows used" in out and "skipped 1: no data sheet" in out
    code, out, _ = call("estimate", "--validate", table, "--json")
    assert code == 0 and json.loads(out)["rows_used"] == 3
    code, out, _ = call("estimate", "--validate", table, "--json", "--rows")
    assert len(json.loads(out)["rows"]) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--workload", "llama-infer"),
        (*BASIC[1:-1], "v99"),
        (*BASIC[1:], "--chips", "0"),
        (*BASIC[1:], "--set", "batch=x"),
        (*BASIC[1:], "--set", "colour=red"),
        (*BASIC[1:], "--set", "dtype=fp3"),
        (*BASIC[1:], "--chips", "8", "--set", "tensor=3"),
        (*BASIC[1:], "--method", "guess"),
        ("--workload", "gemm", "--preset", "x", "--device", "v6e"),
        ("--workload", "llama-infer", "--preset", "secret", "--device", "v6e"),
        (*BASIC[1:-1], "nvidia-h100-nvl"),
        ("--validate", "/nowhere/table.csv"),
        ("--validate", "x.csv", "--device", "v6e"),
        (*BASIC[1:], "--price", "x", "--usd-per-chip-hour", "1"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_two(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call("estimate", *arguments)
    assert code == 2 and not out
    assert err.startswith("tpubench: error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((*BASIC, "--set", "batch=0"), "batch=0: not between 1"),
        ((*BASIC[:-1], "v5p-8", "--chips", "3"), "v5p-8 has 4 chips, --chips says 3"),
        (("estimate", "--validate", "FILE", "--set", "batch=3"), "only --rows and --json"),
        (("estimate", "--validate", "FILE", "--usd-per-chip-hour", "2"), "only --rows and --json"),
    ],
)
def test_what_would_be_ignored_or_replaced_is_refused(
    call: Call, arguments: tuple[str, ...], complaint: str
) -> None:
    table = str(Path(__file__).with_name("table.csv"))
    code, out, err = call(*(table if each == "FILE" else each for each in arguments))
    assert (code, out) == (2, "")
    assert complaint in err and err.count("\n") == 1


def test_a_slice_and_its_own_number_of_chips_agree(call: Call) -> None:
    _, out, _ = call(*BASIC[:-1], "v5p-8", "--chips", "4", "--json")
    assert {row["chips"] for row in json.loads(out)["rows"]} == {4}


def test_a_device_or_software_that_was_never_fitted_for_this_kind_of_run_is_named(
    call: Call,
) -> None:
    _, out, _ = call(*BASIC, "--set", "software=vllm", "--json")
    assert not [note for note in json.loads(out)["notes"] if "no published row" in note]
    # v5p has training rows and no serving rows.
    _, out, _ = call(*BASIC[:-1], "v5p", "--set", "software=zork", "--json")
    notes = " ".join(json.loads(out)["notes"])
    assert "tpu-v5p: no published row was fitted" in notes
    assert "software zork: no published row was fitted" in notes


def test_several_devices_are_estimated_and_none_is_dropped(call: Call) -> None:
    _, out, _ = call(*BASIC, "--device", "h100-sxm", "--json")
    assert {row["device"] for row in json.loads(out)["rows"]} == {"tpu-v6e", "nvidia-h100-sxm"}
    text = call(*BASIC, "--device", "h100-sxm")[1]
    assert "on 1 tpu-v6e chip" in text and "on 1 nvidia-h100-sxm chip" in text
