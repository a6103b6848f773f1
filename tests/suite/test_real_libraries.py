"""torch_xla and TorchTPU, on the host's cores: parity, and guards that catch real faults.

Every fault here is produced on the library, not scripted.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from libraries import VARIABLES, Library, library
from test_contract import cases_of

from tpubench.suite import registry
from tpubench.suite.job import Job
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Weights

PACE = Pace(warm_up_s=0.05, window_s=0.5, most_warm_up_s=0.5, latency_s=0.0)
"""Long enough that a neighbour's load does not pull the marks and the wall time apart."""


@pytest.fixture(scope="module", params=VARIABLES)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Library:
    return library(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def scenarios(real: Library) -> dict[str, dict[str, Any]]:
    return {documents["scenario"]: documents for documents in real.lines("guards.py", real.backend)}


def test_the_barrier_waits_and_its_absence_is_caught(scenarios: dict[str, Any]) -> None:
    assert scenarios["clock"]["fault"] is None
    assert "the barrier does not wait" in scenarios["clock without a wait"]["fault"]


def test_a_new_shape_inside_the_window_is_caught(real: Library, scenarios: dict[str, Any]) -> None:
    for mode in registry.backend(real.backend).compile_modes:
        plain, changed = scenarios[f"{mode}: plain"], scenarios[f"{mode}: a new shape"]
        assert (plain["status"], plain["reason"]) == ("ok", None)
        assert changed["status"] == "invalid"
        assert "recompilations" in changed["reason"]


def test_exact_float32_asks_for_all_of_its_bits(scenarios: dict[str, Any]) -> None:
    documents = scenarios["exact float32"]
    before, after = documents["outside"]
    assert before == after != "highest"
    assert documents["inside"] == "highest"
    assert "highest" in documents["program"]


def test_an_operator_that_would_run_on_the_host_is_caught(
    real: Library, scenarios: dict[str, Any]
) -> None:
    documents = scenarios["an operator of the host"]
    if real.backend == "xla":  # torch_xla runs it on the CPU and counts it
        assert documents["status"] == "invalid"
        assert re.search(r"\d+ fallback of aten::linalg_eig to the CPU", documents["reason"])
    else:  # TorchTPU refuses, and so must it stay
        assert documents["status"] == "raised"
        assert "is not implemented for TPU" in documents["reason"]


def test_work_that_a_lazy_backend_leaves_out_is_caught(
    real: Library, scenarios: dict[str, Any]
) -> None:
    documents = scenarios["work that nobody reads"]
    if real.backend == "xla":
        assert documents["status"] == "invalid"
        assert re.search(r"only [01] programs ran for \d+ timed phases", documents["reason"])
    else:  # runs what it is told when it is told
        assert documents["status"] == "ok"


def test_a_result_that_is_remembered_is_no_work(scenarios: dict[str, Any]) -> None:
    again, remembered = (
        scenarios[f"a result that is {how}"] for how in ("computed again", "remembered")
    )
    assert (again["status"], again["reason"]) == ("ok", None)
    assert remembered["status"] == "invalid"
    assert "on inputs that none had seen" in remembered["reason"]


SAME_PROGRAM = {"llama-prefill", "llama-decode", "long-context"}
"""``llama-infer`` with other settings: nothing more to compile."""


FORWARD = {"dlrm-v2", "embed", "resnet50", "resnet50-train", "sdxl-unet", "vit-l16", "vit-train"}
"""Models of other libraries, all run or trained by one step: their default mode, the others
nightly."""


LONG = {
    "xla": {"sdxl-unet", "moe-infer", "llama-speculate"},
    "tpu": {"moe-infer", "moe-pretrain", "llama-speculate"},
}
"""What takes a library a quarter of a minute and more: a model of ``FORWARD`` nightly, of any other
its first case in the default mode, the rest nightly."""


def jobs_of(real: Library, names: Iterable[str], mode: str, cases: int) -> list[Job]:
    return [
        Job(
            backend=real.backend,
            compile_mode=mode,
            case=case,
            weights=Weights(),
            pace=PACE,
            repetition=0,
        )
        for name in names
        for case in cases_of(name, dtype=["float32"])[:cases]
    ]


def outcomes_of(real: Library, jobs: Sequence[Job]) -> list[tuple[Job, dict[str, Any]]]:
    documents = real.lines("contract.py", stdin="".join(job.to_json() + "\n" for job in jobs))
    return list(zip(jobs, documents, strict=True))


def ours() -> list[str]:
    return [name for name in registry.workloads() if name not in SAME_PROGRAM | FORWARD]


@pytest.fixture(scope="module")
def outcomes(real: Library) -> list[tuple[Job, dict[str, Any]]]:
    """Every case in the default mode, and the first of each workload in the others."""
    default, *others = registry.backend(real.backend).compile_modes
    long = LONG[real.backend]
    quick = [name for name in ours() if name not in long]
    jobs = jobs_of(real, quick, default, 3)
    jobs += jobs_of(real, sorted(long - FORWARD) + sorted(FORWARD - long), default, 1)
    for mode in others:
        jobs += jobs_of(real, quick, mode, 1)
    return outcomes_of(real, jobs)


@pytest.mark.nightly
@pytest.mark.parametrize("place", [0, 1], ids=["default mode", "other mode"])
@pytest.mark.parametrize("forward", [False, True], ids=["ours", "models of other libraries"])
def test_every_case_runs_in_every_mode(real: Library, *, place: int, forward: bool) -> None:
    mode = registry.backend(real.backend).compile_modes[place]
    names = sorted(FORWARD) if forward else ours()
    for job, outcome in outcomes_of(real, jobs_of(real, names, mode, 3)):
        passes_or_is_refused(job, outcome)


def why_not_on_xla(job: Job) -> str | None:
    """The reason with which torch_xla must refuse a job; None for what it must run."""
    if job.case.params.get("kernel") == "copy" or job.case.workload in {"h2d", "collective"}:
        # A recorded copy is the same value under a second name: truly nothing to run. What one
        # rank exchanges is such a copy, and a transfer is no program that could be counted.
        return r"only 0 programs ran for \d+ timed phases: work was left out"
    if registry.workload(job.case.workload).trains and job.compile_mode == "openxla":
        return (
            r"openxla computes wrong losses from the second training step on \(torch_xla 2.9\):"
            " use --compile-mode lazy"
        )
    return None


def why_not_on_tpu(job: Job) -> str | None:
    """The same of TorchTPU 0.2, which leaves a batch norm's running statistics as they were: plain
    ``nn.BatchNorm2d`` in training shows it."""
    if job.case.workload == "resnet50-train":
        return r"parity check failed: float32 twin: .* is 0\.9, at most 0\.0001 is allowed"
    return None


def test_every_workload_runs_in_every_mode_and_passes_parity(
    outcomes: list[tuple[Job, dict[str, Any]]],
) -> None:
    for job, outcome in outcomes:
        passes_or_is_refused(job, outcome)


def passes_or_is_refused(job: Job, outcome: dict[str, Any]) -> None:
    what = (job.case.workload, job.case.label(), job.compile_mode)
    refused = why_not_on_xla(job) if job.backend == "xla" else why_not_on_tpu(job)
    if refused:
        assert outcome["status"] != "ok", what
        assert re.fullmatch(refused, outcome["reason"]), what
        return
    assert (outcome["status"], outcome["reason"]) == ("ok", None), what
    assert outcome["parity_error"] <= outcome["parity_tolerance"], what


def test_its_rows_are_the_hosts_and_never_a_tpus(
    real: Library, outcomes: list[tuple[Job, dict[str, Any]]]
) -> None:
    for _, outcome in outcomes:
        if outcome["device"] is None:
            continue  # refused before it ran
        assert outcome["device"] == "cpu"
        documents = outcome["description"]
        assert documents["pjrt_device" if real.backend == "xla" else "plugin"].lower() == "cpu"
        assert outcome["peak_memory_bytes"] is None
        json.dumps(outcome)
