"""Many ranks train as one does: the same losses, gradients and weights from the same batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("train_ranks.py")


def trained(folder: Path, ranks: int, dtype: str, *more: str) -> list[dict[str, Any]]:
    """What each rank of ``ranks`` processes found."""
    # Loopback only, whatever interface carries the host's name.
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(folder),
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(rank), str(ranks), str(folder), dtype, *more],
            env=environment,
        )
        for rank in range(ranks)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0] * ranks
    return [torch.load(folder / f"{ranks}-{rank}.pt") for rank in range(ranks)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 5e-3)])
def test_two_ranks_train_as_one_does(dtype: str, tolerance: float, tmp_path: Path) -> None:
    (one,), two = trained(tmp_path, 1, dtype), trained(tmp_path, 2, dtype)
    for rank in two:
        assert rank["losses"] == pytest.approx(one["losses"], rel=tolerance)
    for checks in (one["parity"], two[0]["parity"]):
        assert len(checks) == 6
        assert all(check["error"] <= check["tolerance"] for check in checks), checks
    assert two[1]["parity"] == [], "one rank judges for all"
    assert one["losses"][0] > one["losses"][-1]
    assert sum(rank["held"] for rank in two) == one["held"], "each rank holds its share"


def test_two_ranks_train_adapters_clip_and_accumulate_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINED", "llama-lora")
    monkeypatch.setenv("OPTIONS", "1")
    (one,), two = trained(tmp_path, 1, "bfloat16"), trained(tmp_path, 2, "bfloat16")
    assert two[0]["losses"] == pytest.approx(one["losses"], rel=5e-3)
    assert len(two[0]["parity"]) == 7
    assert all(check["error"] <= check["tolerance"] for check in two[0]["parity"]), two
    assert sum(rank["held"] for rank in two) == one["held"], "each rank holds its share"


def test_two_ranks_balance_their_experts_as_one_with_two_parts_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRAINED", "moe-pretrain")
    monkeypatch.setenv("OPTIONS", "1")
    two = trained(tmp_path, 2, "float32")
    assert len(two[0]["parity"]) == 8
    assert all(check["error"] <= check["tolerance"] for check in two[0]["parity"]), two
    assert two[0]["losses"] == two[1]["losses"]
    assert two[0]["losses"][0] > two[0]["losses"][-1]


def test_a_fault_of_another_rank_is_caught_by_the_one_that_judges(tmp_path: Path) -> None:
    judge, _ = trained(tmp_path, 2, "float32", "1")
    failed = {check["name"] for check in judge["parity"] if check["error"] > check["tolerance"]}
    assert failed == {"optimizer", "timed step"}


@pytest.mark.parametrize("fault", ["silent", pytest.param("summed", marks=pytest.mark.nightly)])
def test_gradients_that_are_lost_between_ranks_are_caught(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the timed program's own gradient: neither its losses nor its twin have the fault."""
    monkeypatch.setenv("FAULT", fault)
    judge, _ = trained(tmp_path, 2, "bfloat16")
    failed = {
        check["name"] for check in judge["parity"] if not check["error"] <= check["tolerance"]
    }
    assert failed == {"gradient"}
