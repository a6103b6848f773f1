"""``tpubench gate``, ``ab`` and ``history`` from the command line: verdicts, exit codes, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from command_line import Done, caller
from gate_rows import BASE, LATER, NEW, changed, run_of
from junitparser import Error, Failure, JUnitXml

from tpubench import cli
from tpubench.results import store as facts
from tpubench.results.calibration import as_calibration
from tpubench.results.row import Row

STEADY = [100.0, 101.0, 99.0, 100.5, 99.5, 100.2]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def call(monkeypatch, capfd, tmp_path: Path):  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)

    return caller(monkeypatch, capfd)


def put(tmp_path: Path, rows: list[Row]) -> None:
    for row in rows:
        name = f"{row.metric}-{row.repetition:03d}-{abs(hash(row.params))}"
        facts.write(tmp_path / "store", name, [row])


def gate(call, *arguments: str) -> Done:  # type: ignore[no-untyped-def]
    return call("gate", "--baseline", BASE, "--candidate", NEW, *arguments)


@pytest.mark.parametrize(
    ("candidate", "code", "verdict"),
    [
        (run_of(STEADY, NEW), 0, "ok"),
        (run_of([v * 0.8 for v in STEADY], NEW), 1, "regressed"),
        (run_of([100.0], NEW), 3, "inconclusive"),
        (run_of(STEADY, NEW, fingerprint=changed(kernel="6.2")), 4, "refused"),
    ],
)
def test_every_verdict_has_its_exit_code_and_its_files(  # type: ignore[no-untyped-def]
    call, tmp_path: Path, candidate: list[Row], code: int, verdict: str
) -> None:
    put(tmp_path, [*run_of(STEADY), *candidate])
    done = gate(call, "--json", "--junit", "out/gate.xml", "--markdown", "out/gate.md")
    assert done.code == code and done.err == ""
    document = json.loads(done.out)
    assert document["verdict"] == verdict and document["exit_code"] == code
    assert {finding["test"] for finding in document["findings"]} == {"mann-whitney"}
    suite = JUnitXml.fromfile(str(tmp_path / "out" / "gate.xml"))
    assert suite.tests == 1
    results = [result for case in next(iter(suite)) for result in case.result]
    kinds = {0: [], 1: [Failure]}.get(code, [Error])
    assert [type(result) for result in results] == kinds
    assert f"tpubench: {verdict}" in (tmp_path / "out" / "gate.md").read_text(encoding="utf-8")
    text = gate(call)
    assert text.code == code and f"gate: {verdict}" in text.out and "\x1b" not in text.out


def test_hostile_names_stay_text_in_every_output(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    name = "a|b`<img src=x>` [x](http://e) @all \x1b[31m \x00\x08 ]]> & <b>"
    put(tmp_path, [*run_of(STEADY, preset=name), *run_of(STEADY, NEW, preset=name)])
    assert gate(call, "--junit", "g.xml", "--markdown", "g.md").code == 0
    ET.parse(tmp_path / "g.xml")
    table = (tmp_path / "g.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in table if "llama" in line)
    assert row.count("|") == 10
    assert not any(mark in row for mark in ("<img", "](", "`", "@all", "\x1b", "http://"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--baseline", BASE, "--candidate", BASE], "the same rows"),
        (["--baseline", "nothing", "--candidate", NEW], "no run id, file or commit"),
        (["--baseline", "", "--candidate", NEW], "--baseline is empty"),
        (["--baseline", f"{BASE},", "--candidate", NEW], "empty selector"),
        (["--baseline", "batch=77", "--candidate", NEW], "no rows match"),
        (["--baseline", BASE, "--candidate", NEW, "--metric", "speed"], "unknown metric"),
        (["--baseline", BASE, "--candidate", NEW, "--policy", "none.toml"], "cannot read"),
        (["--baseline", BASE, "--candidate", NEW, "--junit", "/proc/x/y"], "cannot write"),
    ],
)
def test_bad_input_is_one_line(call, tmp_path: Path, arguments: list[str], reason: str) -> None:  # type: ignore[no-untyped-def]
    put(tmp_path, [*run_of(STEADY), *run_of(STEADY, NEW)])
    done = call("gate", *arguments)
    assert done.code == 2, done
    (line,) = done.err.strip().splitlines()
    assert reason in line


def test_an_empty_store_and_a_file_from_the_future_are_clear(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "no results" in gate(call).err
    put(tmp_path, run_of(STEADY))
    (newer, *_) = run_of([1.0], NEW, schema_version=99)
    put(tmp_path, [newer])
    done = gate(call)
    assert done.code == 2 and "schema version 99" in done.err


def test_an_alarm_must_be_found_again_where_asked(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    slow = run_of([v * 0.8 for v in STEADY], NEW)
    put(tmp_path, [*run_of(STEADY), *slow, *run_of(STEADY, LATER)])
    assert gate(call).code == 1
    done = gate(call, "--confirm", LATER)
    assert done.code == 0 and "not confirmed" in done.out


def test_a_baseline_by_git_revision_and_by_last_release(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
        done = subprocess.run(
            ["git", *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    shas = []
    for number in range(3):
        git("commit", "--quiet", "--allow-empty", "-m", str(number))
        shas.append(git("rev-parse", "HEAD"))
    git("tag", "v1.9", shas[0])
    git("tag", "v1.10", shas[1])
    put(tmp_path, [*run_of(STEADY, git_sha=shas[0]), *run_of(STEADY, NEW, git_sha=shas[2])])
    for baseline in ("release", "v1.9", "HEAD~2", shas[0]):
        assert call("gate", "--baseline", baseline, "--candidate", "HEAD").code == 0
    done = call("gate", "--baseline", "HEAD~1", "--candidate", "HEAD")
    assert done.code == 2


def repository(commits: int) -> list[str]:
    """A repository in the working directory with so many commits; their names."""
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]

    def git(*arguments: str) -> str:
        command = ["git", *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    for number in range(commits):
        git("commit", "--quiet", "--allow-empty", "-m", str(number))
    return git("rev-list", "--reverse", "HEAD").splitlines()


def judged(call) -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    """Exit code, verdict and first note of a gate without selectors."""
    done = call("gate", "--json")
    document = json.loads(done.out)
    return done.code, document["verdict"], document["notes"][0]


def test_without_selectors_the_first_run_is_the_baseline_of_later_ones(  # type: ignore[no-untyped-def]
    call, tmp_path: Path
) -> None:
    put(tmp_path, run_of(STEADY))
    code, verdict, note = judged(call)
    assert (code, verdict) == (0, "first") and f"run {BASE} is the first" in note
    text = call("gate", "--junit", "g.xml", "--markdown", "g.md")
    assert text.code == 0 and "nothing to compare with yet" in text.out
    assert JUnitXml.fromfile(str(tmp_path / "g.xml")).tests == 0
    put(tmp_path, run_of(STEADY, NEW))
    code, verdict, note = judged(call)
    assert (code, verdict) == (0, "ok") and f"run {BASE}, the first" in note
    put(tmp_path, run_of([v * 0.8 for v in STEADY], LATER))
    assert judged(call)[:2] == (1, "regressed")


def test_without_selectors_the_last_release_goes_before_the_first_run(  # type: ignore[no-untyped-def]
    call, tmp_path: Path
) -> None:
    shas = repository(4)
    for tag, sha in (("v1.9", shas[0]), ("v1.10", shas[1]), ("nightly", shas[2])):
        subprocess.run(["git", "tag", tag, sha], check=True)
    put(tmp_path, run_of([50.0] * 6, BASE, git_sha=shas[0]))
    put(tmp_path, run_of(STEADY, NEW, git_sha=shas[1]))
    put(tmp_path, run_of(STEADY, LATER, git_sha=shas[3]))
    code, verdict, note = judged(call)
    assert (code, verdict) == (0, "ok") and f"release v1.10, commit {shas[1][:12]}" in note


def test_a_run_of_the_release_itself_is_held_against_an_earlier_one(  # type: ignore[no-untyped-def]
    call, tmp_path: Path
) -> None:
    (sha,) = repository(1)
    subprocess.run(["git", "tag", "v1.0", sha], check=True)
    put(tmp_path, run_of(STEADY, BASE, git_sha=sha))
    assert call("gate", "--baseline", "release").code == 2
    assert judged(call)[1] == "first"
    put(tmp_path, run_of(STEADY, NEW, git_sha=sha))
    for arguments in ([], ["--baseline", "release"]):
        done = call("gate", *arguments)
        assert done.code == 0 and "release v1.0" in done.out


def test_what_measured_the_machine_is_not_gated_and_no_headline(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def peak(rate: float, run_id: str) -> list[Row]:
        rows = run_of([rate], run_id, metric="flop_s", workload="gemm", params='{"m": 2048}')
        return [as_calibration(row) for row in rows]

    put(tmp_path, [*run_of(STEADY), *peak(1e12, BASE)])
    put(tmp_path, [*run_of(STEADY, NEW), *peak(1e11, NEW)])
    done = call("gate", "--json")
    assert done.code == 0
    assert {finding["metric"] for finding in json.loads(done.out)["findings"]} == {"output_tok_s"}
    compared = call("compare", BASE, NEW, "--json").out
    assert "output_tok_s" in compared and "flop_s" not in compared
    sides = [f"run_id={run},workload=gemm" for run in (BASE, NEW)]
    assert "flop_s" in call("compare", *sides, "--json").out


def test_history_names_the_commit_where_the_level_changed(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for day in range(20):
        level = (100.0 if day < 12 else 90.0) + 0.1 * (day % 3)
        when = f"202601{day + 1:02d}T000000-aaaaaa"
        rows = run_of([level, level * 1.001], when, git_sha=f"{day:040x}")
        put(tmp_path, [_at(row, day) for row in rows])
    done = call("history", "--json", "--out", "h.png")
    (series,) = json.loads(done.out)["series"]
    (change,) = series["changes"]
    assert (change["index"], change["worse"]) == (12, True)
    assert change["ratio"] == pytest.approx(0.9, abs=0.01)
    assert (tmp_path / "h.png").read_bytes().startswith(b"\x89PNG")
    text = call("history").out
    assert f"commit {12:040x}"[:17] in text and "(worse)" in text and "Advisory" in text
    assert call("history", "--metric", "mfu").code == 2
    wrong = call("history", "--out", "h.txt")
    assert wrong.code == 2 and ".png" in wrong.err and not Path("h.txt").exists()
    few = call("history", "latest")
    assert few.code == 0 and "1 run: change points need at least 4" in few.out


def test_history_follows_what_there_is(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A store of images once had "no value of output_tok_s", and that was all."""
    put(tmp_path, run_of([30.0, 31.0], metric="samples_s"))
    assert "samples_s of" in call("history").out
    wrong = call("history", "--metric", "ttft_s")
    assert wrong.code == 2 and "no run among these has a value of ttft_s; they have" in wrong.err


