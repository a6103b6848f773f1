"""Several ranks compute what one computes, are counted as what they are, and die with a name."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from libraries import library
from test_contract import QUICK, cases_of

from tpubench.errors import UsageError
from tpubench.results import store as facts
from tpubench.results.events import RunReport
from tpubench.results.row import Row
from tpubench.suite import run as suite_run
from tpubench.suite.job import Job
from tpubench.suite.launch import run_child
from tpubench.suite.request import Request
from tpubench.suite.workload import Weights

SMALL = {"batch": ["2"], "input_len": ["6"], "output_len": ["5"], "dtype": ["float32"]}


def run(store: Path, **asked: Any) -> RunReport:
    fields = {
        "workload": "llama-infer",
        "backend": "cpu",
        "preset": "tiny",
        "overrides": SMALL,
        "compile_mode": "eager",
        "repeats": 1,
        "pace": QUICK,
        **asked,
    }
    return suite_run.execute(suite_run.make_plan(Request(**fields)), store, lambda event: None)


def by_metric(report: RunReport) -> dict[str, Row]:
    return {row.metric: row for row in report.rows}


@pytest.mark.parametrize("mode", ["packed", pytest.param("compiled", marks=pytest.mark.nightly)])
def test_two_ranks_answer_as_one_does(tmp_path: Path, mode: str) -> None:
    # The parity check of each holds its logits to 1e-3 of the undivided float32 reference.
    asked = {"prompt_ids": (5, 9, 2, 7), "overrides": {"output_len": ["6"], "dtype": ["float32"]}}
    one = run(tmp_path, compile_mode=mode, **asked)
    two = run(tmp_path, compile_mode=mode, chips=2, **asked)
    assert (one.failed, two.failed) == (0, 0)
    assert one.generated is not None and two.generated is not None
    assert two.generated.ids == one.generated.ids
    row = by_metric(two)["output_tok_s"]
    assert (row.chips, row.hosts, row.parallelism) == (2, 1, "tp=2")
    assert one.rows[-1].parallelism == "none"


@pytest.mark.parametrize(
    "preset", ["tiny", pytest.param("tiny-grouped", marks=pytest.mark.nightly)]
)
def test_two_ranks_mix_experts_as_the_reference_does(tmp_path: Path, preset: str) -> None:
    # With latent attention and a dense first layer too; both ranks must take the same experts.
    report = run(tmp_path, workload="moe-infer", preset=preset, chips=2)
    assert (report.failed, report.rows[0].reason) == (0, None)
    assert {row.parallelism for row in report.rows} == {"tp=2"}


def test_throughput_per_chip_counts_every_chip_held(tmp_path: Path) -> None:
    rows = by_metric(run(tmp_path, chips=2))
    total, per_chip = rows["output_tok_s"].samples, rows["output_tok_s_per_chip"].samples
    assert total and per_chip == pytest.approx([value / 2 for value in total])


@pytest.mark.parametrize(
    ("workload", "mode"),
    [
        ("llama-pretrain", "eager"),
        ("moe-pretrain", "eager"),
        pytest.param("llama-pretrain", "blocks", marks=pytest.mark.nightly),
        pytest.param("moe-pretrain", "blocks", marks=pytest.mark.nightly),
    ],
)
def test_two_ranks_train_as_the_reference_does(tmp_path: Path, workload: str, mode: str) -> None:
    # Compiled, each block is sharded first: its hooks gather the weights outside of what compiles.
    asked = {"overrides": {"batch": ["2"], "seq_len": ["24"], "dtype": ["float32"]}}
    report = run(tmp_path, workload=workload, compile_mode=mode, chips=2, **asked)
    assert (report.failed, report.rows[0].reason) == (0, None)
    assert {row.parallelism for row in report.rows} == {"fsdp=2"}


def test_under_torchrun_each_process_is_a_rank_and_one_keeps_the_rows(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    quick = str(Path(__file__).parent / "in_child" / "quick_cli.py")
    command += ["--standalone", quick, "run", "--workload", "llama-infer"]
    command += ["--preset", "tiny", "--backend", "cpu", "--compile-mode", "eager", "--chips", "2"]
    command += ["--set", "batch=1", "--repeats", "2", "--store", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = facts.scan(facts.files(tmp_path)).table.to_pylist()
    assert {(row["run_id"], row["repetition"]) for row in rows} == {
        (rows[0]["run_id"], 0),
        (rows[0]["run_id"], 1),
    }
    assert {(row["status"], row["chips"], row["parallelism"]) for row in rows} == {
        ("ok", 2, "tp=2")
    }


def job(
    chips: int, workload: str = "llama-infer", backend: str = "cpu", mode: str = "eager"
) -> Job:
    overrides = {"batch": ["4"]} if workload == "llama-pretrain" else {}
    (case,) = cases_of(workload, dtype=["float32"], **overrides)
    return Job(
        backend=backend,
        compile_mode=mode,
        case=case,
        weights=Weights(),
        pace=QUICK,
        repetition=0,
        chips=chips,
    )


def test_a_rank_that_dies_is_named() -> None:
    def kill_rank_1(phase: str, expected_s: float | None) -> None:
        if phase == "warm-up":
            os.kill(rank_1(), signal.SIGKILL)

    ended = run_child(job(2), python=None, timeout_s=120, on_phase=kill_rank_1)
    assert ended.outcome.status == "failed"
    assert ended.outcome.reason == "rank 1 of 2 died: killed by SIGKILL"


def rank_1() -> int:
    """Process id of the second rank that a child of this process started."""
    for folder in Path("/proc").iterdir():
        try:
            command = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            if b"tpubench.suite.child\0-\0" not in command:
                continue
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            ours = (Path("/proc") / parent / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if int(ours) == os.getpid():
            return int(folder.name)
    raise AssertionError("there is no second rank")


def two_ranks(what: str) -> dict[str, Any]:
    """The outcome that rank 0 reports of two ranks with a scripted meter."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": str(port)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "in_child" / "rank.py"), what],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in ranks:
        assert process.stdin is not None
        process.stdin.write(job(2).to_json() + "\n")
        process.stdin.close()
    assert [process.wait(timeout=200) for process in ranks] == [0, 0]
    assert ranks[0].stdout is not None
    answer: dict[str, Any] = json.loads(ranks[0].stdout.read())
    return answer


