"""A workload installed by somebody else, with metrics that nobody else knows: run, stored, shown,
followed, verified; and readable where that workload is not installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORKLOAD = """
import torch
from tpubench.suite.workload import Laps, Metric, Parameter, Step, Work, Workload

class Sorting(Step):
    marks = ("pass",)
    def __init__(self):
        self.x = torch.arange(1000.0).flip(0)
    def run(self, mark):
        mark(torch.sort(self.x).values)
    def probe(self):
        return torch.sort(self.x).values
    def reference(self):
        return torch.arange(1000.0)

class Sort(Workload):
    name = "acme-sort"
    version = 1
    summary = "sorts"
    presets = {"small": "a thousand"}
    parameters = {"dtype": Parameter(default="float32", choices=("float32",), doc="precision")}
    primary_metric = "keys_s"
    metrics = (
        Metric(name="keys_s", unit="key/s", better="higher", aggregate="harmonic_mean",
               formula="keys sorted ÷ window"),
    )
    def build(self, case, device, weights):
        return Sorting()
    def work(self, case):
        return Work(items=1000, unit="key", flops=1, bytes=8000)
    def measure(self, case, windows):
        times = windows["pass"].passes_s
        return Laps(samples={"step_time_s": times, NAME: [1000 / t for t in times]})
"""


def tpubench(
    here: Path, *arguments: str, installed: bool = True
) -> subprocess.CompletedProcess[str]:
    path = str(here / "site") if installed else ""
    return subprocess.run(
        [sys.executable, "-P", "-m", "tpubench.cli", *arguments],
        env={**os.environ, "PYTHONPATH": path, "TPUBENCH_STORE": str(here / "store")},
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    site = tmp_path / "site"
    info = site / "acme-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tpubench.workloads]\nacme-sort = acme_sort:Sort\n")
    name = getattr(request, "param", "keys_s")
    (site / "acme_sort.py").write_text(WORKLOAD.replace("NAME", repr(name)))
    return tmp_path


def test_a_workloads_own_metric_is_stored_shown_and_verified(here: Path) -> None:
    done = tpubench(here, "run", "-w", "acme-sort", "--backend", "fake", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    assert "keys_s" in done.stdout and "key/s" in done.stdout
    assert "keys sorted" not in done.stdout
    # Whoever reads the store need not have the workload.
    shown = tpubench(here, "show", "--explain", installed=False)
    assert "keys_s: keys sorted ÷ window" in shown.stdout
    rows = json.loads(tpubench(here, "show", "metric=keys_s", "--json", installed=False).stdout)
    assert [row["metric"] for row in rows] == ["keys_s"]
    assert rows[0]["environment"]["metric"]["aggregate"] == "harmonic_mean"
    assert tpubench(here, "verify", installed=False).returncode == 0
    (run,) = (each.name for each in (here / "store").iterdir())
    other = shutil.copytree(here / "store", here / "other")
    gated = tpubench(
        *(here, "gate", "--metric", "keys_s", "--baseline", str(next(other.glob("*/*.parquet")))),
        *("--candidate", run, "--json"),
        installed=False,
    )
    assert "unknown metric" not in gated.stderr and "the same rows" in gated.stderr
    followed = tpubench(here, "history", "--metric", "keys_s", "--json", installed=False)
    assert json.loads(followed.stdout)["series"][0]["unit"] == "key/s"
    assert "keys_s" in tpubench(here, "list", "metrics").stdout
    report = tpubench(here, "report", "latest", installed=False)
    assert report.returncode == 0, report.stderr
    page = (here / "bench-report" / "report.html").read_text(encoding="utf-8")
    assert "keys sorted ÷ window" in page


@pytest.mark.parametrize("here", ["kies_s"], indirect=True)
def test_a_metric_that_is_not_declared_is_said_and_not_dropped(here: Path) -> None:
    done = tpubench(here, "run", "-w", "acme-sort", "--backend", "fake", "--repeats", "1")
    assert done.returncode == 5
    assert "acme-sort gives 'kies_s', which its Workload.metrics do not declare" in done.stderr
