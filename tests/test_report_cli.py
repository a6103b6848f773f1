"""tpubench report on the command line: the first screen, settings, a plan, one JSON document."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
from command_line import Call, caller

from tpubench.reports.answers.settings import RANGES


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    return caller(monkeypatch, capfd)


def test_report_prints_the_verdicts_after_the_page(call: Call, tmp_path: Path) -> None:
    done = call("report", "published", "--out", str(tmp_path / "page"))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].endswith("report.html")
    assert any(line.startswith("Training (") and "× cheaper" in line for line in lines)
    assert "Serving: none" in lines
    assert max(len(line) for line in lines if not line.startswith(str(tmp_path))) <= 80


def test_show_ends_with_the_verdicts_where_both_sides_are_there(call: Call) -> None:
    both = call("show", "published", "workload=llm-training").out
    assert "Training" in both and "rests on:" in both
    one = call("show", "published", "device=tpu-v7").out
    assert "rests on:" not in one


def test_settings_reach_the_json(call: Call, tmp_path: Path) -> None:
    arguments = ["report", "published", "--json", "--out", str(tmp_path / "page")]
    before = json.loads(call(*arguments).out)["answers"]
    after = json.loads(call(*arguments, "--set", "price[tpu]*=0.5").out)["answers"]
    first, second = (a["works"][0]["verdicts"][0]["compared"] for a in (before, after))
    assert abs(second["ratio"] / first["ratio"] - 2) < 1e-12
    assert {r.path for r in RANGES} <= set(after["settings"])


def test_a_wrong_setting_or_plan_is_one_line(call: Call, tmp_path: Path) -> None:
    for arguments in (["--set", "colour=3"], ["--plan", str(tmp_path / "no.toml")]):
        done = call("report", "published", "--out", str(tmp_path / "page"), *arguments)
        assert done.code == 2
        assert len(done.err.splitlines()) == 1


def test_a_report_comes_in_each_format_and_nothing_else(call: Call, tmp_path: Path) -> None:
    formats = ["--format", "md", "--format", "csv"]
    done = call("report", "published", "--out", str(tmp_path / "page"), *formats)
    assert done.code == 0
    assert sorted(p.name for p in (tmp_path / "page").iterdir()) == ["report.csv", "report.md"]
    markdown = (tmp_path / "page" / "report.md").read_text(encoding="utf-8")
    assert "| Serving | none |" in markdown
    assert "Nvidia 1.88 × cheaper" in markdown
    with (tmp_path / "page" / "report.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    work = [row for row in rows if row["work"].startswith("Training: deepseek-v3")]
    deciding = [row for row in work if row["precision"] == "fp8" and row["decides"]]
    assert {row["device"] for row in deciding} == {"tpu-v7", "nvidia-b200-sxm"}
    assert float(deciding[0]["usd_per_unit"]) > 0
    assert call("report", "published", "--format", "docx").code == 2


def test_pictures_of_the_answers_come_with_png(call: Call, tmp_path: Path) -> None:
    call("report", "published", "--png", "--out", str(tmp_path / "page"))
    assert {p.name for p in (tmp_path / "page").iterdir()} == {
        "report.html",
        "answer-training.png",
        "answer-images.png",
    }


@pytest.mark.browser
def test_the_pdf_is_the_printed_page(call: Call, tmp_path: Path) -> None:
    done = call("report", "published", "--format", "pdf", "--out", str(tmp_path / "page"))
    assert done.code == 0
    printed = (tmp_path / "page" / "report.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 12


def test_without_a_browser_a_pdf_says_what_to_do(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    done = call("report", "published", "--format", "pdf", "--out", str(tmp_path / "page"))
    assert done.code == 2
    assert "needs Chromium" in done.err


def test_the_readers_own_prices_reach_the_report(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[negotiated]]\nid = "our-v7"\nprovider = "gcp"\naccelerator = "tpu-v7"\nterm = "3y"\n'
        'usd_per_chip_hour = 3.0\nincludes_host = true\nsource = "order form"\n'
        "as_of = 2026-10-01\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("TPUBENCH_PRICES", str(own))
    done = call("report", "published", "--json", "--out", str(tmp_path / "page"))
    work = json.loads(done.out)["answers"]["works"][0]
    verdict = work["verdicts"][0]
    assert work["ways"][verdict["tpu"]]["price_id"] == "our-v7"
    assert verdict["at"] == "yours, 3-year contract and on demand"
    assert verdict["compared"]["word"] == "tpu"
