"""Seconds of one generated token, by class of work, from closed forms.

A decoding step reads the weights once for the whole batch, reads the cache of every sequence,
and exchanges activations twice a layer; it lasts as long as the slower of reading weights and
multiplying with them. A prompt is bound by FLOP/s. With in-flight batching each request costs its
prompt and its share of ``output_len`` steps; the batch is what the memory left by the weights can
cache, or what the source states. At a fixed request rate the batch settles where arrivals and
completions balance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from tpubench.estimates.operators import link, usual
from tpubench.estimates.problem import Problem
from tpubench.estimates.shapes import BYTES, Shape
from tpubench.estimates.terms import (
    ATTENTION,
    CACHE,
    HOST_LAYER_S,
    HOST_SEQUENCE_S,
    HOST_STEP_S,
    LINK_LATENCY_S,
    NIC_BYTES_S,
    PROGRAM,
    STREAM,
    Terms,
)

MEMORY_SHARE = 0.92
"""Share of the memory that weights and cache may take together."""
SOLD_AS_GB = 1.066
"""HBM that GPU vendors sell as 80 GB holds 80 GiB less its reserve (81,559 MiB on an H100)."""
MOST_SEQUENCES = 2048.0
"""Sequences that serving engines decode at once, unless told otherwise."""
RESERVING = frozenset({"trtllm", "trtllm-server", "trtllm-pytorch", "gptsession", "tensorrt",
                       "jetstream", "saxml"})  # fmt: skip
"""Engines that admit a request only where its whole reply can be cached: TensorRT-LLM's default
policy, GUARANTEED_NO_EVICT (nvidia.github.io/TensorRT-LLM, "Useful Runtime Options"), and engines
with fixed slots. Others cache what there is, a little more than half of a reply on average."""
TAIL = 3.0
"""The longest reply of a run, relative to the mean: a run ends with it, at a falling rate."""
REQUESTS = 500.0
"""Requests of a run at a fixed rate where the source does not say."""
CACHED_PREFIX = 0.9
"""Part of a prompt found in the prefix cache where a source says that it is on, no more."""
SERVER_SHARE = {"mlperf-server": 0.92, "mlperf-interactive": 0.55}
"""Part of the offline rate that holds under a latency limit, before correction."""

Seconds = dict[str, float]


def terms(problem: Problem) -> Terms:
    """The prediction of a serving figure."""
    problem = replace(problem, tensor=group_size(problem))
    kind = problem.kind
    if problem.metric in {"mean_latency_ms", "e2e_latency_ms"}:
        return _whole_request(problem)
    if kind in {"offline", "queries"}:
        return _offline(problem)
    if kind == "static":
        return _static(problem)
    if kind == "decode":
        return _decode(problem)
    if kind == "prefill":
        return _prefill_only(problem)
    if kind == "server":
        return _server(problem)
    return _concurrency(problem)


def _whole_request(problem: Problem) -> Terms:
    """From sending to the last token: the first one, and the gaps between the others."""
    first = terms(replace(problem, metric="ttft_ms"))
    gap = terms(replace(problem, metric="tpot_ms"))
    both = _add((1.0, first.seconds), (max(0.0, (problem.output_len or 1.0) - 1), gap.seconds))
    return Terms(seconds=both, scale=1e3, rate=False, batch=gap.batch)


def shape_of(problem: Problem) -> Shape:
    """The model's shape; a serving problem always has one."""
    assert problem.shape is not None
    return problem.shape


def weight_bytes(problem: Problem) -> float:
    """All weights of one replica, bytes."""
    width = 0.53 if problem.precision == "int4" else BYTES[problem.precision]
    return shape_of(problem).params * width


def fits(problem: Problem) -> bool:
    """Whether weights and one sequence's cache fit in the memory of one replica's chips."""
    need = weight_bytes(problem) + _cache_bytes(problem, _context(problem, 1.0))
    return need <= memory_bytes(problem)


def memory_bytes(problem: Problem) -> float:
    """Memory of one replica's chips."""
    more = 1.0 if problem.chip.is_tpu else SOLD_AS_GB
    return problem.chip.hbm_bytes * more * problem.tensor


