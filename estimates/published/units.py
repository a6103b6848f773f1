"""What published tables call a metric, and in which unit: ours, and the factor to it."""

from __future__ import annotations

from collections.abc import Mapping

HOUSE: Mapping[str, tuple[str, float]] = {
    "tokens_per_s": ("train_tok_s", 1.0),
    "tokens_per_s_per_chip": ("train_tok_s_per_chip", 1.0),
    "tflops_per_chip": ("flop_s_per_chip", 1e12),
    "mfu_pct": ("mfu", 1e-2),
    "hfu_pct": ("hfu", 1e-2),
    "time_to_train_min": ("time_to_train_s", 60.0),
    "samples_per_s": ("samples_s", 1.0),
    "samples_per_s_per_chip": ("samples_s_per_chip", 1.0),
    "queries_per_s": ("queries_s", 1.0),
    "seconds_per_image": ("sample_time_s", 1.0),
    "output_tokens_per_s": ("output_tok_s", 1.0),
    "output_tokens_per_s_per_chip": ("output_tok_s_per_chip", 1.0),
    "peak_output_tokens_per_s": ("peak_output_tok_s", 1.0),
    "total_tokens_per_s": ("total_tok_s", 1.0),
    "total_tokens_per_s_per_chip": ("total_tok_s_per_chip", 1.0),
    "prefill_tokens_per_s": ("prefill_tok_s", 1.0),
    "requests_per_s": ("requests_s", 1.0),
    "ttft_ms": ("ttft_s", 1e-3),
    "itl_ms": ("itl_s", 1e-3),
    "tpot_ms": ("tpot_s", 1e-3),
    "mean_latency_ms": ("e2e_s", 1e-3),
    "e2e_latency_ms": ("e2e_s", 1e-3),
    "achieved_mem_bw_gbps_per_chip": ("bandwidth_bytes_s_per_chip", 1e9),
}
"""By the name in a table. hfu counts recomputed FLOPs too; a rate ``_per_chip`` is a chip's."""


def house(metric: str) -> tuple[str, float]:
    """Our metric and the factor to its unit; a name that is ours already, or nobody's, stays."""
    name = metric.strip().lower()
    return HOUSE.get(name, (name, 1.0))
