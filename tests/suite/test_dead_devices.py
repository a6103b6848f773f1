"""Devices that are not there, held or silent: the child dies, the run says why, nothing else does.

libtpu itself is asked for a TPU on a machine without one: it aborts the process, or waits for the
cloud's metadata server.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from libraries import library
from test_contract import QUICK, cases_of

from tpubench.suite import registry
from tpubench.suite.backends import _chips
from tpubench.suite.job import Job, Outcome
from tpubench.suite.launch import run_child
from tpubench.suite.workload import Weights

NO_METADATA = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

pytestmark = pytest.mark.skipif(bool(_chips.tpus()), reason="this machine has a TPU")


@pytest.fixture
def tpu_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The interpreter with libtpu, and no plugin to stand in for it."""
    for variable in ("TPU_LIBRARY_PATH", "TPUBENCH_TPU_PLUGIN", *NO_METADATA):
        monkeypatch.delenv(variable, raising=False)
    # Another user of libtpu on this machine, a compiler say, holds its lock file: another failure.
    monkeypatch.setenv("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent.parent / ".import"))
    return library("tpu", tmp_path).python


def run(python: str, timeout_s: float) -> Outcome:
    (case,) = cases_of("llama-infer", dtype=["float32"])
    job = Job(
        backend="tpu",
        compile_mode="eager",
        case=case,
        weights=Weights(),
        pace=QUICK,
        repetition=0,
    )
    return run_child(job, python=python, timeout_s=timeout_s).outcome


def test_without_a_tpu_libtpu_aborts_and_the_run_says_so(
    tpu_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in NO_METADATA.items():
        monkeypatch.setenv(variable, value)
    outcome = run(tpu_python, 240)
    assert outcome.status == "failed"
    assert outcome.reason == "no usable TPU on this machine (SIGABRT in phase open)"


def test_a_silent_metadata_server_ends_within_the_limit(
    tpu_python: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(registry.backend("tpu")), "open_timeout_s", 25.0)
    began = time.monotonic()
    outcome = run(tpu_python, 600)
    assert time.monotonic() - began < 60
    assert outcome.status == "failed"
    assert str(outcome.reason).startswith("timed out after 25 s in phase open: the ")
    assert "metadata server" in str(outcome.reason)


@pytest.mark.parametrize(
    ("backend", "log", "meaning"),
    [
        ("tpu", "ABORTED: Internal error when accessing libtpu multi-process lockfile", "holds"),
        ("tpu", "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom", "out of memory"),
        ("xla", "RuntimeError: RESOURCE_EXHAUSTED: Out of memory", "out of memory"),
        ("cuda", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", "out of memory"),
        ("cuda", "CUDA error: unspecified launch failure", "the GPU was lost"),
        ("cuda", "RuntimeError: No CUDA GPUs are available", "no usable GPU"),
    ],
)
def test_what_a_runtime_prints_becomes_one_line(
    backend: str, log: str, meaning: str, tmp_path: Path
) -> None:
    """The words are the libraries'; here another program prints them and dies."""
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho '{log}' >&2\nkill -ABRT $$\n")
    script.chmod(0o755)
    (case,) = cases_of("llama-infer", dtype=["float32"])
    mode = registry.backend(backend).compile_modes[0]
    job = Job(
        backend=backend,
        compile_mode=mode,
        case=case,
        weights=Weights(),
        pace=QUICK,
        repetition=0,
    )
    outcome = run_child(job, python=str(script), timeout_s=60).outcome
    assert meaning in str(outcome.reason)
    assert str(outcome.reason).endswith("(SIGABRT in phase start)")
    assert os.linesep not in str(outcome.reason)
