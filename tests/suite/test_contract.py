"""Every workload on the fake backend, every backend with a toy workload: new files are tested too.

Nothing here is listed by hand: a workload or a backend is tested because its file exists.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from tpubench.results.metrics import METRICS
from tpubench.suite import child, registry
from tpubench.suite.job import Job, Outcome
from tpubench.suite.parity_means import means_of
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Device, Weights

QUICK = Pace(warm_up_s=0.02, window_s=0.02, most_warm_up_s=0.2, latency_s=0.0)
SMALL = {
    "llama-infer": ("tiny", {"batch": ["2"], "input_len": ["5"], "output_len": ["4"]}),
    "llama-prefill": ("tiny", {"batch": ["2"], "input_len": ["5"]}),
    "llama-decode": ("tiny", {"batch": ["2"], "input_len": ["5"], "output_len": ["4"]}),
    "long-context": ("tiny", {"input_len": ["24"], "output_len": ["4"]}),
    "moe-infer": ("tiny", {"batch": ["2"], "input_len": ["5"], "output_len": ["4"]}),
    "llama-speculate": ("tiny", {"batch": ["2"], "input_len": ["5"], "output_len": ["8"]}),
    "llama-pretrain": ("tiny", {"batch": ["2"], "seq_len": ["24"]}),
    "moe-pretrain": ("tiny", {"batch": ["2"], "seq_len": ["24"]}),
    "llama-lora": ("tiny", {"batch": ["2"], "seq_len": ["24"]}),
    "gemm": ("square-512", {"m": ["8"], "n": ["16"], "k": ["32"], "steps": ["2"]}),
    "hbm": ("standard", {"mib": ["1"]}),
    "attention": ("tiny", {"context": ["12"]}),
    "h2d": ("pageable", {"mib": ["1"]}),
    "collective": ("standard", {"kib": ["1"]}),
    "vit-l16": ("tiny", {}),
    "resnet50": ("tiny", {}),
    "embed": ("tiny", {}),
    "dlrm-v2": ("tiny", {}),
    "dlrm-train": ("tiny", {}),
    "vit-train": ("tiny", {}),
    "resnet50-train": ("tiny", {}),
    "sdxl-unet": ("tiny", {}),
}
"""A size that runs in a moment; a workload that is not here runs its default preset."""


def cases_of(name: str, **more: list[str]) -> list[Case]:
    workload = registry.workload(name)
    preset, overrides = SMALL.get(name, (workload.default_preset(False)[0], {}))
    cases = workload.cases(preset, {**overrides, **more})
    return [workload.prepare(case, Weights()) for case in cases]


def execute(case: Case, backend: str = "fake", mode: str | None = None) -> Outcome:
    job = Job(
        backend=backend,
        compile_mode=mode or registry.backend(backend).compile_modes[0],
        case=case,
        weights=Weights(),
        pace=QUICK,
        repetition=0,
    )
    return child.execute(Job.from_json(job.to_json()), lambda phase, expected_s: None)


CASES = {
    f"{name}-{case.key}": case
    for name in registry.workloads()
    for case in cases_of(name, dtype=["float32", "bfloat16"])
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def case_run(request: pytest.FixtureRequest) -> tuple[Case, Outcome]:
    """A case on the fake device, run once for all that is asked of it."""
    return request.param, execute(request.param)


def test_a_workload_runs_and_passes_parity(case_run: tuple[Case, Outcome]) -> None:
    _, outcome = case_run
    assert (outcome.status, outcome.reason) == ("ok", None)
    assert outcome.parity
    assert all(check["error"] <= check["tolerance"] for check in outcome.parity)
    assert len({check["name"] for check in outcome.parity}) == len(outcome.parity)
    assert outcome.parity_error in {check["error"] for check in outcome.parity}
    for timed in outcome.windows.values():
        assert {len(laps) for laps in timed.laps_s} == {len(timed.marks)}


def test_its_samples_are_known_metrics_and_finite(case_run: tuple[Case, Outcome]) -> None:
    case, outcome = case_run
    workload = registry.workload(case.workload)
    laps = workload.measure(case, outcome.windows)
    assert workload.primary_metric in laps.samples
    assert {*laps.samples, *laps.missing} <= set(METRICS)
    assert all(math.isfinite(v) and v > 0 for samples in laps.samples.values() for v in samples)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_its_work_adds_up(case: Case) -> None:
    work = registry.workload(case.workload).work(case)
    assert work.items > 0 and work.bytes > 0 and work.flops >= 0
    if work.phases:
        assert sum(part.flops for part in work.phases.values()) == work.flops
        assert sum(part.bytes for part in work.phases.values()) == work.bytes


@pytest.mark.parametrize("name", registry.workloads())
def test_a_wrong_answer_is_caught(name: str) -> None:
    workload = registry.workload(name)
    case = cases_of(name, dtype=["float32"])[0]
    backend = registry.backend("fake")
    device = backend.open("eager")
    step = workload.build(case, device, Weights())
    checks = workload.checks(case, step, means_of(workload, backend, device, "eager"))
    step.run(lambda *_: None)
    assert all(check.ok for check in checks())
    for owner, name in ((step, "run"), *([(step.module, "forward")] if step.module else [])):
        setattr(owner, name, rounded(getattr(owner, name)))
    step.run(lambda *_: None)
    assert not all(check.ok for check in checks())


def rounded(plain: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*inputs: Any) -> Any:
        with Rounded():
            return plain(*inputs)

    return inside


class Rounded(TorchFunctionMode):
    """What a device gives whose every sum, product and copy is 1 % too large."""

    WRONG: ClassVar = {torch.nn.functional.linear, torch.Tensor.sum, torch.Tensor.copy_, torch.add,
                       torch.nn.functional.scaled_dot_product_attention}  # fmt: skip

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func not in self.WRONG or not result.is_floating_point():
            return result
        # What a backward pass has kept may not be changed in place; a copy's target must be.
        return result.mul_(1.01) if func is torch.Tensor.copy_ else result * 1.01


@pytest.mark.parametrize("name", registry.workloads())
def test_a_captured_call_is_given_token_ids_and_positions_at_most(name: str) -> None:
    """Each tensor given is copied at every replay: operands and images lie in buffers."""
    step = registry.workload(name).build(cases_of(name)[0], Device(torch_device="cpu"), Weights())
    captured = None if step.trains else step.to_capture()
    if captured is None:
        return
    plain, given = captured.forward, list[object]()

    def forward(*inputs: Any, **named: Any) -> Any:
        given.extend(tree_leaves((inputs, named)))
        return plain(*inputs, **named)

    captured.forward = forward  # type: ignore[method-assign]
    step.run(lambda *_: None)
    tensors = [one for one in given if isinstance(one, torch.Tensor)]
    assert not any(tensor.is_floating_point() for tensor in tensors)


@pytest.mark.parametrize("name", registry.workloads())
def test_its_definition_is_hashed(name: str) -> None:
    workload = registry.workload(name)
    assert len(workload.source_sha256()) == 64
    assert workload.summary
    assert all(parameter.doc for parameter in workload.parameters.values())


@pytest.mark.parametrize("name", registry.backends())
def test_a_backend_says_whether_it_can_run_and_how_to_get_it(name: str) -> None:
    probed = registry.backend(name).probe()
    assert probed.detail
    assert probed.available or probed.fix


RUNNABLE = [
    (backend.name, mode)
    for backend in registry.backends().values()
    if backend.probe().available
    for mode in backend.compile_modes
]


@pytest.mark.parametrize(("backend", "mode"), RUNNABLE)
def test_a_backend_runs_a_toy_in_each_compile_mode(backend: str, mode: str) -> None:
    (case,) = cases_of("llama-infer", dtype=["bfloat16"])
    outcome = execute(case, backend, mode)
    assert (outcome.status, outcome.reason) == ("ok", None)
    assert outcome.chips >= 1
    assert outcome.description["torch"] == torch.__version__


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(registry.UsageError, match=r"unknown workload 'lama'; known: .*llama-infer"):
        registry.workload("lama")
    with pytest.raises(registry.UsageError, match=r"unknown backend 'gpu'; known: .*cpu"):
        registry.backend("gpu")