def _at(row: Row, day: int) -> Row:
    import dataclasses
    import datetime as dt

    return dataclasses.replace(row, started_at=dt.datetime(2026, 1, day + 1, tzinfo=dt.UTC))


def test_history_survives_without_otava_and_its_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    from tpubench.results.history import change_points

    values = [1.0, 1.1, 1.0, 1.1, 2.0, 2.1]
    monkeypatch.setitem(sys.modules, "otava.analysis", None)
    assert "tpubench[history]" in (change_points(values, "lower")[1] or "")
    monkeypatch.setitem(sys.modules, "otava.analysis", json)  # has no such function
    assert "could not analyse" in (change_points(values, "lower")[1] or "")
    assert change_points([1.0] * 9, "lower") == ([], None)


def test_ab_says_what_it_would_do(call) -> None:  # type: ignore[no-untyped-def]
    arguments = ["ab", "--baseline", "set:steps=1", "--workload", "gemm", "--backend", "fake"]
    arguments += ["--preset", "square-512", "--set", "dtype=float32", "--candidate", "set:steps=2"]
    planned = json.loads(call(*arguments, "--dry-run", "--json").out)
    assert planned["cases"][0]["candidate"]["steps"] == 2 and planned["design"] == ["duet"]
    assert "steps: 1 → 2" in call(*arguments, "--dry-run").out
    assert "--design 'solo'" in call(*arguments, "--design", "solo").err
    assert call(*arguments, "--quads", "0").code == 2


