"""The real TPU compiler, with no TPU: its figures do not move, and its verdicts are told.

``make test`` builds the environment and names its interpreter in TPUBENCH_TEST_TPU_PYTHON.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from compiled_cases import BASELINE, CASES, request, said

from tpubench.errors import UsageError
from tpubench.estimates.compiled import CompileRequest, estimate, run
from tpubench.estimates.compiled.request import PhaseEstimate
from tpubench.estimates.compiled.targets import Target, target
from tpubench.workloads.llama.config import LlamaConfig

ROOT = Path(__file__).parent.parent.parent
VARIABLE = "TPUBENCH_TEST_TPU_PYTHON"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    named = os.environ.get(VARIABLE)
    if not named:
        pytest.skip(f"{VARIABLE} is not set: make test builds that environment")
    assert Path(named).exists(), f"{VARIABLE}={named} does not exist"
    monkeypatch.setenv("PYTHONPATH", str(ROOT / ".import"))
    return str(Path(named).absolute())


@pytest.mark.parametrize("name", CASES)
def test_the_same_compiler_gives_the_same_cycles_and_bytes(
    name: str, python: str, cache: Path
) -> None:
    version, figures = said(name, python, cache)
    known = json.loads(BASELINE.read_text(encoding="utf-8"))
    assert version in known, (
        f"no baseline for libtpu {version}: look at what changed, then record it with"
        " tests/estimates/compiled_cases.py"
    )
    assert figures == known[version][name]


def test_what_is_estimated_is_labelled_and_says_what_was_added(python: str, cache: Path) -> None:
    rows = estimate(request(*CASES["llama-infer tiny, v5e:1x1"], python=python, cache=cache))
    by_metric = {row.metric: row for row in rows}
    assert {row.evidence for row in rows} == {"compiled"}
    tpot, ttft = by_metric["tpot_s"].value, by_metric["ttft_s"].value
    assert tpot is not None
    assert ttft is not None
    assert by_metric["output_tok_s"].value == pytest.approx(2 * 128 / (ttft + 127 * tpot))
    assert by_metric["usd_per_mtok_out"].reason
    compiled_facts = json.loads(rows[0].environment)["compiled"]
    assert compiled_facts["clock_hz"] == 1.5e9
    assert compiled_facts["topology"] == "v5e:1x1"
    decode = compiled_facts["phases"]["decode"]
    assert (decode["attention"]["calls"], decode["custom_calls"]) == (2, {"tpu_custom_call": 2})
    assert decode["dense_s"] + decode["attention_s"] == pytest.approx(tpot)


def test_what_does_not_fit_is_the_compilers_verdict_and_no_time(python: str, cache: Path) -> None:
    asked = request("hbm", "read", 1, {"mib": ["20000"]}, python=python, cache=cache)
    (failed, needed) = estimate(asked)
    assert (failed.status, failed.value) == ("failed", None)
    assert "does not fit" in str(failed.reason)
    assert "of the 15.75 GiB" in str(failed.reason)
    assert needed.value == pytest.approx(20000 * 2**20, rel=0.01)


def test_a_topology_that_libtpu_refuses_is_bad_usage(python: str, cache: Path) -> None:
    asked = request("gemm", "square-512", 1, {"n": ["9"]}, python=python, cache=cache)
    odd = Target(generation=target("v6e").generation, axes=(3, 3))
    with pytest.raises(UsageError, match="libtpu knows no topology v6e:3x3"):
        run(dataclasses.replace(asked, target=odd))


def trains(workload: str, python: str, cache: Path, **more: str) -> CompileRequest:
    """A step of a model of three layers, of which the third is extrapolated."""
    settings = {"batch": ["2"], "seq_len": ["64"]} | {name: [text] for name, text in more.items()}
    asked = request(workload, "tiny", 1, settings, python=python, cache=cache)
    shape = {**asked.case.shape, "n_layers": 3}
    return dataclasses.replace(asked, case=dataclasses.replace(asked.case, shape=shape))


def test_a_training_step_has_its_backward_pass_and_its_optimizer(python: str, cache: Path) -> None:
    asked = trains("llama-pretrain", python, cache)
    (short,) = run(asked).phases
    (full,) = run(dataclasses.replace(asked, full=True)).phases
    assert short.cost is not None
    assert full.cost is not None
    config = LlamaConfig.from_json(asked.case.shape)
    assert short.fit.needed > 12 * config.n_params
    assert full.flops == short.flops
    # Two matrix products forward and five backward, of half the pairs of 64 positions.
    pairs = 2 * config.n_heads * 64 * 64 / 2
    assert short.attention.calls == 6
    assert short.attention.flops == 3 * 7 * 2 * pairs * config.head_dim
    assert short.cost.cycles == pytest.approx(full.cost.cycles, rel=0.15)
    assert short.fit.needed == pytest.approx(full.fit.needed, rel=0.1)
    (adapters,) = run(trains("llama-lora", python, cache, rank="4")).phases
    assert adapters.cost is not None and adapters.cost.cycles > 0
    assert adapters.flops < short.flops, "a step of adapters needs less than one of everything"


def test_a_training_step_over_chips_gathers_weights_and_reduces_gradients(
    python: str, cache: Path
) -> None:
    settings = {"batch": ["2"], "seq_len": ["64"]}
    rows = estimate(request("llama-pretrain", "tiny", 2, settings, python=python, cache=cache))
    assert rows[0].parallelism == "fsdp=2"
    step = json.loads(rows[0].environment)["compiled"]["phases"]["step"]
    assert step["collective_bytes"]["all-gather"] > 0
    (rate,) = [row.value for row in rows if row.metric == "train_tok_s"]
    assert rate == pytest.approx(
        128 / (step["dense_s"] + step["attention_s"] + step["collectives_s"])
    )


@pytest.mark.nightly
def test_what_is_computed_again_is_not_merged(python: str, cache: Path) -> None:
    def step(recompute: str) -> PhaseEstimate:
        settings = {"batch": ["4"], "seq_len": ["512"], "recompute": [recompute]}
        estimated = run(request("llama-pretrain", "tiny", 1, settings, python=python, cache=cache))
        (phase,) = estimated.phases
        return phase

    kept, again = step("none"), step("full")
    assert kept.cost is not None
    assert again.cost is not None
    assert again.cost.cycles > 1.05 * kept.cost.cycles


def test_a_mixture_of_experts_compiles_with_its_routing(python: str, cache: Path) -> None:
    """At few tokens every expert runs over all of them; a prompt is sorted and cut into blocks."""
    settings = {"batch": ["2"], "input_len": ["384"], "output_len": ["16"]}
    estimated = run(request("moe-infer", "tiny", 1, settings, python=python, cache=cache))
    phases = {phase.phase: phase for phase in estimated.phases}
    assert set(phases) == {"prefill", "decode"}
    for phase in phases.values():
        assert phase.cost is not None and phase.cost.cycles > 0
        assert phase.flops > 0


def test_latent_attention_compiles_and_a_step_reads_its_cache_once(
    python: str, cache: Path
) -> None:
    settings = {"batch": ["2"], "input_len": ["384"], "output_len": ["16"]}
    asked = request("moe-infer", "tiny-latent", 1, settings, python=python, cache=cache)
    phases = {phase.phase: phase for phase in run(asked).phases}
    decode, filled = phases["decode"], 384 + (16 + 1) // 2
    assert decode.cost is not None and decode.cost.cycles > 0
    # Two layers cache 24 compressed values and 8 of the shared key, in two bytes each.
    assert decode.attention.cache_bytes == 2 * filled * 2 * (24 + 8) * 2
    assert phases["prefill"].attention.flops == 2 * 2 * 2 * 4 * 384**2 / 2 * (24 + 16)


def test_a_training_step_of_experts_compiles_with_its_optimizer(python: str, cache: Path) -> None:
    settings = {"batch": ["2"], "seq_len": ["256"]}
    asked = request("moe-pretrain", "tiny", 1, settings, python=python, cache=cache)
    (step,) = run(asked).phases
    assert step.cost is not None and step.cost.cycles > 0
    config = LlamaConfig.from_json(asked.case.shape)
    assert step.fit.needed > 12 * config.n_params, "weights and both moments of every expert"