def group_size(problem: Problem) -> int:
    """Chips of one replica: as stated, or the fewest that leave room for a cache."""
    if problem.kind != "queries":
        return max(1, problem.tensor)
    group = 1
    while group < problem.chips and weight_bytes(problem) > 0.65 * group * problem.chip.hbm_bytes:
        group *= 2
    return min(group, problem.chips)


def replicas(problem: Problem) -> float:
    """Copies of the model that share the requests."""
    return max(1.0, problem.chips / problem.tensor)


def _context(problem: Problem, of_output: float) -> float:
    return (problem.input_len or 0.0) + of_output * (problem.output_len or 1.0)


def _cache_bytes(problem: Problem, context: float) -> float:
    shape, width = shape_of(problem), BYTES.get(problem.kv_precision, 2.0)
    copies = max(1.0, problem.tensor / shape.kv_heads) if shape.kv_heads else 1.0
    return copies * shape.kv_tokens_bytes(context, width)


def most_sequences(problem: Problem) -> float:
    """Sequences that one replica's memory can cache, at least one."""
    memory = memory_bytes(problem) * MEMORY_SHARE - weight_bytes(problem)
    whole = problem.software in RESERVING
    each = _cache_bytes(problem, _context(problem, 1.0 if whole else 0.55))
    return min(MOST_SEQUENCES, max(1.0, memory / each))


def decode_step(problem: Problem, batch: float, context: float) -> Seconds:
    """One step of one replica over ``batch`` sequences of ``context`` tokens."""
    shape, chip, tensor = shape_of(problem), problem.chip, problem.tensor
    width = 0.53 if problem.precision == "int4" else BYTES[problem.precision]
    read = shape.weights_read(batch) * width / tensor
    weights_s = read / (chip.hbm_bytes_s * STREAM)
    precision = "bfloat16" if problem.weight_only else problem.precision
    peak = chip.peak(precision) or chip.peak_flop_s["bfloat16"]
    rate = tensor * peak * usual(chip.name, precision) * PROGRAM
    slower = 1 / shape.experts_speed(peak / chip.hbm_bytes_s) - 1
    compute_s = 2 * batch * (shape.active + slower * shape.experts_used) / rate
    both = (weights_s**3 + compute_s**3) ** (1 / 3)
    by_weights = weights_s**3 / (weights_s**3 + compute_s**3)
    cache_s = batch * _cache_bytes(problem, context) / tensor
    cache_s /= chip.hbm_bytes_s * CACHE
    return {
        "weights": both * by_weights,
        "decode": both * (1 - by_weights),
        "cache": cache_s,
        "link": _link_s(problem, batch),
        "host": HOST_STEP_S + HOST_LAYER_S * shape.layers + HOST_SEQUENCE_S * batch,
    }


def prefill(problem: Problem, tokens: float, length: float) -> Seconds:
    """Processing ``tokens`` prompt tokens of prompts ``length`` long, on one replica."""
    shape, chip, tensor = shape_of(problem), problem.chip, problem.tensor
    if problem.scenario == "prefix-cached":
        tokens *= 1 - CACHED_PREFIX
    precision = "bfloat16" if problem.weight_only else problem.precision
    peak = chip.peak(precision) or chip.peak_flop_s["bfloat16"]
    rate = tensor * peak * usual(chip.name, precision) * PROGRAM
    routed = min(shape.experts_used, 0.9 * shape.active)
    matmul_s = 2 * (shape.active - routed) * tokens / rate
    experts_s = 2 * routed * tokens / (rate * shape.experts_speed(peak / chip.hbm_bytes_s))
    pairs = shape.attention_flops(tokens, length) / 2
    attention_s = pairs / (tensor * chip.peak_flop_s["bfloat16"] * ATTENTION)
    return {
        "matmul": matmul_s,
        "experts": experts_s,
        "attention": attention_s,
        "link": _link_s(problem, tokens, latency=False),
    }


def _link_s(problem: Problem, tokens: float, *, latency: bool = True) -> float:
    """Two sums over the chips of a group in each layer, ``tokens`` activations each."""
    if problem.tensor <= 1:
        return 0.0
    shape, chip, n = shape_of(problem), problem.chip, problem.tensor
    one_way = chip.link_bytes_s / 2
    if n > chip.domain:
        one_way = min(one_way, NIC_BYTES_S if chip.domain > 1 else one_way)
    volume = 2 * (n - 1) / n * tokens * shape.d_model * 2.0
    seconds = 2 * shape.layers * volume / (one_way * link(chip))
    if latency:
        seconds += 2 * shape.layers * LINK_LATENCY_S * math.log2(n)
    return seconds


