"""``tpubench plan init``: what is known is written, the rest asked for or marked as nobody's."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from command_line import caller
from sample_rows import make_row

from tpubench.costs.allocation.plan import read_plan
from tpubench.costs.drafts.questions import Question, answered
from tpubench.costs.drafts.works import find_works
from tpubench.errors import UsageError
from tpubench.results import published, store
from tpubench.results.row import Row

LLAMA = "llama-infer tiny, 1024 in 1024 out"
KNOWN = {
    "plan.years": "3",
    "plan.wacc": "0.09",
    "plan.utilisation": "0.6",
    f"workload[{LLAMA}].demand_mtok_first": "2e6",
    f"workload[{LLAMA}].growth": "0.3",
}


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    return caller(monkeypatch, capfd)


def rates(
    device: str, value: float, *, batch: int = 8, n: int = 3, length: int = 1024, **changes: Any
) -> list[Row]:
    """Repetitions of one case, 5 % apart."""
    params = {"batch": batch, "dtype": "bfloat16", "input_len": length, "output_len": 1024}
    return [
        make_row(
            metric=metric, samples=[size], device=device, repetition=i, params=json.dumps(params),
            ci_low=None, ci_high=None, **changes,
        )
        for i in range(n)
        for metric, size in (
            ("output_tok_s_per_chip", value * 1.05**i),
            ("tpot_s", batch * 0.002),
        )
    ]  # fmt: skip


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    """A TPU and a GPU, measured at two batch sizes, the lengths a little apart."""
    folder = tmp_path / "facts"
    for name, device, speed, length in (
        ("a", "tpu-v6e", 1000.0, 1000),
        ("b", "nvidia-h100-sxm", 2000.0, 1024),
    ):
        for batch in (8, 64):
            rows = rates(device, speed * batch / 8, batch=batch, length=length)
            store.write(folder, f"{name}-{batch}", rows)
    return folder


def known(**more: str) -> list[str]:
    return [part for p, v in {**KNOWN, **more}.items() for part in ("--set", f"{p}={v}")]


def test_a_draft_of_measured_rows_is_solved_with_its_intervals(run: Any, facts: Path) -> None:
    name = "llama-infer tiny, 1000 in 1024 out"
    answers = [text.replace(LLAMA, name) for text in known()]
    code, out, err = run("plan", "init", "--store", str(facts), *answers)
    assert code == 0, err
    assert "placeholder" not in out
    plan = read_plan(Path("plan.toml"))
    assert [work.name for work in plan.workload] == [name]  # 1000 and 1024 are one work
    assert {t.accelerator for t in plan.throughput} == {"tpu-v6e", "nvidia-h100-sxm"}
    assert all(t.from_store and t.from_store.model_extra["batch"] == 64 for t in plan.throughput)
    assert plan.plan.placeholders == []
    code, out, err = run("allocate", "plan.toml", "--store", str(facts), "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["evidence"] == {"measured": 2}
    doubts = {d["input"]: d for d in answer["verdict"]["doubts"]}
    of_tpu = doubts[f"throughput of {name} on tpu-v6e"]
    # Student's t on three logarithms 5 % apart: ± 4.3027 × ln(1.05) ÷ √3.
    assert of_tpu["high"] == pytest.approx(1.05 ** (4.3027 / 3**0.5), rel=1e-4)
    assert of_tpu["source"].startswith("measured")


def test_nobody_to_ask_and_no_answer_names_every_figure(run: Any, facts: Path) -> None:
    code, out, err = run("plan", "init", "--store", str(facts))
    assert (code, out) == (2, "")
    assert all(path in err for path in ("plan.years", "plan.wacc", "growth", "--yes"))
    assert err.count("\n") == 1
    assert not Path("plan.toml").exists()


def test_placeholders_are_marked_until_they_are_replaced(run: Any, facts: Path) -> None:
    code, out, err = run("plan", "init", "--store", str(facts), "--yes", "--json")
    assert code == 0, err
    listed = json.loads(out)["placeholders"]
    text = Path("plan.toml").read_text(encoding="utf-8")
    assert text.count("# PLACEHOLDER") == len(listed) >= 5
    assert tomllib.loads(text)["plan"]["placeholders"] == listed
    given = ("allocate", "plan.toml", "--store", str(facts), "--answer-only", "--set")
    code, out, err = run(*given, "plan.wacc=0.1")
    assert code == 0, err
    assert f"{len(listed) - 1} of its figures are placeholders" in " ".join(out.split())
    bad = text.replace('"plan.wacc"', '"plan.colour"')
    Path("plan.toml").write_text(bad, encoding="utf-8")
    assert "no input 'plan.colour'" in run(*given, "plan.wacc=0.1")[2]


def test_what_is_bought_is_asked_for_in_full(run: Any, facts: Path) -> None:
    capex = "accelerator[tpu-v6e].buy.capex_usd"
    code, _, err = run("plan", "init", "--store", str(facts), "--set", f"{capex}=9000")
    assert code == 2
    assert "accelerator[tpu-v6e].buy.lead_months" in err
    assert "site.usd_per_kwh" in err
    code, _, err = run("plan", "init", "--store", str(facts), "--yes", "--set", f"{capex}=9000")
    assert code == 0, err
    plan = read_plan(Path("plan.toml"))
    bought = {chip.name: chip.buy for chip in plan.accelerator}
    assert bought["tpu-v6e"] is not None
    assert bought["tpu-v6e"].capex_usd == 9000
    assert bought["nvidia-h100-sxm"] is None
    assert "site.pue" in plan.plan.placeholders
    code, _, err = run("allocate", "plan.toml", "--store", str(facts), "--answer-only")
    assert code == 0, err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan.wacc=high", "write a number"),
        ("plan.wacc=2", "at most 1"),
        ("plan.years=2.5", "whole number"),
        ("plan.colour=1", "nothing asks for it"),
        ("plan.wacc*=2", "nothing to multiply"),
        ("limits.megawatts=5", "nothing asks for it"),
    ],
)
def test_a_bad_answer_is_one_line(run: Any, facts: Path, text: str, message: str) -> None:
    code, out, err = run("plan", "init", "--store", str(facts), "--yes", "--set", text)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert not Path("plan.toml").exists()


def test_a_file_is_not_written_over(run: Any, facts: Path) -> None:
    Path("plan.toml").write_text("mine", encoding="utf-8")
    code, _, err = run("plan", "init", "--store", str(facts), "--yes")
    assert code == 2
    assert "exists already" in err
    assert Path("plan.toml").read_text(encoding="utf-8") == "mine"


def test_cases_that_miss_their_goal_are_left_out_and_named(run: Any, facts: Path) -> None:
    code, out, err = run(
        "plan", "init", "--store", str(facts), "--yes", "--max-tpot-s", "0.05", "--json"
    )
    assert code == 0, err
    assert sum("tpot_s 0.128 s misses 0.05 s" in line for line in json.loads(out)["left_out"]) == 2
    plan = read_plan(Path("plan.toml"))
    assert all(t.from_store and t.from_store.model_extra["batch"] == 8 for t in plan.throughput)
    assert all(t.from_store and t.from_store.max_tpot_s == 0.05 for t in plan.throughput)


def test_a_query_that_fits_several_cases_says_what_tells_them_apart(run: Any, facts: Path) -> None:
    run("plan", "init", "--store", str(facts), "--yes")
    text = Path("plan.toml").read_text(encoding="utf-8")
    given = ("allocate", "plan.toml", "--store", str(facts), "--answer-only")
    Path("plan.toml").write_text(text.replace("batch = 64, ", ""), encoding="utf-8")
    code, _, err = run(*given)
    assert code == 2
    assert "narrow it with batch = 8 or 64" in err or "narrow it with batch = 64 or 8" in err
    Path("plan.toml").write_text(text.replace("batch = 64", "batch = 9"), encoding="utf-8")
    code, _, err = run(*given)
    assert code == 2
    assert "no stored row in" in err
    assert "batch = " in err


@pytest.mark.parametrize(
    "workload", ["llm-serving", "llm-static", "mlperf-inference", "llm-offline"]
)
def test_shipped_published_results_make_plans_that_are_solved(run: Any, workload: str) -> None:
    """Figures that others published, copied with their source."""
    rows = [row for row in published.rows() if row.workload == workload]
    works, _ = find_works(rows, "output_tok_s_per_chip", None, None)
    preset = max(works, key=lambda w: len(w.speeds)).speeds[0].summary.first.preset
    narrow = [f"workload={workload}", f"preset={preset}"]
    code, out, err = run("plan", "init", "published", *narrow, "--yes", "--json", "--store", "no")
    if "pieces of work" in err:
        narrow.append("input_len=1000" if workload == "llm-offline" else "round=v5.1")
        code, out, err = run(
            "plan", "init", "published", *narrow, "--yes", "--json", "--store", "no"
        )
    assert code == 0, err
    assert json.loads(out)["throughputs"].keys() == {"published"}
    code, out, err = run("allocate", "plan.toml", "--answer-only", "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert answer["placeholders"]
    assert answer["verdict"]["next_dollar"] is not None


def test_a_person_is_asked_again_after_a_reply_that_is_none(facts: Path) -> None:
    from tpubench.costs.drafts.init import _facts
    from tpubench.devices.prices import prices

    rows = list(store.iter_rows(store.scan(store.files(facts)).table))
    works, _ = find_works(rows, "output_tok_s_per_chip", None, None)
    replies = {"plan.years": ["many", "4"], "plan.wacc": [""]}
    complaints = []

    def ask(question: Question, complaint: str) -> str:
        complaints.append(complaint)
        left = replies.get(question.path, [])
        return left.pop(0) if left else ""

    answers, open_ones = answered(_facts(works, prices()), {}, ask)
    assert answers == {"plan.years": 4.0}
    assert any("write a number" in text for text in complaints)
    assert "plan.wacc" in {question.path for question in open_ones}
    with pytest.raises(UsageError, match="nothing asks for it"):
        answered(_facts(works, prices()), {"site.pue": "1.2"}, ask)
