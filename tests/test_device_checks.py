"""The scripts for whoever owns a GPU or a TPU run to their end, on what every machine has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REHEARSAL = {
    "REHEARSE": "1",
    "BACKEND": "fake",
    "PRESET": "tiny",
    "TRAIN": "tiny",
    "SQUARE": "square-512",
    "TPUBENCH": str(Path(sys.executable).parent / "tpubench"),
    "PYTHON": sys.executable,
}


def script(name: str, out: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / name)],
        env={**os.environ, **REHEARSAL, "OUT": str(out), **changes},
        capture_output=True,
        text=True,
        errors="replace",  # long lines are cut, perhaps in the midst of a character
        timeout=1800,
        check=False,
    )


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """What PYTHONPATH is on a machine that lacks the libraries of large stores and of plans."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('duckdb', 'highspy'):\n    sys.modules[name] = None\n"
    )
    return str(tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["gpu_check.sh", "tpu_check.sh"])
def test_every_step_passes_on_the_scripted_device(name: str, tmp_path: Path, bare: str) -> None:
    done = script(name, tmp_path, PYTHONPATH=bare)
    assert done.returncode == 0, done.stdout[-3000:]
    assert {"gemm.log", "infer.log", "train.log", "verify.log"} <= {
        path.name for path in (tmp_path / "logs").iterdir()
    }
    assert (tmp_path / "report" / "report.html").exists()
    assert list((tmp_path / "store").rglob("*.parquet"))


def test_a_step_that_fails_is_named_and_costs_no_other(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text('#!/bin/sh\n[ "$1" != doctor ] || exit 3\necho "$@"\n')
    tool.chmod(0o755)
    done = script("gpu_check.sh", tmp_path / "out", TPUBENCH=str(tool), PYTHON=str(tool))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "failed: doctor"
    assert "report --out" in (tmp_path / "out" / "logs" / "report.log").read_text()


@pytest.fixture
def tool(tmp_path: Path) -> str:
    """Stands in for tpubench and python: says what it was asked."""
    script = tmp_path / "tool"
    script.write_text('#!/bin/sh\necho "$@"\n')
    script.chmod(0o755)
    return str(script)


def begun(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split()[1] for line in done.stdout.splitlines() if re.match(r"=== \w+ \[", line)]


def test_either_half_of_the_check_runs_on_a_machine_of_its_own(tmp_path: Path, tool: str) -> None:
    steps = {
        part: begun(
            script("gpu_check.sh", tmp_path / part, TPUBENCH=tool, PYTHON=tool, REHEARSE="",
                   BACKEND="cuda", PART=part, WHEELS=str(tmp_path))
        )
        for part in ("1", "2")
    }  # fmt: skip
    before, after = ["install", "driver"], ["verify", "report"]
    assert steps["1"] == [*before, "doctor", "hbm", "gemm", "infer", "train", *after]
    assert steps["2"] == [*before, "flex", "modes", "peers", "float32", "tuned", *after]


def test_single_steps_can_be_named(tmp_path: Path, tool: str) -> None:
    done = script("gpu_check.sh", tmp_path, TPUBENCH=tool, PYTHON=tool, STEPS="gemm train")
    assert begun(done) == ["gemm", "train"]


def test_what_there_is_no_time_for_is_left_out_and_named(tmp_path: Path, tool: str) -> None:
    done = script("gpu_check.sh", tmp_path, TPUBENCH=tool, PYTHON=tool, STEPS="gemm", BUDGET="0")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "failed: gemm")
    assert "gemm: left out, 0 s are over" in (tmp_path / "summary.txt").read_text()


def test_a_step_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    said = tmp_path / "tool"
    said.write_text(
        "#!/bin/sh\necho '[1/1] gemm repetition 1 invalid: parity'\necho more\nexit 5\n"
    )
    said.chmod(0o755)
    script("gpu_check.sh", tmp_path, TPUBENCH=str(said), STEPS="gemm")
    (line, _whole) = (tmp_path / "summary.txt").read_text().splitlines()
    assert line.startswith("--- gemm: exit 5 after ")
    assert line.endswith("[1/1] gemm repetition 1 invalid: parity")


def test_the_figures_of_a_step_are_its_line_and_whole_characters(tmp_path: Path) -> None:
    table = "".join(f"│ figure_{n} │ {n} µs — (1) │\\n" for n in range(40))
    said = tmp_path / "tool"
    said.write_text(f"#!/bin/sh\nprintf '{table}'\n", "utf-8")
    said.chmod(0o755)
    script("gpu_check.sh", tmp_path, TPUBENCH=str(said), STEPS="gemm")
    line = (tmp_path / "summary.txt").read_text("utf-8").splitlines()[0]
    assert "figure_0 0 µs — (1) ; figure_1 1 µs — (1) ;" in line


def test_a_check_that_is_ended_from_outside_has_kept_its_logs_in_two_files(tmp_path: Path) -> None:
    slow = tmp_path / "tool"
    slow.write_text('#!/bin/sh\necho "began $*"\n[ "$1" != run ] || exec sleep 600\n')
    slow.chmod(0o755)
    out = tmp_path / "out"
    running = subprocess.Popen(
        ["bash", str(ROOT / "benchmarks" / "gpu_check.sh")],
        env={**os.environ, **REHEARSAL, "TPUBENCH": str(slow), "STEPS": "doctor gemm",
             "OUT": str(out), "WORK": str(tmp_path / "work")},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("=== gemm"):
            break
    running.terminate()
    running.communicate(timeout=60)
    assert sorted(path.name for path in out.iterdir()) == ["kept.tgz", "summary.txt"]
    with tarfile.open(out / "kept.tgz") as archive:
        log = archive.extractfile("./logs/doctor.log")
        assert log is not None and log.read() == b"began doctor\n"


def test_a_machine_that_measures_needs_no_library_of_large_stores_or_of_plans(
    tmp_path: Path, bare: str
) -> None:
    """A machine without a package index had torch, pandas and scipy, and neither of the two."""

    def tpubench(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [REHEARSAL["TPUBENCH"], *words], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": bare, "TPUBENCH_STORE": "store"}, check=False,
        )  # fmt: skip

    measured = ("--workload", "gemm", "--preset", "square-512", "--set", "dtype=bfloat16")
    for words in (
        ("doctor",),
        ("run", "--backend", "fake", "--repeats", "1", *measured),
        ("verify",),
        ("show",),
        ("report", "--out", "page"),
    ):
        done = tpubench(*words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "report.html").exists()
    listed = tpubench("runs", "list")
    assert (listed.returncode, listed.stderr) == (
        2, "tpubench: error: duckdb is not installed: pip install duckdb\n",
    )  # fmt: skip
