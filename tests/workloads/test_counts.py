"""Closed forms of FLOPs and bytes against torch's own counter on meta tensors."""

from __future__ import annotations

import resource
import time

import pytest

from tpubench.suite import registry
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama.config import PRESETS
from tpubench.workloads.llama.infer import LlamaInfer

PUBLISHED_PARAMETERS = {
    "smollm2-135m": 134.5e6,
    "llama-3.2-1b": 1.236e9,
    "llama-3.1-8b": 8.03e9,
    "llama-3.1-70b": 70.6e9,
    "llama-3.1-405b": 405.9e9,
}
PUBLISHED_KV_KIB = {
    "smollm2-135m": 22.5,
    "llama-3.2-1b": 32,
    "llama-3.1-8b": 128,
    "llama-3.1-70b": 320,
    "llama-3.1-405b": 504,
}


@pytest.mark.parametrize(("preset", "parameters"), PUBLISHED_PARAMETERS.items())
def test_presets_have_the_published_number_of_parameters(preset: str, parameters: float) -> None:
    assert PRESETS[preset].n_params == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize(("preset", "kib"), PUBLISHED_KV_KIB.items())
def test_presets_have_the_published_cache_size(preset: str, kib: float) -> None:
    assert PRESETS[preset].kv_bytes_per_token(2) == kib * 1024


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("batch", [1, 8])
def test_counted_on_meta_equals_the_closed_form_within_one_percent(preset: str, batch: int) -> None:
    workload = registry.workload("llama-infer")
    assert isinstance(workload, LlamaInfer)
    length, output = (1024, 512) if preset != "tiny" else (64, 32)
    settings = {"batch": [str(batch)], "input_len": [str(length)], "output_len": [str(output)]}
    (case,) = workload.cases(preset, settings)
    config = PRESETS[preset]
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counted = workload.count(case)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    # torch counts attention as if it were not causal; so does this closed form of the prefill.
    closed = {
        "prefill_flops": arithmetic.prefill_flops(config, batch, length, causal=False),
        "prefill_bytes": arithmetic.prefill_bytes(config, batch, length, 2),
        "decode_flops": arithmetic.decode_flops(config, batch, length + output),
        "decode_bytes": arithmetic.decode_bytes(config, batch, length + output, 2),
    }
    for name, value in closed.items():
        assert counted[name] == pytest.approx(value, rel=0.01), name
    assert grown_kib < 512 * 1024, "counting must allocate no weights"
    assert time.monotonic() - began < 60


def test_causal_attention_is_half_and_a_bit() -> None:
    config = PRESETS["llama-3.1-8b"]
    whole = arithmetic.prefill_flops(config, 1, 8192, causal=False)
    causal = arithmetic.prefill_flops(config, 1, 8192)
    assert whole / causal == pytest.approx(1.13, abs=0.01)


def test_the_work_of_a_case_is_the_sum_of_its_steps() -> None:
    workload = registry.workload("llama-infer")
    (case,) = workload.cases("tiny", {"batch": ["2"], "input_len": ["8"], "output_len": ["4"]})
    work, config = workload.work(case), PRESETS["tiny"]
    steps = [arithmetic.decode_flops(config, 2, keys) for keys in (9, 10, 11)]
    assert work.phases["decode"].flops == sum(steps)
    assert work.items == 8
    assert work.phases["prefill"].items == 16


@pytest.mark.parametrize(
    ("name", "preset", "flops", "moved"),
    [
        ("gemm", "square-512", 2 * 512**3, 3 * 512**2 * 2),
        ("gemm", "8b-down", 2 * 512 * 4096 * 14336, (512 * 14336 + 4096 * 14336 + 512 * 4096) * 2),
        ("hbm", "read", 2**26, 2**28),
        ("hbm", "copy", 0, 2**29),
        ("hbm", "triad", 2**27, 3 * 2**28),
    ],
)
def test_the_limits_count_what_they_do(name: str, preset: str, flops: int, moved: int) -> None:
    workload = registry.workload(name)
    (case, *_) = workload.cases(preset, {})
    assert (workload.work(case).flops, workload.work(case).bytes) == (flops, moved)
