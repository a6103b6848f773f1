"""Cells of a sweep on a real Ray cluster: each on a node that has what it wants, none lost."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tpubench.errors import RunFailedError
from tpubench.suite.executors import on_ray
from tpubench.suite.executors.jobs import Group

HERE = Path(__file__).parent
PYTHON = os.environ.get("TPUBENCH_TEST_RAY_PYTHON")
"""An environment with Ray: make .venv-ray/.ready."""
SPEC = """
name = "ray"
repeats = 4

[[cells]]
workload = "gemm"
backend = "fake"
preset = "square-512"

[cells.set]
dtype = "float32"

[[cells]]
workload = "llama-infer"
backend = "fake"
preset = "tiny"

[cells.set]
batch = [1, 2, 4]
input_len = 4
output_len = 3
"""


def group(kind: str, device: str | None, chips: int) -> Group:
    return Group(kind=kind, device=device, chips=chips, ids=("a",), limit_s=1.0)  # type: ignore[arg-type]


def test_a_cell_asks_for_what_it_needs_and_without_a_chip_for_a_whole_node() -> None:
    nodes = [{"CPU": 8.0}, {"CPU": 32.0, "GPU": 8.0, "accelerator_type:H100": 1.0}]
    assert on_ray.wanted(group("gpu", "nvidia-h100-sxm", 4), nodes) == {
        "num_cpus": 1,
        "num_gpus": 4,
        "resources": {"accelerator_type:H100": on_ray._EPSILON},
    }
    assert on_ray.wanted(group("tpu", "tpu-v6e", 8), nodes)["resources"] == {
        "TPU": 8,
        "accelerator_type:TPU-V6E": on_ray._EPSILON,
    }
    assert on_ray.wanted(group("cpu", None, 1), nodes)["num_cpus"] == 32
    assert on_ray._lacking(on_ray.wanted(group("gpu", None, 8), nodes), nodes) is None
    lacking = on_ray._lacking(on_ray.wanted(group("tpu", "tpu-v6e", 8), nodes), nodes)
    assert lacking == "1 CPU and 8 TPU and accelerator_type:TPU-V6E"


def test_without_ray_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(RunFailedError, match=r"pip install 'tpubench\[ray\]'"):
        on_ray._ray()


@pytest.mark.nightly
@pytest.mark.skipif(PYTHON is None, reason="needs Ray: TPUBENCH_TEST_RAY_PYTHON, make nightly")
def test_a_killed_node_loses_nothing_and_its_cell_runs_elsewhere(tmp_path: Path) -> None:
    assert PYTHON is not None
    spec = tmp_path / "sweep.toml"
    spec.write_text(SPEC)
    done = subprocess.run(
        [PYTHON, HERE / "ray_cluster.py", spec, tmp_path / "store"],
        capture_output=True, text=True, check=False, timeout=550,
        env={**os.environ, "TPUBENCH_FAKE": "{}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["killed"], "no node was killed in the middle of a cell"
    assert said["stored_before"] and said["lost"] == []
    states = list(said["states"].values())
    assert states == ["ran", "ran", "ran", "elsewhere"]
    assert "accelerator_type:B200" in said["reasons"][-1]
    assert said["left"] == ["missing"], "all but the cell that no node has room for are done"
