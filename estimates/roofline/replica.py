"""One replica of a model on its chips: what it holds, and seconds of a step and of a prompt.

A decoding step reads the weights once for the whole batch, reads the cache of every sequence,
and exchanges activations twice a layer; it lasts as long as the slower of reading weights and
multiplying with them. A prompt is bound by FLOP/s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from tpubench.devices.precisions import width_bytes
from tpubench.estimates.problem import Serving
from tpubench.estimates.roofline.operators import link, usual
from tpubench.estimates.roofline.terms import (
    ATTENTION,
    CACHE,
    HOST_LAYER_S,
    HOST_SEQUENCE_PYTHON_S,
    HOST_SEQUENCE_S,
    HOST_STEP_S,
    LINK_LATENCY_S,
    PROGRAM,
    STREAM,
)

MEMORY_SHARE = 0.95
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
IN_PYTHON = frozenset({"trtllm-pytorch", "vllm", "vllm-tpu", "sglang", "sglang-jax", "jetstream"})
"""Engines that schedule in Python."""
CACHED_PREFIX = 0.9
"""Part of a prompt found in the prefix cache where a source says that it is on, no more."""

Seconds = dict[str, float]


def weight_bytes(problem: Serving) -> float:
    """All weights of one replica, bytes."""
    return problem.shape.params * width_bytes(problem.precision)


def memory_bytes(problem: Serving) -> float:
    """Memory of one replica's chips."""
    more = 1.0 if problem.chip.is_tpu else SOLD_AS_GB
    return problem.chip.hbm_bytes * more * problem.tensor


def group_size(problem: Serving) -> int:
    """Chips of one replica: as stated, or the fewest that leave room for a cache."""
    if problem.kind != "queries":
        return max(1, problem.tensor)
    group = 1
    while group < problem.chips and weight_bytes(problem) > 0.65 * group * problem.chip.hbm_bytes:
        group *= 2
    return min(group, problem.chips)


def replicas(problem: Serving) -> float:
    """Copies of the model that share the requests."""
    return max(1.0, problem.chips / problem.tensor)


def context(problem: Serving, of_output: float) -> float:
    """Cached tokens of a sequence with so much of its reply."""
    return (problem.input_len or 0.0) + of_output * (problem.output_len or 1.0)


def cache_bytes(problem: Serving, cached: float) -> float:
    """Cache of one sequence of ``cached`` tokens on all chips of a replica, copies included."""
    shape, width = problem.shape, width_bytes(problem.kv_precision)
    copies = max(1.0, problem.tensor / shape.kv_heads) if shape.kv_heads else 1.0
    return copies * shape.kv_tokens_bytes(cached, width)


def most_sequences(problem: Serving) -> float:
    """Sequences that one replica's memory can cache, at least one."""
    memory = memory_bytes(problem) * MEMORY_SHARE - weight_bytes(problem)
    whole = problem.software in RESERVING
    each = cache_bytes(problem, context(problem, 1.0 if whole else 0.55))
    return min(MOST_SEQUENCES, max(1.0, memory / each))


def decode_step(problem: Serving, batch: float, cached: float) -> Seconds:
    """One step of one replica over ``batch`` sequences of ``cached`` tokens."""
    shape, chip, tensor = problem.shape, problem.chip, problem.tensor
    read = shape.weights_read(batch) * width_bytes(problem.precision) / tensor
    weights_s = read / (chip.hbm_bytes_s * STREAM)
    precision = "bfloat16" if problem.weight_only else problem.precision
    peak = chip.peak(precision) or chip.peak_flop_s["bfloat16"]
    rate = tensor * peak * usual(chip.name, precision) * PROGRAM
    slower = 1 / shape.experts_speed(peak / chip.hbm_bytes_s) - 1
    compute_s = 2 * batch * (shape.active + slower * shape.experts_used) / rate
    both = (weights_s**3 + compute_s**3) ** (1 / 3)
    by_weights = weights_s**3 / (weights_s**3 + compute_s**3)
    each = HOST_SEQUENCE_PYTHON_S if problem.software in IN_PYTHON else HOST_SEQUENCE_S
    cache_s = _read_again(problem) * batch * cache_bytes(problem, cached) / tensor
    cache_s /= chip.hbm_bytes_s * CACHE
    return {
        "weights": both * by_weights,
        "decode": both * (1 - by_weights),
        "cache": cache_s,
        "link": _link_s(problem, batch),
        "host": HOST_STEP_S + HOST_LAYER_S * shape.layers + each * batch,
    }


def _read_again(problem: Serving) -> float:
    """How often a cached head is read in a step: once, but by TensorRT-LLM before its XQA kernels.

    Until them each query head read its own (github.com/NVIDIA/TensorRT-LLM, "New XQA-kernel
    provides 2.4x more Llama-70B throughput", November 2023), as in the tables of its
    gptSessionBenchmark; half of that is taken to come from the last-level cache (assumed, not
    measured).
    """
    shape = problem.shape
    if problem.software != "gptsession" or not shape.kv_heads:
        return 1.0
    return max(1.0, shape.heads / shape.kv_heads / 2)


def prefill(problem: Serving, tokens: float, length: float) -> Seconds:
    """Processing ``tokens`` prompt tokens of prompts ``length`` long, on one replica."""
    shape, chip, tensor = problem.shape, problem.chip, problem.tensor
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


def _link_s(problem: Serving, tokens: float, *, latency: bool = True) -> float:
    """Two sums over the chips of a group in each layer, ``tokens`` activations each."""
    if problem.tensor <= 1:
        return 0.0
    shape, chip, n = problem.shape, problem.chip, problem.tensor
    one_way = chip.link_bytes_s / 2
    if n > chip.domain:
        one_way = min(one_way, chip.nic_bytes_s if chip.domain > 1 else one_way)
    volume = 2 * (n - 1) / n * tokens * shape.d_model * 2.0
    seconds = 2 * shape.layers * volume / (one_way * link(chip))
    if latency:
        seconds += 2 * shape.layers * LINK_LATENCY_S * math.log2(n)
    return seconds


def add(*parts: tuple[float, Mapping[str, float]]) -> Seconds:
    """Sum of seconds by class, each part times its factor; classes without any left out."""
    total: Seconds = {}
    for factor, seconds in parts:
        for name, value in seconds.items():
            total[name] = total.get(name, 0.0) + factor * value
    return {name: value for name, value in total.items() if value > 0}
