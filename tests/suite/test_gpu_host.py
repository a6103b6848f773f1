"""The ``cuda`` backend over torch's CUDA build and a CUDA that launches nothing.

Needs a Python with such a torch and tpubench[cuda], ``TPUBENCH_TEST_CUDA_PYTHON``; what runs there
is this tree's. What no kernel computes fails every parity check; that is what a run then says.
"""

from __future__ import annotations

import os
import re
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


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


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
    assert re.search(r"gpu_host: [2-9] captures; 0 calls refused", done.stdout), said(done)
    assert "parity check failed" in said(done)


def test_a_training_step_runs_to_its_parity_check(tmp_path: Path) -> None:
    words = "-m tpubench.cli run --backend cuda --workload llama-pretrain --preset tiny --repeats 1"
    done = on_host(tmp_path, *words.split())
    assert "0 calls refused" in done.stdout and "parity check failed" in said(done), said(done)
