"""``show`` and ``compare`` of three runs and more, on a terminal, as JSON and as Markdown."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Call, caller
from sample_rows import make_row

from tpubench.results import store as facts

DEVICES = {"tpu-v6e": 100.0, "nvidia-h100-sxm": 200.0, "nvidia-b200-sxm": 50.0, "amd-mi300x": 101.0}


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    for n, (device, value) in enumerate(DEVICES.items()):
        run_id = f"2026010{n + 1}T000000-aaaaa{n}"
        rows = [
            make_row(metric, [size * (1 + 0.01 * i)], device=device, run_id=run_id, repetition=i)
            for metric, size in (("output_tok_s", value), ("ttft_s", 1 / value))
            for i in range(3)
        ]
        facts.write(Path("bench-results"), run_id, rows)
    return caller(monkeypatch, capfd)


def test_each_further_side_stands_against_the_first(call: Call) -> None:
    selectors = [f"device={device}" for device in DEVICES]
    document = call("compare", *selectors, "--json").json()
    assert document["against"] == selectors[0]
    assert [side["selector"] for side in document["sides"]] == selectors[1:]
    for side, value in zip(document["sides"], list(DEVICES.values())[1:], strict=True):
        rates = {one["metric"]: one for one in side["comparisons"]}
        assert rates["output_tok_s"]["ratio"]["point"] == pytest.approx(value / 100.0)
        alone = call("compare", selectors[0], side["selector"], "--json").json()
        assert alone == {k: v for k, v in side.items() if k != "selector"}
    shown = call("compare", *selectors).out
    for text in ("B ÷ A", "C ÷ A", "D ÷ A", "2.000× better", "0.500× worse", "1.010× unclear"):
        assert text in shown, text
    assert "D: device=amd-mi300x" in shown


def test_two_sides_print_what_they_always_did(call: Call) -> None:
    shown = call("compare", "device=tpu-v6e", "device=nvidia-h100-sxm").out
    assert "B is" in shown and "2.000× [" in shown
    assert "two selectors or more" in call("compare", "device=tpu-v6e").error(2)
    wrong = call("compare", "device=tpu-v6e", "device=tpu-v6e", "batch=77").error(2)
    assert "no rows match 'batch=77'" in wrong


def test_a_side_that_shares_nothing_is_named(call: Call) -> None:
    facts.write(Path("bench-results"), "other", [make_row("step_time_s", [1.0], device="tpu-v5e")])
    wrong = call("compare", "device=tpu-v6e", "device=amd-mi300x", "device=tpu-v5e").error(2)
    assert wrong.count("device=tpu-v5e: nothing to compare") == 1


def test_markdown_is_a_table_for_a_pull_request(call: Call) -> None:
    selectors = [f"device={device}" for device in list(DEVICES)[:3]]
    lines = call("compare", *selectors, "--format", "md").out.splitlines()
    assert lines[0] == "A is device=tpu-v6e."
    assert sum(line.startswith("## ") for line in lines) == 2
    (rate, *_) = [line for line in lines if "| output\\_tok\\_s |" in line]
    assert [cell.strip() for cell in rate.split("|")][5].startswith("2.000× \\[")
    runs = [f"2026010{n}T000000-aaaaa{n - 1}" for n in (1, 2, 3)]
    shown = call("show", *runs, "--format", "md").out
    table = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3 * 2
    assert all(f"| {run} |" in shown for run in runs)
    assert "there is md" in call("show", "--format", "xml").error(2)
    assert "give one" in call("show", "--format", "md", "--json").error(2)


def test_three_runs_are_shown_each_under_its_own_heading(call: Call) -> None:
    runs = [f"2026010{n}T000000-aaaaa{n - 1}" for n in (1, 2, 3)]
    shown = call("show", *runs).out
    assert all(f"run {run}" in shown for run in runs)
    rows = call("show", *runs, "--json").json()
    assert {row["run_id"] for row in rows} == {*runs}
