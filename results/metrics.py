"""What each metric means: name, unit, direction, how its samples become a value.

One entry a metric; tables, documentation and ``tpubench list metrics`` are derived from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tpubench.errors import UsageError
from tpubench.results.row import Better
from tpubench.results.statistics import Aggregate


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric. ``formula`` is printed under every table that shows it."""

    name: str
    unit: str
    better: Better
    aggregate: Aggregate
    formula: str
    per_chip_of: str | None = None
    usd_of: str | None = None
    """For a $ metric: the rate (items/s) it is derived from."""
    usd_items: float = 1e6
    """For a $ metric: how many items the price is quoted for."""


_BASE = (
    Metric(
        name="ttft_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="send (or call) to first token, queueing included",
    ),
    Metric(
        name="tpot_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="(end to end − ttft) ÷ (output tokens − 1), per request; null if one token",
    ),
    Metric(
        name="itl_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="every gap between streamed tokens",
    ),
    Metric(
        name="output_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="output tokens ÷ window (prefill and decode)",
    ),
    Metric(
        name="input_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="input tokens ÷ window (prefill and decode)",
    ),
    Metric(
        name="total_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="(input + output tokens) ÷ window (prefill and decode)",
    ),
    Metric(
        name="prefill_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="input tokens ÷ time of the prefill alone",
    ),
    Metric(
        name="decode_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="(output tokens − batch) ÷ time of the decode steps alone",
    ),
    Metric(
        name="e2e_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="send (or call) to last token, queueing included",
    ),
    Metric(
        name="time_to_train_s",
        unit="s",
        better="lower",
        aggregate="mean",
        formula="first training step to the target quality, initialisation excluded",
    ),
    Metric(
        name="step_time_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="wall time between real device barriers",
    ),
    Metric(
        name="duet_pass_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="tenth percentile of the pass times in each block of a duet (tpubench ab)",
    ),
    Metric(
        name="samples_s",
        unit="sample/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="samples ÷ window",
    ),
    Metric(
        name="train_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="tokens trained on ÷ step time (forward, backward, optimizer)",
    ),
    Metric(
        name="flop_s",
        unit="FLOP/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="model FLOPs ÷ step time",
    ),
    Metric(
        name="bandwidth_bytes_s",
        unit="byte/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="bytes read and written by the kernel ÷ step time (no write-allocate traffic)",
    ),
    Metric(
        name="transfer_bytes_s",
        unit="byte/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="bytes copied between host and device, counted once ÷ step time",
    ),
    Metric(
        name="algorithm_bytes_s",
        unit="byte/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="bytes of the whole array ÷ step time of a collective (nccl-tests' algbw)",
    ),
    Metric(
        name="bus_bytes_s",
        unit="byte/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="algorithm_bytes_s × the share that each of n ranks sends: 2(n − 1)/n for an"
        " all-reduce, (n − 1)/n for the others (nccl-tests' busbw)",
    ),
    Metric(
        name="requests_s",
        unit="request/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="requests completed ÷ window",
    ),
    Metric(
        name="goodput_req_s",
        unit="request/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="requests meeting all SLOs ÷ window",
    ),
    Metric(
        name="goodput_tok_s",
        unit="token/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="output tokens of requests meeting all SLOs ÷ window",
    ),
    Metric(
        name="slo_req_s",
        unit="request/s",
        better="higher",
        aggregate="harmonic_mean",
        formula="highest rate tried at which all SLOs are met",
    ),
    Metric(
        name="arrival_s",
        unit="s",
        better="lower",
        aggregate="max",
        formula="when each request was due, from the first of them; in closed loop, when it was"
        " sent",
    ),
    Metric(
        name="send_lag_s",
        unit="s",
        better="lower",
        aggregate="max",
        formula="how late each request was sent by the load generator; latencies include it",
    ),
    Metric(
        name="prompt_tokens",
        unit="token",
        better="higher",
        aggregate="mean",
        formula="tokens of each prompt, as the server counts them",
    ),
    Metric(
        name="answer_tokens",
        unit="token",
        better="higher",
        aggregate="mean",
        formula="tokens of each answer, as the server counts them",
    ),
    Metric(
        name="cached_share",
        unit="fraction",
        better="higher",
        aggregate="mean",
        formula="prompt tokens that the server took from its cache ÷ prompt tokens",
    ),
    Metric(
        name="cold_start_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="start of the serving engine's process to its first answer",
    ),
    Metric(
        name="compile_time_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="the backend's compile or weight packing and, where passes compile, what the first"
        " took longer than a warm one; nothing of it came from a cache",
    ),
    Metric(
        name="warm_compile_time_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="the same where all of it came from the persistent compile cache",
    ),
    Metric(
        name="first_step_s",
        unit="s",
        better="lower",
        aggregate="median",
        formula="the first pass, lazy compilation and cold caches included",
    ),
    Metric(
        name="peak_memory_bytes",
        unit="byte",
        better="lower",
        aggregate="max",
        formula="most bytes of tensors on any one device (cpu: resident set of the child process)",
    ),
    Metric(
        name="mfu",
        unit="fraction",
        better="higher",
        aggregate="harmonic_mean",
        formula=(
            "model FLOPs ÷ (time × chips × peak dense FLOP/s at that precision); attention counted"
            " causal; on llama-infer over the prefill; in training 6·N_matmul a token + attention,"
            " nothing recomputed"
        ),
    ),
    Metric(
        name="mbu",
        unit="fraction",
        better="higher",
        aggregate="harmonic_mean",
        formula=(
            "(weight + KV bytes that must be read) ÷ (time × chips × peak memory bandwidth);"
            " on llama-infer over the decode steps"
        ),
    ),
    Metric(
        name="joules_per_token",
        unit="J/token",
        better="lower",
        aggregate="mean",
        formula="integrated power ÷ tokens, with its scope (board, wall, modelled)",
    ),
    Metric(
        name="top1_vs_bfloat16",
        unit="fraction",
        better="higher",
        aggregate="mean",
        formula="timed tokens that the same weights, held in bfloat16, would have chosen too",
    ),
    Metric(
        name="kl_vs_bfloat16",
        unit="nat",
        better="lower",
        aggregate="mean",
        formula="mean KL divergence of the next token's probabilities from those of the same"
        " weights held in bfloat16, computed in float32",
    ),
)

TAILS: tuple[Literal["p90", "p99"], ...] = ("p90", "p99")
_LATENCIES = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}
_TAILS = tuple(
    Metric(
        name=f"{name}_{tail}_s",
        unit="s",
        better="lower",
        aggregate=tail,
        formula=f"{int(tail[1:])}th percentile of {name}_s ({what}) over requests, nearest rank",
    )
    for name, what in _LATENCIES.items()
    for tail in TAILS
)

