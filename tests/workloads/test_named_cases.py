"""Standard cases of the Llama program by the names that serving benchmarks use."""

from __future__ import annotations

import pytest

from tpubench.errors import UsageError
from tpubench.suite import registry
from tpubench.suite.workload import Case, Weights


def lengths(cases: list[Case]) -> list[tuple[int, int]]:
    return [(case.number("input_len"), case.number("output_len")) for case in cases]


@pytest.mark.parametrize("name", ["llama-infer", "moe-infer"])
def test_lengths_name_prompt_and_new_tokens_together(name: str) -> None:
    workload = registry.workload(name)
    preset = "llama-3.1-8b" if name == "llama-infer" else "mixtral-8x7b"
    cases = workload.cases(
        preset, {"lengths": ["1k/1k", "8k/1k", "1k/8k"], "batch": ["4"]}, accelerator=True
    )
    assert lengths(cases) == [(1024, 1024), (8192, 1024), (1024, 8192)]
    plain = {"input_len": ["8192"], "output_len": ["1024"], "batch": ["4"]}
    assert cases[1] in workload.cases(preset, plain, accelerator=True), "no case of its own"


def test_a_name_that_is_none_or_contradicts_is_refused() -> None:
    workload = registry.workload("llama-infer")
    with pytest.raises(UsageError, match=r"lengths='2k/2k' is not one of 1k/1k, 8k/1k, 1k/8k"):
        workload.cases("tiny", {"lengths": ["2k/2k"]})
    with pytest.raises(UsageError, match=r"lengths=8k/1k sets input_len too: give one of them"):
        workload.cases("tiny", {"lengths": ["8k/1k"], "input_len": ["5"]})
    with pytest.raises(UsageError, match=r"no parameter 'length'; it has .*lengths"):
        workload.cases("tiny", {"length": ["8k/1k"]})


def test_a_case_longer_than_its_model_is_refused() -> None:
    workload = registry.workload("moe-infer")
    (case,) = workload.cases("deepseek-moe-16b", {"lengths": ["8k/1k"], "batch": ["1"]})
    with pytest.raises(UsageError, match="longer than the 4096 tokens"):
        workload.prepare(case, Weights())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-prefill", {(1024, 1), (8192, 1), (32768, 1)}),
        ("llama-decode", {(1024, 64), (8192, 64)}),
        ("long-context", {(31 * 1024, 1024), (127 * 1024, 1024)}),
    ],
)
def test_standard_cases_of_an_accelerator(name: str, expected: set[tuple[int, int]]) -> None:
    workload = registry.workload(name)
    preset, _ = workload.default_preset(True)
    cases = workload.cases(preset, {}, accelerator=True)
    assert set(lengths(cases)) == expected
    for case in cases:
        workload.prepare(case, Weights())


@pytest.mark.parametrize("name", ["llama-prefill", "llama-decode", "long-context"])
@pytest.mark.parametrize("accelerator", [False, True])
def test_every_preset_has_standard_cases_that_it_can_hold(name: str, accelerator: bool) -> None:
    workload = registry.workload(name)
    for preset in workload.presets:
        cases = workload.cases(preset, {}, accelerator=accelerator)
        assert cases
        for case in cases:
            workload.prepare(case, Weights())


def test_experts_are_not_compiled_for_several_chips() -> None:
    workload = registry.workload("moe-infer")
    (case, *_) = workload.cases("mixtral-8x7b", {"batch": ["1"]})
    with pytest.raises(UsageError, match="moe-infer is not compiled for several chips yet"):
        workload.program(case, "decode", depth=1, chips=4)