def _add(*parts: tuple[float, Mapping[str, float]]) -> Seconds:
    total: Seconds = {}
    for factor, seconds in parts:
        for name, value in seconds.items():
            total[name] = total.get(name, 0.0) + factor * value
    return {name: value for name, value in total.items() if value > 0}


def _per_request(problem: Problem, batch: float) -> Seconds:
    """Busy seconds of one replica for one request, ``batch`` of them in flight."""
    output = problem.output_len or 1.0
    length = problem.input_len or 1.0
    step = decode_step(problem, batch, _context(problem, 0.5))
    return _add((1.0, prefill(problem, length, length)), (problem.beams * output / batch, step))


def _rate_terms(problem: Problem, per_request: Seconds, batch: float, extra: float = 1.0) -> Terms:
    """Tokens (or requests, or bytes) a second of all replicas from seconds of a request."""
    output, copies = problem.output_len or 1.0, replicas(problem)
    scale = output * copies
    metric = problem.metric
    if metric in {"samples_per_s", "requests_per_s"}:
        scale = copies
    elif metric.startswith("total_tokens"):
        scale = (output + (problem.input_len or 0.0)) * copies
    elif metric == "prefill_tokens_per_s":
        scale = (problem.input_len or 1.0) * copies
    if metric.endswith("per_chip"):
        scale /= problem.chips
    return Terms(seconds=per_request, scale=scale * extra, rate=True, batch=batch)


def _offline(problem: Problem) -> Terms:
    batch = most_sequences(problem)
    if problem.batch:
        batch = min(batch, max(1.0, problem.batch / replicas(problem)))
    extra = SERVER_SHARE.get(problem.scenario, 1.0)
    if extra < 0.6:
        batch = max(1.0, batch / 3)
    if problem.metric in {"itl_ms", "tpot_ms"}:
        return _gap(problem, batch)
    if problem.metric == "ttft_ms":
        return _first_token(problem, batch)
    return _rate_terms(problem, _per_request(problem, batch), batch, extra)


def _static(problem: Problem) -> Terms:
    batch = max(1.0, (problem.batch or 1.0) / replicas(problem))
    length, output = problem.input_len or 1.0, problem.output_len or 1.0
    if problem.metric in {"itl_ms", "tpot_ms"}:
        return _decode(problem)
    if problem.metric == "ttft_ms":
        return _prefill_only(problem)
    step = decode_step(problem, batch, _context(problem, 0.5))
    whole = _add((1.0, prefill(problem, batch * length, length)), (output, step))
    return _rate_terms(problem, _add((1 / batch, whole)), batch)


def _decode(problem: Problem) -> Terms:
    batch = max(1.0, (problem.batch or 1.0) / replicas(problem))
    step = _add((1.0, decode_step(problem, batch, _context(problem, 0.5))))
    if problem.metric in {"itl_ms", "tpot_ms", "ttft_ms"}:
        return Terms(seconds=step, scale=1e3, rate=False, batch=batch)
    if problem.metric == "achieved_mem_bw_gbps_per_chip":
        return Terms(
            seconds=step,
            scale=weight_bytes(problem) / problem.tensor / 1e9,
            rate=True,
            batch=batch,
        )
    scale = batch * replicas(problem)
    if problem.metric.endswith("per_chip"):
        scale /= problem.chips
    return Terms(seconds=step, scale=scale, rate=True, batch=batch)


def _prefill_only(problem: Problem) -> Terms:
    batch = max(1.0, (problem.batch or 1.0) / replicas(problem))
    length = problem.input_len or 1.0
    floor = decode_step(problem, 1.0, length)
    work = prefill(problem, batch * length, length)
    parts = _add((1.0, work), (1.0, {"host": floor["host"]}), (0.5, {"weights": floor["weights"]}))
    if problem.metric in {"ttft_ms", "itl_ms", "tpot_ms"}:
        return Terms(seconds=parts, scale=1e3, rate=False, batch=batch)
    return _rate_terms(problem, _add((1 / batch, parts)), batch)