@pytest.mark.parametrize(
    ("name", "schema"), [("github.yml", "github-workflows"), ("gitlab.yml", "gitlab-ci")]
)
def test_the_workflows_in_the_documentation_are_valid(name: str, schema: str) -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    path = ROOT / "docs" / "ci" / name
    done = subprocess.run([*check, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    known = set(cli_options())
    for word in path.read_text(encoding="utf-8").split():
        if word.startswith("--") and word not in {"--body-file", "--edit-last", "--create-if-none"}:
            assert word in known, word


def nightly_steps() -> str:
    """What the nightly job of the documentation runs, as one script; nothing is installed."""
    job = yaml.safe_load((ROOT / "docs" / "ci" / "github.yml").read_text(encoding="utf-8"))
    steps = [step["run"] for step in job["jobs"]["nightly"]["steps"] if "run" in step]
    return "\n".join(f"( {step} )" for step in steps if not step.startswith("pip"))


@pytest.mark.parametrize("backend", ["fake", pytest.param("cpu", marks=pytest.mark.nightly)])
def test_the_nightly_job_of_the_documentation_is_green_on_an_unchanged_machine(
    tmp_path: Path, backend: str
) -> None:
    script = nightly_steps().replace("tpubench run", f"tpubench run --backend {backend}")
    if backend == "fake":
        script = script.replace("--repeats 8", "--repeats 5 --set output_len=2")
    variables = {
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    (tmp_path / "home").mkdir()
    verdicts = []
    for _night in range(2):
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=tmp_path / "home",
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        verdicts.append(done.stdout.partition("gate: ")[2].splitlines()[0])
    assert verdicts[0] == "nothing to compare with yet"
    assert verdicts[1] == "ok" or (backend == "cpu" and verdicts[1] == "inconclusive")


def cli_options() -> list[str]:
    import typer.main

    group = typer.main.get_command(cli.app)
    commands = group.commands  # type: ignore[attr-defined]
    return [
        option
        for name in ("ab", "gate", "run", "history")
        for parameter in commands[name].params
        for option in parameter.opts
    ]


BENCHMARK = """
def test_gemm(tpubench_workload):
    tpubench_workload("gemm", preset="square-512", backend="cpu", compile_mode="eager",
                      settings={"m": 8, "n": 8, "k": 8, "dtype": "float32"})
"""


def test_a_workload_runs_under_pytest_benchmark(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BENCHMARK)
    command = [sys.executable, "-m", "pytest", "-q"]  # the plugin is found by its entry point
    options = ["--benchmark-json", "b.json", "--benchmark-save-data", "--rootdir", str(tmp_path)]
    options += ["--benchmark-max-time", "0.05", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, *options, "test_it.py"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (benchmark,) = json.loads((tmp_path / "b.json").read_text())["benchmarks"]
    assert benchmark["extra_info"]["tpubench"]["workload"] == "gemm"
    assert benchmark["stats"]["data"]
    without = subprocess.run(
        [*command, "-p", "no:benchmark", "-c", "/dev/null", "test_it.py"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert without.returncode == 1 and "pip install pytest-benchmark" in without.stdout


def test_the_plugin_loads_nothing_heavy() -> None:
    code = (
        "import sys, pytest; before = set(sys.modules); import tpubench.suite.pytest_plugin;"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {
        "tpubench",
        "tpubench.suite",
        "tpubench.suite.pytest_plugin",
    }
