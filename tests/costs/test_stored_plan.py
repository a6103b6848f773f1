"""``allocate --store`` keeps a plan, and ``report`` shows it without solving it again."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Call, caller
from random_plans import random_plan, toml
from sample_rows import make_row

from tpubench.costs.allocation.answer import PlanAnswer, answer
from tpubench.costs.allocation.plan import plan_of
from tpubench.costs.allocation.stored import keep, newest
from tpubench.results import store as facts

NOW = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)


def content() -> dict[str, Any]:
    plan = random_plan(1)
    plan["plan"]["name"] = "Plan <b>one</b>"
    return plan | {"doubt": {"samples": 16}}


@pytest.fixture(scope="module")
def solved() -> PlanAnswer:
    return answer(plan_of(content(), "plan"), ["a remark"])


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TPUBENCH_STORE", raising=False)
    return caller(monkeypatch, capfd)


def test_what_is_kept_is_what_was_solved(solved: PlanAnswer, tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    keep(solved, tmp_path, NOW - dt.timedelta(days=1))
    path = keep(solved, tmp_path, NOW)
    newest_plan, complaints = newest(tmp_path)
    assert (newest_plan, complaints) == (solved, [])
    assert path.name.startswith("20261128T120000-")


def test_a_plan_is_solved_kept_and_shown(call: Call) -> None:
    Path("plan.toml").write_text(toml(content()), encoding="utf-8")
    Path("facts").mkdir()
    document = call("allocate", "plan.toml", "--store", "facts", "--json").json()
    assert Path(document["stored"]).is_file()
    shown = call("report", "--store", "facts", "--json").json()
    assert shown["plan"] == {k: v for k, v in document.items() if k != "stored"}
    page = Path("bench-report/report.html").read_text(encoding="utf-8")
    assert "Profit and loss, expected" in page and "<b>one</b>" not in page
    again = call("allocate", "plan.toml", "--store", "facts", "--answer-only").out
    assert "tpubench report --store facts shows it" in " ".join(again.split())
    assert len([*Path("facts/plans").glob("*.plan.json")]) == 2


def test_the_plan_stands_below_what_was_measured(call: Call, solved: PlanAnswer) -> None:
    facts.write(Path("facts"), "run", [make_row("output_tok_s", [9.0], device="tpu-v6e")])
    keep(solved, Path("facts"), NOW)
    document = call("report", "--store", "facts", "--json", "--format", "html", "--format", "md")
    assert {"answers", "plan", "written"} == document.json().keys()
    page = Path("bench-report/report.html").read_text(encoding="utf-8")
    places = [page.index(text) for text in ('id="answer"', 'id="plan"', "Money by year")]
    assert places == sorted(places)
    assert page.count('id="answer"') == 1
    assert "Plan \\<b\\>one" in Path("bench-report/report.md").read_text(encoding="utf-8")
    assert call("show", "device=tpu-v6e", "--store", "facts", "--json").json()
    assert call("verify", "--store", "facts").out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("[1]", "is it a plan that tpubench stored?"),
        ('{"schema": 1}', "answer: Field required"),
        ("{}", "schema: Field required"),
    ],
)
def test_a_damaged_plan_is_named_and_hides_nothing(
    call: Call, solved: PlanAnswer, text: str, said: str
) -> None:
    Path("facts").mkdir()
    keep(solved, Path("facts"), NOW)
    Path("facts/plans/20990101T000000-aaaaaa.plan.json").write_text(text, encoding="utf-8")
    done = call("report", "--store", "facts", "--json")
    assert "20990101T000000-aaaaaa.plan.json" in done.err and said in done.err
    assert done.code == 0
    assert json.loads(done.out)["plan"]["name"] == solved.name


def test_a_plan_with_a_figure_that_is_none_is_named(solved: PlanAnswer, tmp_path: Path) -> None:
    path = keep(solved, tmp_path, NOW)
    document = json.loads(path.read_text(encoding="utf-8"))
    document["answer"]["objective_usd"] = float("nan")
    path.write_text(json.dumps(document), encoding="utf-8")
    newest_plan, (complaint,) = newest(tmp_path)
    assert newest_plan is None
    assert "no finite number" in complaint or "objective_usd" in complaint
