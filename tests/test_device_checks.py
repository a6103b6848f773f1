"""The scripts for whoever owns a GPU or a TPU run to their end, on what every machine has."""

from __future__ import annotations

import os
import subprocess
import sys
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


def test_a_machine_that_measures_needs_no_library_of_large_stores_or_of_plans(
    tmp_path: Path, bare: str
) -> None:
    """A lent GPU had Python, torch, pandas and scipy, and neither DuckDB nor HiGHS."""

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