_PER_CHIP = tuple(
    Metric(
        name=f"{metric.name}_per_chip",
        unit=f"{metric.unit}/chip",
        better=metric.better,
        aggregate=metric.aggregate,
        formula=f"{metric.name} ÷ physical chips held",
        per_chip_of=metric.name,
    )
    for metric in _BASE
    if metric.name
    in {
        "output_tok_s",
        "input_tok_s",
        "total_tok_s",
        "goodput_tok_s",
        "samples_s",
        "train_tok_s",
    }
)


_POWER = {1e6: "10⁶", 1e3: "10³"}


def _usd(name: str, rate: str, items: float, what: str) -> Metric:
    return Metric(
        name=name,
        unit=f"USD/{what}",
        better="lower",
        aggregate="mean",
        formula=f"{_POWER[items]} × chips × $/chip-hour ÷ (3600 × {rate}); carries the whole bill",
        usd_of=rate,
        usd_items=items,
    )


_USD = (
    _usd("usd_per_mtok_out", "output_tok_s", 1e6, "Mtoken"),
    _usd("usd_per_mtok_in", "input_tok_s", 1e6, "Mtoken"),
    _usd("usd_per_mtok_total", "total_tok_s", 1e6, "Mtoken"),
    _usd("usd_per_mtok_slo", "goodput_tok_s", 1e6, "Mtoken"),
    _usd("usd_per_train_mtok", "train_tok_s", 1e6, "Mtoken"),
    _usd("usd_per_ksample", "samples_s", 1e3, "ksample"),
)

METRICS: dict[str, Metric] = {
    metric.name: metric for metric in (*_BASE, *_TAILS, *_PER_CHIP, *_USD)
}
"""Every metric by name, in the order in which they are shown."""


def metric(name: str) -> Metric:
    """The metric of that name; UsageError naming the known ones otherwise."""
    try:
        return METRICS[name]
    except KeyError:
        raise UsageError(f"unknown metric {name!r}; known: {', '.join(METRICS)}") from None
