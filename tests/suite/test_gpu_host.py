"""The ``cuda`` backend over torch's CUDA build and a CUDA that launches nothing.

Needs a Python with such a torch, ``TPUBENCH_TEST_CUDA_PYTHON``, in which tpubench's requirements
are installed. What no kernel computes fails every parity check; that is what a run then says.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("TPUBENCH_TEST_CUDA_PYTHON", "")
pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not PYTHON, reason="TPUBENCH_TEST_CUDA_PYTHON names no Python"),
]


def on_host(tmp_path: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, str(ROOT / "benchmarks" / "gpu_host.py"), "--log", str(tmp_path / "log"), PYTHON,
         *command],
        env={**os.environ, "TPUBENCH_STORE": str(tmp_path / "store"),
             "TPUBENCH_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT / ".import")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_cuda_refuses_in_a_capture_is_named(tmp_path: Path) -> None:
    done = on_host(
        tmp_path,
        "-c",
        "import torch; a = torch.ones(4, device='cuda'); graph = torch.cuda.CUDAGraph()\n"
        "with torch.cuda.graph(graph): a.sum().item()",
    )
    assert done.returncode == 1
    assert "refused: " in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["graphs", "flex"])
def test_a_token_is_captured_and_nothing_is_refused(tmp_path: Path, mode: str) -> None:
    words = "-m tpubench.cli run --backend cuda --workload llama-infer --preset tiny --repeats 1"
    sizes = "--set batch=1 --set input_len=16 --set output_len=4 --compile-mode"
    done = on_host(tmp_path, *words.split(), *sizes.split(), mode)
    assert "gpu_host: 4 captures; 0 calls refused or beside one" in done.stdout, done.stdout
    assert "parity check failed" in done.stdout, done.stdout


def test_a_training_step_runs_to_its_parity_check(tmp_path: Path) -> None:
    words = "-m tpubench.cli run --backend cuda --workload llama-pretrain --preset tiny --repeats 1"
    done = on_host(tmp_path, *words.split(), "--json")
    document = json.loads(done.stdout.partition("gpu_host: ")[0])
    assert "parity check failed" in json.dumps(document)
