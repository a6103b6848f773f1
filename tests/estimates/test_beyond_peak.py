"""Figures beyond the hardware: flagged whenever device, chips and model are known, else never."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sample_rows import make_row

from tpubench.estimates.published.beyond_peak import beyond_peak
from tpubench.results import published
from tpubench.results.row import Row


def row(metric: str, value: float, **changes: Any) -> Row:
    fields: dict[str, Any] = {
        "evidence": "published",
        "workload": "llm-serving",
        "preset": "meta-llama/Llama-3.1-8B-Instruct",
        "params": "{}",
        "device": "nvidia-h100-sxm",
        "chips": 1,
        "dtype": "bfloat16",
        "samples": None,
        "ci_low": None,
        "ci_high": None,
        "metric": metric,
        "value": value,
    }
    return replace(make_row(), **{**fields, **changes})


# 989e12 FLOP/s ÷ (2 × 7.5e9 matrix parameters) is 66,000 tokens/s.
@pytest.mark.parametrize(
    ("metric", "possible", "impossible"),
    [
        ("output_tok_s", 60_000, 80_000),
        ("total_tok_s", 60_000, 80_000),
        ("train_tok_s", 20_000, 25_000),
        ("flop_s", 9e14, 1.1e15),
        ("bandwidth_bytes_s", 3.3e12, 3.4e12),
        ("mfu", 0.99, 1.01),
    ],
)
def test_the_peak_parts_what_can_be_from_what_cannot(
    metric: str, possible: float, impossible: float
) -> None:
    assert beyond_peak(row(metric, possible)) is None
    assert "beyond peak" in (beyond_peak(row(metric, impossible)) or "")


def test_figures_of_one_chip_and_of_all_are_held_against_the_same_peak() -> None:
    assert beyond_peak(row("output_tok_s", 80_000, chips=8)) is None
    assert beyond_peak(row("output_tok_s_per_chip", 80_000, chips=8))


def test_the_precision_decides_and_an_unknown_one_gets_the_highest_peak() -> None:
    assert beyond_peak(row("output_tok_s", 100_000, dtype="fp8")) is None
    assert beyond_peak(row("output_tok_s", 100_000, dtype="not-stated")) is None
    assert beyond_peak(row("output_tok_s", 140_000, dtype="not-stated"))


@pytest.mark.parametrize(
    "unknown",
    [
        {"device": "nvidia-h200-nvl-141gb"},
        {"chips": 0},
        {"preset": "model-not-stated"},
        {"preset": "Acme-Mixture-8x70B"},  # nobody says how much of it a token uses
    ],
)
def test_where_nobody_can_tell_nothing_is_said(unknown: dict[str, Any]) -> None:
    assert beyond_peak(row("output_tok_s", 1e9, **unknown)) is None


def test_a_mixture_is_held_against_its_active_parameters() -> None:
    mixture = {"preset": "Qwen3-30B-A3B", "dtype": "fp8"}
    assert beyond_peak(row("output_tok_s", 200_000, **mixture)) is None
    assert beyond_peak(row("output_tok_s", 500_000, **mixture))


def test_prompts_may_have_been_cached() -> None:
    assert "unless prompts were cached" in str(beyond_peak(row("input_tok_s", 80_000)))


def test_a_frozen_base_needs_two_thirds_of_the_work() -> None:
    lora = {"preset": "llama2_70b_lora", "workload": "mlperf-training"}
    assert beyond_peak(row("train_tok_s", 3_000, **lora)) is None
    assert beyond_peak(row("train_tok_s", 3_000, preset="llama2-70b"))


# 16 GB of weights at 3.35 TB/s are read 209 times a second.
def test_decoding_is_bound_by_the_weights_it_reads() -> None:
    batch = {"params": '{"batch": 2}'}
    assert beyond_peak(row("output_tok_s", 400, **batch)) is None
    assert "memory bandwidth" in str(beyond_peak(row("output_tok_s", 500, **batch)))
    assert beyond_peak(row("tpot_s", 0.006)) is None
    assert "memory bandwidth" in str(beyond_peak(row("tpot_s", 0.004)))
    assert beyond_peak(row("tpot_s", 0.004, chips=2)) is None


def test_speculated_tokens_share_a_reading_of_the_weights() -> None:
    for said in ("mtp", "eagle"):
        assert beyond_peak(row("tpot_s", 0.004, params=f'{{"speculative": "{said}"}}')) is None
    assert beyond_peak(row("tpot_s", 0.004, params='{"speculative": "none"}'))


BENCHMARK = {"workload": "mlperf-inference", "device": "nvidia-b200-sxm", "chips": 8}


@pytest.mark.parametrize(
    ("preset", "dtype", "wrong", "right"),
    [
        # Tokens taken for samples, and the submitter's own samples a second.
        ("whisper", "float16", 42755.7, 673.765),
        ("llama3.1-8b", "fp4", 102903, 797.76),
        ("llama2-70b-99", "fp4", 99169.78, 361.51),
        ("resnet50", "int8", 9e6, 6e5),
    ],
)
def test_tokens_taken_for_samples_are_beyond_the_peak(
    preset: str, dtype: str, wrong: float, right: float
) -> None:
    named = {**BENCHMARK, "preset": preset, "dtype": dtype}
    assert beyond_peak(row("samples_s", wrong, **named))
    assert beyond_peak(row("samples_s", right, **named)) is None


def test_another_model_under_a_benchmarks_name_has_other_work() -> None:
    named = {**BENCHMARK, "preset": "resnet", "params": '{"variant": "mobilenet-v1-0.25-128"}'}
    assert beyond_peak(row("samples_s", 9e6, **named)) is None


def test_requests_and_training_samples_count_by_their_tokens() -> None:
    assert beyond_peak(row("requests_s", 600, params='{"output_len": 128}'))
    assert beyond_peak(row("requests_s", 400, params='{"output_len": 128}')) is None
    trained = {"workload": "mlperf-training", "params": '{"seq_len": 8192}'}
    assert beyond_peak(row("samples_s", 4, **trained))
    assert beyond_peak(row("samples_s", 2, **trained)) is None


def test_no_shipped_figure_is_beyond_its_hardware() -> None:
    flagged = {row.source: why for row in published.rows() if (why := beyond_peak(row))}
    assert not flagged
