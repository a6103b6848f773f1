"""tpubench report on the command line: the first screen, settings, a plan, one JSON document."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tpubench import cli
from tpubench.reports.answers.settings import RANGES


class Done(NamedTuple):
    """A finished command."""

    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["tpubench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return run


def test_report_prints_the_verdicts_after_the_page(call: Call, tmp_path: Path) -> None:
    done = call("report", "published", "--out", str(tmp_path / "page"))
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].endswith("report.html")
    assert any(line.startswith("Training (") and "× cheaper" in line for line in lines)
    assert "Serving: none" in lines
    assert max(len(line) for line in lines if not line.startswith(str(tmp_path))) <= 80


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