def _gap(problem: Problem, batch: float) -> Terms:
    """Gap between tokens while other requests' prompts are processed in between."""
    output, length = problem.output_len or 1.0, problem.input_len or 1.0
    step = decode_step(problem, batch, _context(problem, 0.5))
    parts = _add((1.0, step), (batch / output, prefill(problem, length, length)))
    return Terms(seconds=parts, scale=1e3, rate=False, batch=batch)


def _first_token(problem: Problem, batch: float) -> Terms:
    """Prompt, and the prompts queued before it: all of a burst, few of a steady flow."""
    length = problem.input_len or 1.0
    concurrency = (problem.batch or batch) / replicas(problem)
    burst = "burst" in problem.notes
    queued = 0.83 * concurrency if burst else 1 + 0.3 * (concurrency - 1)
    step = decode_step(problem, batch, _context(problem, 0.5))
    parts = [(max(1.0, queued), prefill(problem, length, length)), (1.0, step)]
    if (
        concurrency > 1.05 * batch and not burst
    ):  # more requests than the memory holds: whole turns are waited
        turn = _per_request(problem, batch)
        parts.append((concurrency - batch, turn))
    return Terms(seconds=_add(*parts), scale=1e3, rate=False, batch=batch)


def _concurrency(problem: Problem) -> Terms:
    stated = max(1.0, (problem.batch or 1.0) / replicas(problem))
    batch = min(stated, most_sequences(problem))
    if problem.metric in {"itl_ms", "tpot_ms"}:
        return _gap(problem, batch)
    if problem.metric == "ttft_ms":
        return _first_token(problem, batch)
    found = _rate_terms(problem, _per_request(problem, batch), batch)
    if problem.metric == "peak_output_tokens_per_s":
        output = problem.output_len or 1.0
        step = _add((output / batch, decode_step(problem, batch, _context(problem, 0.5))))
        return replace(found, seconds=step)
    return found


def _server(problem: Problem) -> Terms:
    """A fixed request rate: the batch settles where requests leave as fast as they come."""
    qps = (problem.qps or math.inf) / replicas(problem)
    length, output = problem.input_len or 1.0, problem.output_len or 1.0
    most = min(most_sequences(problem), REQUESTS)
    busy_s = sum(prefill(problem, length, length).values())
    context = _context(problem, 0.5)
    batch = most
    if math.isfinite(qps) and qps * busy_s < 0.95:
        batch = 1.0
        for _ in range(60):
            gap_s = sum(decode_step(problem, batch, context).values()) / (1 - qps * busy_s)
            batch = 0.5 * batch + 0.5 * min(most, max(1.0, qps * output * gap_s))
    saturated = batch > 0.98 * most
    step = decode_step(problem, batch, context)
    if problem.metric in {"itl_ms", "tpot_ms"}:
        if saturated:
            return _gap(problem, batch)
        parts = _add((1.0, step), (batch / output, prefill(problem, length, length)))
        return Terms(seconds=parts, scale=1e3, rate=False, batch=batch)
    if problem.metric == "ttft_ms":
        if math.isinf(qps):
            queue = _add((REQUESTS / 2, prefill(problem, length, length)), (1.0, step))
            waiting = max(0.0, REQUESTS - most) ** 2 / (2 * REQUESTS)
            parts = _add((1.0, queue), (waiting, _per_request(problem, batch)))
            return Terms(seconds=parts, scale=1e3, rate=False, batch=batch)
        load = min(0.9, qps * busy_s)
        own = prefill(problem, length, length)
        # Half of the step that is running, then the step in which its own prompt is processed.
        parts = _add((1 + load / (1 - load), own), (1.5, step))
        if saturated and most < REQUESTS:
            behind = max(0.0, 1 - 1 / (qps * sum(_per_request(problem, batch).values())))
            parts = _add((1.0, parts), (REQUESTS / 2 * behind, _per_request(problem, batch)))
        return Terms(seconds=parts, scale=1e3, rate=False, batch=batch)
    if math.isinf(qps):
        drain = _add((1.0, _per_request(problem, batch)), (TAIL * output / REQUESTS / 2, step))
        return _rate_terms(problem, drain, batch)
    work = _per_request(problem, batch)
    if saturated and most < REQUESTS and sum(work.values()) > 0.9 / qps:
        return _rate_terms(problem, work, batch)
    tail = _add((TAIL * output / REQUESTS, step))
    return _rate_terms(problem, {**tail, "arrival": 1 / qps}, batch)
