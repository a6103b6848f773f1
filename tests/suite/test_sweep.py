"""A matrix of cells: what is missing is run, what failed stops nothing, some are refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tpubench.devices.list_price import device_price
from tpubench.errors import UsageError
from tpubench.results import labels, select
from tpubench.results.store import files, iter_rows
from tpubench.results.sweep_report import SweepReport
from tpubench.suite import registry, sweep, sweep_spec
from tpubench.suite.backends.fake import Fake

SPEC = """
name = "tiny"
repeats = 2

[[cells]]
workload = "llama-infer"
backend = "fake"
preset = "tiny"

[cells.set]
batch = [1, 2]
input_len = 4
output_len = 3

[[cells]]
workload = "gemm"
backend = "fake"
preset = "square-512"

[cells.set]
dtype = "float32"
"""


TWO = SPEC.replace("batch = [1, 2]", "batch = 1")


ROOT = Path(__file__).parents[2]


def spec(tmp_path: Path, text: str = SPEC) -> sweep_spec.Sweep:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return sweep_spec.read(str(path))


def states(entries: Any) -> list[str]:
    return [entry.state for entry in entries]


def run(wanted: sweep_spec.Sweep, store: Path, *, anew: bool = False) -> SweepReport:
    entries = sweep.survey(wanted, store, anew=anew)
    return sweep.execute(wanted, entries, store, lambda event: None, lambda *said: None)


def test_lists_are_crossed_and_a_cell_keeps_its_id(tmp_path: Path) -> None:
    wanted = spec(tmp_path)
    assert [cell.settings.get("batch") for cell in wanted.cells] == ["1", "2", None]
    turned = spec(tmp_path, SPEC.replace("batch = [1, 2]", "batch = [2, 1]"))
    assert {cell.id for cell in turned.cells} == {cell.id for cell in wanted.cells}
    assert wanted.cells[0].command(Path("s")) == (
        "tpubench run --workload llama-infer --backend fake --preset tiny --set batch=1"
        " --set input_len=4 --set output_len=3 --repeats 2 --timeout 900 --store s"
    )


def test_smoke_has_every_workload() -> None:
    """It says so of itself, and five were once missing."""
    spec = tomllib.loads((ROOT / "suite" / "sweeps" / "smoke.toml").read_text(encoding="utf-8"))
    names = [cell["workload"] for cell in spec["cells"]]
    swept = {name for one in names for name in ([one] if isinstance(one, str) else one)}
    assert swept == set(registry.workloads())


@pytest.mark.parametrize("name", ["smoke", "standard", "buyer"])
def test_sweeps_that_ship_name_what_there_is(name: str, tmp_path: Path) -> None:
    wanted = sweep_spec.read(name)
    assert wanted.name == name
    entries = sweep.survey(wanted, tmp_path / "none")
    assert "done" not in states(entries)
    assert all(entry.needed_bytes for entry in entries if entry.state != "elsewhere")


def test_what_is_missing_is_run_and_a_failure_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, store = spec(tmp_path, TWO), tmp_path / "store"
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({"faults": {"1": ["compile", "oom"]}}))
    report = run(wanted, store)
    assert states(report.entries) == ["failed", "failed"]
    assert report.exit_code == 5 and all(entry.reason for entry in report.entries)
    monkeypatch.delenv("TPUBENCH_FAKE")
    entries = sweep.survey(wanted, store)
    assert [(entry.state, entry.missing) for entry in entries] == [("missing", 1)] * 2
    assert {entry.basis for entry in entries} <= {"its own", "cells like it"}
    report = run(wanted, store)
    assert states(report.entries) == ["ran"] * 2 and report.exit_code == 0
    least = sweep.survey(wanted, tmp_path / "empty")
    assert {entry.basis for entry in least} == {"at least"}
    for entry, ran in zip(least, report.entries, strict=True):
        assert ran.took_s is not None and entry.expected_s is not None
        assert ran.took_s > entry.expected_s / entry.missing, "one repetition was missing"
    assert states(sweep.survey(wanted, store)) == ["done"] * 2
    assert states(sweep.survey(wanted, store, anew=True)) == ["missing"] * 2
    assert run(wanted, store).entries[0].run_id is None, "nothing is run twice"
    tagged = list(iter_rows(select.select(store, ["tag=tiny"]).table))
    assert {row.run_id for row in tagged} == set(labels.of_store(store))


def test_a_cell_that_cannot_fit_is_refused_before_it_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fake, "accelerator", property(lambda self: False))
    monkeypatch.setattr(Fake, "free_memory_bytes", lambda self: 200_000)
    entries = sweep.survey(spec(tmp_path), tmp_path / "store")
    assert states(entries)[2] == "refused"
    assert "3,145,728 bytes" in str(entries[2].reason) and "200,000 are there" in str(
        entries[2].reason
    )
    huge = SPEC.replace('preset = "tiny"', 'preset = "llama-3.1-70b"\ndevice = "h100-sxm"')
    for entry in sweep.survey(spec(tmp_path, huge), tmp_path / "store")[:2]:
        assert entry.state == "refused" and "80,000,000,000 are there" in str(entry.reason)


def test_a_cell_of_another_machine_is_left_to_it(tmp_path: Path) -> None:
    text = SPEC.replace('backend = "fake"\npreset = "tiny"', 'backend = "cpu"\ndevice = "v6e"')
    first, _, last = sweep.survey(spec(tmp_path, text), tmp_path / "store")
    assert first.state == "elsewhere" and first.reason == "wants tpu-v6e; this machine has cpu"
    assert last.state == "missing"


def test_a_matrix_for_machines_that_are_not_here_has_its_time_memory_and_cost(
    tmp_path: Path,
) -> None:
    """Of a device that a cell names, the list price where nobody gives one."""
    text = SPEC.replace(
        'backend = "fake"\npreset = "tiny"',
        'preset = "llama-3.1-8b"\ndevice = "h100-sxm"',  # of any backend
    )
    first, _, last = sweep.survey(spec(tmp_path, text), tmp_path / "store")
    listed = device_price("nvidia-h100-sxm")
    assert listed is not None and first.at_list_price and first.expected_s
    assert first.usd == pytest.approx(listed.price.usd_per_chip_hour * first.expected_s / 3600)
    assert first.needed_bytes and first.needed_bytes > 8e9 and last.usd is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "tiny"', 'name = "a b"', "name"),
        ("repeats = 2", "repeats = 0", "repeats"),
        ('backend = "fake"\npreset = "tiny"', 'backend = ""', "backend"),
        ('preset = "tiny"', 'presset = "tiny"', "presset"),
        ('preset = "tiny"', 'preset = "tiny"\ndevice = "h9"', "h9"),
        ('preset = "tiny"', 'preset = "tiny"\nweights = "x"', "exclude"),
        ("batch = [1, 2]", "batch = []", "batch"),
        ('preset = "tiny"', 'preset = "tiny"\nchips = [0]', "chips"),
        ("[[cells]]", "[[cell]]", "cell"),
    ],
)
def test_nonsense_is_one_line(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as error:
        spec(tmp_path, SPEC.replace(old, new))
    assert "\n" not in str(error.value)


def test_an_interrupted_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A real process, killed hard in the middle of a cell; nothing that had ended is lost."""
    wanted, store = spec(tmp_path, TWO), tmp_path / "store"
    command = [sys.executable, "-m", "tpubench.cli", "sweep", str(tmp_path / "spec.toml")]
    process = subprocess.Popen(
        [*command, "--store", str(store), "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TPUBENCH_FAKE": "{}"},
    )
    while process.poll() is None and len(files(store)) < 3:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.read_bytes() for path in files(store)}
    entries = sweep.survey(wanted, store)
    assert entries[0].state == "done" and entries[1].state == "missing"
    assert run(wanted, store).exit_code == 0
    assert states(sweep.survey(wanted, store)) == ["done"] * 2
    assert all(path.read_bytes() == content for path, content in before.items())


def test_the_command_plans_without_running(tmp_path: Path) -> None:
    spec(tmp_path)
    said = subprocess.run(
        [
            sys.executable, "-m", "tpubench.cli", "sweep", str(tmp_path / "spec.toml"),
            "--dry-run", "--json", "--store", str(tmp_path / "s"), "--usd-per-chip-hour", "36",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    document = json.loads(said.stdout)
    (cell, *_) = document["cells"]
    assert cell["state"] == "missing" and cell["missing_repetitions"] == 2
    assert cell["usd"] == pytest.approx(36 * cell["expected_s"] / 3600)
    assert not (tmp_path / "s").exists()