@pytest.mark.parametrize(
    ("what", "joules", "reason"),
    [
        ("steady", 40.0, None),
        ("silent", None, None),
        ("disturbed", 40.0, "rank 1 of 2 was disturbed inside the timed window"),
    ],
)
def test_every_rank_is_metered_and_guarded(
    what: str, joules: float | None, reason: str | None
) -> None:
    outcome = two_ranks(what)
    assert outcome["energy"]["joules"] == joules
    assert (outcome["status"], outcome["reason"]) == ("invalid" if reason else "ok", reason)


def test_heads_that_do_not_divide_are_one_clear_line() -> None:
    ended = run_child(job(3), python=None, timeout_s=120)
    assert ended.outcome.status == "failed"
    assert ended.outcome.reason == "2 key/value heads do not divide among 3 chips"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"workload": "gemm", "preset": "square-512", "overrides": {}}, "gemm runs on one chip"),
        ({"backend": "fake"}, "backend fake runs on one chip"),
    ],
)
def test_what_runs_on_one_chip_says_so(tmp_path: Path, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        run(tmp_path, **{"compile_mode": None, "chips": 2, **asked})


@pytest.mark.parametrize(
    "workload",
    [
        "llama-infer",
        pytest.param("moe-infer", marks=pytest.mark.nightly),
        pytest.param("llama-pretrain", marks=pytest.mark.nightly),
    ],
)
def test_xla_spreads_a_program_over_four_devices(
    workload: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = library("xla", tmp_path)
    for variable, value in real.environment.items():
        monkeypatch.setenv(variable, value)
    asked = job(4, workload, backend="xla", mode="lazy")
    outcome = run_child(asked, python=real.python, timeout_s=400).outcome
    assert (outcome.status, outcome.reason) == ("ok", None)
    assert outcome.parity_error is not None and outcome.parity_error < 1e-4
    assert outcome.chips == 4
    assert outcome.parallelism == ("fsdp=4" if workload == "llama-pretrain" else "tp=4")


def test_spmd_holds_every_device_and_refuses_to_count_fewer(tmp_path: Path) -> None:
    real = library("xla", tmp_path)
    four = {**real.environment, "CPU_NUM_DEVICES": "4", "TPUBENCH_XLA_CHIPS": "2"}
    real = replace(real, environment=four)
    asked = job(2, backend="xla", mode="lazy")
    (outcome,) = real.lines("contract.py", stdin=asked.to_json())
    assert outcome["status"] == "failed"
    assert outcome["reason"] == "torch_xla's SPMD holds all 4 chips: give --chips 4"


@pytest.mark.parametrize("codes", [("same", "same"), ("one", "another")])
def test_ranks_that_run_other_code_do_not_meet(codes: tuple[str, str]) -> None:
    """Each machine has an installation of its own, and one may be of yesterday."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = (
        "import sys; from tpubench.suite import ranks; from tpubench.errors import RunFailedError\n"
        "world = ranks.World(rank=int(sys.argv[1]), size=2)\n"
        "try: ranks.join(world, 'gloo', 'case-0', sys.argv[2])\n"
        "except RunFailedError as error: print(error)\n"
        "else: print('met'); ranks.leave()\n"
    )
    variables = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(rank), code],
            env=variables, stdout=subprocess.PIPE, text=True,
        )
        for rank, code in enumerate(codes)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0] for process in started]
    if codes[0] == codes[1]:
        assert said == ["met\n", "met\n"]
    else:
        assert said[0].startswith("rank 1 of 2 runs other code than rank 0: install the same")
        assert said[1].startswith("rank 0 of 2 runs other code than rank 1: install the same")
