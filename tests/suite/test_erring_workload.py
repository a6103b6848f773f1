"""A third party's workload that errs: one line that says whose and where, and nothing lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from tpubench.suite.workload import Laps, Work
from tpubench.workloads.forward import Forward, Input

errs = os.environ.get("ERRS", "")


class Erring(Forward):
    name, version, summary = "erring", 1, "errs as it is told to"
    presets, shapes = {"tiny": "one projection"}, {"tiny": {}}

    def module(self, case):
        import a_library_that_is_not_there

    def tally(self, case):
        if errs == "module":
            self.module(case)
        from tpubench.workloads.forward import Tally

        return Tally()

    def outputs(self, case):
        return 32

    def inputs(self, case):
        return [3] if errs == "inputs" else [Input(shape=(32,))]

    def validate(self, case):
        if errs == "validate":
            raise KeyError("of two\\nlines")

    def standard(self, preset, accelerator):
        return None if errs == "standard" else super().standard(preset, accelerator)

    def work(self, case):
        if errs == "no work":
            return None
        if errs == "negative":
            return Work(items=1, unit="sample", flops=-5, bytes=1)
        if errs == "nan":
            return Work(items=1, unit="sample", flops=float("nan"), bytes=1)
        return super().work(case)
"""
OF_GEMM = """
from tpubench.suite.workload import Laps
from tpubench.workloads.gemm import Gemm


class Erring(Gemm):
    name = "erring"

    def measure(self, case, windows):
        return Laps(samples={"flop_s": ["fast"] if case.number("n") > 64 else [1e9]})
"""


def tpubench(
    folder: Path, *words: str, errs: str = "", program: str = PROGRAM
) -> subprocess.CompletedProcess[str]:
    (folder / "theirs.py").write_text(program)
    return subprocess.run(
        [sys.executable, "-P", "-m", "tpubench.cli", *words, "--workload", "theirs:Erring"],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "ERRS": errs, "TPUBENCH_STORE": str(folder / "store")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("errs", "words"),
    [
        ("module", r"theirs:Erring failed \(theirs.py:\d+, in module\): ModuleNotFoundError"),
        ("validate", r"theirs:Erring failed \(theirs.py:\d+, in validate\): KeyError: 'of two"),
        ("inputs", "theirs:Erring .*AttributeError: 'int' object"),
        ("standard", "theirs:Erring gave an answer that cannot be used: TypeError"),
        ("no work", "theirs:Erring gave an answer that cannot be used: AttributeError"),
        ("negative", "a pass cannot be -5 FLOPs"),
        ("nan", "a pass cannot be nan FLOPs"),
    ],
)
def test_what_errs_before_anything_runs(tmp_path: Path, errs: str, words: str) -> None:
    for command in (
        ("run", "--backend", "fake"),
        ("estimate", "--preset", "tiny", "--device", "v6e"),
    ):
        done = tpubench(tmp_path, *command, errs=errs)
        assert done.returncode == 5, done.stderr
        *_, line = done.stderr.splitlines()
        assert line.startswith("tpubench: error: ") and re.search(words, line)
        assert "Traceback" not in done.stderr and not list(tmp_path.rglob("*.parquet"))
        if errs in {"standard", "validate"}:
            break  # an estimate asks for neither


def test_samples_that_are_none_fail_their_case_alone(tmp_path: Path) -> None:
    done = tpubench(
        tmp_path, "run", "--backend", "fake", "--preset", "square-512", "--repeats", "1", "--json",
        "--set", "m=64", "--set", "k=64", "--set", "n=64,128", program=OF_GEMM,
    )  # fmt: skip
    assert done.returncode == 5 and "Traceback" not in done.stderr
    rows = [row for row in json.loads(done.stdout)["rows"] if row["workload"] == "erring"]
    reasons = {row["params"]["n"]: (row["status"], row["reason"]) for row in rows}
    assert reasons[64][0] == "ok"
    status, reason = reasons[128]
    assert status == "failed" and "gave an answer that cannot be used" in reason
    assert len(list(tmp_path.rglob("*.parquet"))) >= 2
