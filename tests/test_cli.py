"""The command line: exit codes, one error line, JSON alone on stdout, plain text off a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import Done, caller
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import make_row

from tpubench.results import store as facts
from tpubench.results.row import COLUMNS

FAKE = ["run", "--workload", "llama-infer", "--backend", "fake", "--preset", "tiny"]
SMALL = [*FAKE, "--set", "batch=1", "--set", "input_len=4", "--set", "output_len=3"]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> object:
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    return caller(monkeypatch, capfd)


def one_error_line(done: Done, code: int) -> str:
    assert done.code == code, done
    assert done.out == ""
    (line,) = done.err.strip().splitlines()
    assert line.startswith("tpubench: error: ")
    return line


def test_run_json_is_the_contract_and_nothing_else(call) -> None:  # type: ignore[no-untyped-def]
    done = call(*SMALL, "--repeats", "1", "--json", "--usd-per-chip-hour", "1.2")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert set(document) == {"run_id", "store", "rows"}
    assert all(list(row) == list(COLUMNS) for row in document["rows"])
    assert document["rows"][0]["params"]["batch"] == 1  # objects, not strings of JSON
    assert document["rows"][0]["environment"]["timing"]["steadiness"]
    (stored,) = facts.files(Path(document["store"]))
    assert stored.parent.name == document["run_id"]
    (cost,) = [row for row in document["rows"] if row["metric"] == "usd_per_mtok_out"]
    assert cost["price_id"] == "given" and cost["value"] > 0


def test_prompt_ids_add_generated(call) -> None:  # type: ignore[no-untyped-def]
    done = call(*FAKE, "--prompt-ids", "5,6", "--set", "output_len=3", "--repeats", "1", "--json")
    generated = json.loads(done.out)["generated"]
    assert len(generated["ids"]) == 3 and generated["text"] is None


def test_a_run_prints_its_table_and_where_it_is_and_definitions_when_asked(call) -> None:  # type: ignore[no-untyped-def]
    done = call(*SMALL, "--repeats", "2")
    assert done.code == 0
    for text in ("output_tok_s", "modelled", "2 repetitions", "is stored in", "--explain"):
        assert text in done.out
    assert "÷ window" not in done.out
    assert "output_tok_s: output tokens ÷ window" in call("show", "--explain").out
    assert "[2/2]" in done.err
    assert "\x1b" not in done.out + done.err


def test_a_run_with_a_failure_exits_5_and_keeps_the_rest(call, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TPUBENCH_FAKE", '{"faults": {"0": ["build", "abort"]}}')
    done = call(*SMALL, "--repeats", "2")
    assert done.code == 5
    assert "killed by SIGABRT in phase build" in done.err
    assert call("show", "status=ok").code == 0


def test_dry_run_runs_nothing(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = call(*SMALL, "--dry-run", "--json")
    plan = json.loads(done.out)
    assert plan["cases"][0]["flops_per_pass"] > 0
    assert not (tmp_path / "store").exists()
    assert "nothing was run" in call(*SMALL, "--dry-run").out


def test_show_verify_and_lists_speak_json_and_text(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    facts.write(tmp_path / "store", "case", [make_row(), make_row("ttft_s", reason="=1+1")])
    assert len(json.loads(call("show", "--json").out)) == 2
    csv = call("show", "--csv").out
    assert csv.startswith("schema_version,") and "'=1+1" in csv
    assert "10.9 tok/s" in call("show", "latest", "metric=output_tok_s").out
    assert call("show", "metric=mfu").out == "no rows match\n"
    verified = json.loads(call("verify", "--json").out)
    assert (verified["files"], verified["rows"]) == (1, 2)
    assert verified["problems"] == verified["tampered"] == []
    assert [each["file"] for each in verified["seals"]["not_covered"]], "no run wrote it"
    for what in ("workloads", "backends", "devices", "metrics", "presets"):
        assert json.loads(call("list", what, "--json").out)
        assert call("list", what).code == 0
    assert json.loads(call("doctor", "--json").out)["findings"]
    assert "ready" in call("doctor").out


def test_verify_names_the_damaged_file_and_exits_1(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = facts.write(tmp_path / "store", "case", [make_row()])
    path.write_bytes(path.read_bytes()[:-30])
    done = call("verify")
    assert done.code == 1
    assert str(path) in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["run"], 2, "--workload"),
        (["fly"], 2, "fly"),
        (["run", "--workload", "lama"], 2, "unknown workload 'lama'"),
        ([*FAKE[:-1], "gigantic"], 2, "no preset 'gigantic'"),
        ([*FAKE, "--set", "batch"], 2, "write KEY=VALUE"),
        ([*FAKE, "--set", "size=1"], 2, "no parameter 'size'"),
        ([*FAKE, "--set", "batch=-1"], 2, "below 1"),
        ([*FAKE, "--set", "batch=1", "--set", "batch=2"], 2, "given twice"),
        ([*FAKE, "--set", "dtype=float3"], 2, "not one of float32"),
        (["run", "-w", "gemm", "--backend", "abacus"], 2, "unknown backend 'abacus'"),
        ([*FAKE, "--repeats", "0"], 2, "below 1"),
        ([*FAKE, "--timeout", "nan"], 2, "--timeout"),
        ([*FAKE, "--chips", "2"], 2, "--chips 2"),
        ([*FAKE, "--seed", "-1"], 2, "below 0"),
        ([*FAKE, "--price", "free"], 2, "free"),
        ([*FAKE, "--usd-per-chip-hour", "-1"], 2, "-1"),
        ([*FAKE, "--usd-per-chip-hour", "nan"], 2, "nan"),
        ([*FAKE, "--prompt-ids", "a,b"], 2, "whole numbers"),
        ([*FAKE, "--prompt-ids", "1", "--prompt", "x"], 2, "not both"),
        ([*FAKE, "--python", "/nonexistent/python"], 2, "not an executable"),
        ([*FAKE[:-2], "--weights", "/nonexistent"], 2, "/nonexistent"),
        ([*FAKE, "--weights", "/nonexistent"], 2, "--weights or --preset"),
        ([*FAKE, "--store", "/proc/nowhere"], 2, "cannot be written"),
        (["show"], 2, "no results"),
        (["verify"], 2, "no results"),
        (["report", "latest"], 2, "no results"),
        (["list", "colours"], 2, "cannot list 'colours'"),
    ],
)
def test_bad_input_is_one_line_and_the_right_code(  # type: ignore[no-untyped-def]
    call, arguments: list[str], code: int, reason: str
) -> None:
    assert reason in one_error_line(call(*arguments), code)


OPTIONS = [
    *("--workload", "--backend", "--preset", "--set", "--repeats", "--weights", "--prompt"),
    *("--prompt-ids", "--python", "--compile-mode", "--timeout", "--chips", "--price"),
    *("--usd-per-chip-hour", "--store", "--json", "--seed"),
]
ODDITIES = ["\x00", "=", "batch=", "batch=1,,2", "9" * 400, "-1", "1e999", "nan", "../.."]
WORDS = st.one_of(
    st.sampled_from([*OPTIONS, "run", "show", "list", "llama-infer", "tiny", "batch=1", "latest"]),
    st.sampled_from(["runs", "merge", "tag", "note", "delete", "restore", "--into", "tag=x", ""]),
    st.sampled_from(
        ["\x00", "=", "batch=", "batch=1,,2", "9" * 400, "-1", "1e999", "nan", "../.."]
    ),
    st.text(max_size=12),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=st.lists(WORDS, max_size=7))
def test_no_input_leads_to_a_traceback(call, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    command = [*words, "--dry-run"] if "run" in words[:1] else words
    done = call(*(word.replace("\x00", "␀") for word in command))
    assert done.code in {0, 1, 2, 5}
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("environment", "redirect", "code"),
    [
        ({"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}, "/dev/null", 0),
        ({}, "/dev/full", 2),
        ({"TPUBENCH_FAKE": "not json"}, "/dev/null", 0),
    ],
)
def test_an_odd_terminal_leads_to_no_traceback(
    environment: dict[str, str], redirect: str, code: int
) -> None:
    with Path(redirect).open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "tpubench.cli", "list", "backends"],
            env={**os.environ, **environment},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tpubench.cli", "show", "--store", str(tmp_path / "none")],
        env={**os.environ, "TPUBENCH_DEBUG": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" in done.stderr


def test_import_stores_another_tools_result_once(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    throughput = {
        "elapsed_time": 10.0,
        "num_requests": 100,
        "total_num_tokens": 51200,
        "requests_per_second": 10.0,
        "tokens_per_second": 5120.0,
    }
    path = tmp_path / "throughput.json"
    path.write_text(json.dumps(throughput), encoding="utf-8")
    command = ["import", "auto", str(path), "--device", "v6e-4"]
    document = json.loads(call(*command, "--json").out)
    rates = {row["metric"]: row["value"] for row in document["rows"]}
    assert rates["total_tok_s_per_chip"] == 1280.0
    assert call("verify").code == 0
    assert "imported already" in call(*command).out
    assert "vllm-bench" in call("import", "list").out


def test_compare_takes_published_results_of_two_devices(call) -> None:  # type: ignore[no-untyped-def]
    kind = "published,workload=mlperf-inference,device"
    done = call("compare", f"{kind}=tpu-v6e", f"{kind}=nvidia-h100-sxm", "--json")
    assert done.code == 0, done.err
    comparisons = json.loads(done.out)["comparisons"]
    assert {one["preset"] for one in comparisons} == {"stable-diffusion-xl"}
    assert {tuple(one["evidence"]) for one in comparisons} == {("published", "published")}


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_report_of_a_store_that_is_not_there_is_an_error(  # type: ignore[no-untyped-def]
    call, tmp_path: Path, how: str
) -> None:
    (tmp_path / "empty").mkdir()
    named = [("--store", "wrong"), ("--store", "empty")] if how == "option" else [()]
    for options in named:
        assert "no results in" in one_error_line(call("report", *options), 2)
    assert not (tmp_path / "bench-report").exists()


def test_a_report_with_no_store_at_all_compares_published_results(  # type: ignore[no-untyped-def]
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TPUBENCH_STORE")
    done = call("report", "--out", str(tmp_path / "page"))
    assert done.code == 0
    assert "none of them measured here" in done.err
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "P(TPU cheaper)" in page


def test_no_command_is_answered_with_the_help_alone(call) -> None:  # type: ignore[no-untyped-def]
    done = call()
    assert done.code == 2 and "Usage:" in done.out and done.err == ""


def test_the_version_is_said(call) -> None:  # type: ignore[no-untyped-def]
    done = call("--version")
    assert done.code == 0 and re.fullmatch(r"tpubench \d+\.\d+\.\d+\S*\n", done.out)


def test_units_in_headings_are_written_as_units(call) -> None:  # type: ignore[no-untyped-def]
    listed = call("list", "devices").out
    assert "TFLOP/s" in listed and "GB/s" in listed


def test_a_broken_configuration_is_a_finding_of_doctor(  # type: ignore[no-untyped-def]
    call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[backends\n")
    monkeypatch.setenv("TPUBENCH_CONFIG", str(broken))
    done = call("doctor")
    assert done.code == 0
    assert "missing configuration" in done.out and "mend or remove" in done.out
    assert "cpu" in done.out
