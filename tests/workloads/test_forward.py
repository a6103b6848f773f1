"""Models that are run forward: counted as torch counts them, checked, and refused in one line."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from forward_defects import WORKLOADS, case, defects, none
from llama_defects import outcome

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite import run as suite_run
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.request import Request
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Device, Weights
from tpubench.workloads.forward import Forward, Needs

PUBLISHED_PARAMETERS = {
    "vit-l16": 304_326_632,  # torchvision's vit_l_16
    "resnet50": 25_557_032,  # torchvision's resnet50
    "sdxl-unet": 2_567_463_684,  # stable-diffusion-xl-base-1.0's unet
    "embed": 334_092_288,  # bert-large-uncased without its pooler
}
TABLE_ROWS = 204_184_588
"""All 26 of MLPerf's DLRM-DCNv2."""


def forward(name: str) -> Forward:
    workload = registry.workload(name)
    assert isinstance(workload, Forward)
    return workload


PRESETS = [(name, preset) for name in WORKLOADS for preset in forward(name).presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_flops_and_weights_are_those_counted_on_meta(name: str, preset: str) -> None:
    workload = forward(name)
    case = workload.cases(preset, {"batch": ["2"]})[0]
    program = workload.program(case, "forward", depth=workload.depth(case), chips=1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        result = program.module(*program.inputs)
    tally = workload.tally(case)
    assert counter.get_total_flops() == 2 * tally.flops == workload.work(case).flops
    assert sum(p.numel() for p in program.module.parameters()) == tally.weights
    assert result.shape[0] == 2 and result[0].numel() == workload.outputs(case)


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED_PARAMETERS.items())
def test_a_model_has_as_many_parameters_as_the_one_it_is_named_after(
    name: str, parameters: int
) -> None:
    workload = forward(name)
    preset = workload.default_preset(accelerator=True)[0]
    assert workload.tally(workload.cases(preset, {})[0]).weights == parameters


def test_dlrm_has_mlperfs_rows_and_stores_how_they_were_cut() -> None:
    workload = forward("dlrm-v2")
    whole, cut = workload.cases("mlperf", {"row_cap": ["40000000", "1000"], "batch": ["1"]})
    tables = workload.tally(whole).tables
    assert tables == TABLE_ROWS * 128
    assert cut.params["row_cap"] == 1000
    assert workload.tally(cut).tables < 26 * 1000 * 128


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_right_program_passes(name: str, dtype: str, tmp_path: Path) -> None:
    checks = outcome(registry.workload(name), case(name, dtype), none, ReferenceCache(tmp_path))
    assert [check.name for check in checks if not check.ok] == []


@pytest.mark.parametrize(
    ("name", "defect"), [(name, defect) for name in WORKLOADS for defect in defects(name)]
)
def test_a_defect_is_caught(name: str, defect: str, tmp_path: Path) -> None:
    change = defects(name)[defect]
    checks = outcome(registry.workload(name), case(name), change, ReferenceCache(tmp_path))
    caught = {check.name for check in checks if not check.ok}
    assert caught
    if defect == "one sample wrong":
        assert "every sample" in caught, "no reference is computed for it"


@pytest.mark.parametrize("name", WORKLOADS)
def test_two_samples_have_answers_that_are_far_apart(name: str) -> None:
    # Else a result that never changes would pass.
    step = registry.workload(name).build(
        case(name, "float32"), Device(torch_device="cpu"), Weights()
    )
    step.run(lambda *_: None)
    first, second = step.y[0], step.y[1]  # type: ignore[attr-defined]
    assert float((first - second).norm() / first.norm()) > 0.1


def test_weights_are_the_same_whatever_was_drawn_before() -> None:
    def built() -> dict[str, torch.Tensor]:
        torch.manual_seed(torch.seed() % 2**32)
        small_case = case("embed", "float32")
        step = registry.workload("embed").build(small_case, Device(torch_device="cpu"), Weights())
        assert step.module is not None
        return step.module.state_dict()

    one, other = built(), built()
    assert all(one[name].equal(other[name]) for name in one)


def test_a_library_that_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = forward("sdxl-unet")
    absent = Needs(modules=("transformers", "diffusers_not_here"), extra="vision")
    assert find_spec("diffusers_not_here") is None
    monkeypatch.setattr(type(workload), "needs", absent)
    words = r"^sdxl-unet needs diffusers_not_here: pip install 'tpubench\[vision\]'$"
    with pytest.raises(UsageError, match=words):
        workload.build(case("sdxl-unet"), Device(torch_device="cpu"), Weights())


def test_tables_that_cannot_fit_are_refused_before_they_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps({"free_bytes": 10**9}))
    request = Request(
        workload="dlrm-v2",
        backend="fake",
        preset="mlperf",
        overrides={"batch": ["1"], "row_cap": ["40000000"]},
        repeats=1,
        pace=Pace(warm_up_s=0.02, window_s=0.02),
    )
    report = suite_run.execute(suite_run.make_plan(request), tmp_path, lambda event: None)
    needed = (
        forward("dlrm-v2")
        .tally(forward("dlrm-v2").cases("mlperf", {"row_cap": ["40000000"]})[0])
        .weights
        * 2
    )
    reason = report.rows[0].reason or ""
    assert reason.startswith("does not fit: dlrm-v2 mlperf needs at least")
    assert "1,000,000,000 are free" in reason and f"{needed:,}"[:6] in reason


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("embed", {"tokens": ["513"]}, "tokens=513: the encoder has 512 places"),
        ("sdxl-unet", {"latent": ["18"]}, "latent=18: it is halved twice"),
    ],
)
def test_what_a_model_cannot_take_is_refused(
    name: str, settings: dict[str, list[str]], words: str
) -> None:
    workload = registry.workload(name)
    with pytest.raises(UsageError, match=words):
        workload.prepare(workload.cases("tiny", settings)[0], Weights())


def test_a_limit_that_is_no_number_lets_nothing_pass() -> None:
    nothing = Parity(name="outputs", error=0.0, tolerance=float("nan"), what="an error")
    assert nothing.judges and not nothing.ok
    assert nothing.fault() is not None
