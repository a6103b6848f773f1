"""From the compiler's cycles to the time of a step: what it covers, and what is added.

A step is the sum of three parts, none of which overlaps another:

- *dense*: everything but attention and collectives, the larger of

  - the compiler's cycles at the stated clock,
  - cycles of the operations that stream from HBM themselves, followed by the asynchronous copies
    at full bandwidth: those copies can hide behind arithmetic, not behind other HBM traffic,
  - its FLOPs at peak;

- *attention*: the key/value cache at ``ATTENTION_HBM_SHARE`` of the bandwidth, or its FLOPs at
  ``ATTENTION_FLOP_SHARE`` of the peak, whichever takes longer;
- *collectives*: bytes over the links of the slice, and a latency for each hop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpubench.estimates.compiled.hlo import Exchange, ProgramCost
from tpubench.estimates.compiled.targets import Target

ATTENTION_HBM_SHARE = 0.55
"""Share of the HBM bandwidth at which a decode kernel reads the cache. Fitted to published served
rows, most of them of one source (benchmarks/compiled_vs_published.py, docs/compile.md)."""

ATTENTION_FLOP_SHARE = 0.5
"""Share of the matrix peak that attention over a prompt reaches. Assumed, not fitted."""

HOP_LATENCY_S = 1e-6
"""From one chip to its neighbour (jax-ml.github.io/scaling-book, "Sharded matrices")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCost:
    """Attention of one run of a program, over all layers and all chips."""

    flops: float
    cache_bytes: float
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of one run of a program, part by part."""

    dense_s: float
    attention_s: float
    collectives_s: float
    bound: str
    """What limits the dense part: cycles, hbm or flops."""

    @property
    def total_s(self) -> float:
        return self.dense_s + self.attention_s + self.collectives_s


def attention(
    calls: Sequence[Mapping[str, int | bool]], context: int | None, layers: float
) -> AttentionCost:
    """What the recorded calls need; ``layers`` is how often each stands for another one.

    Each query attends to each key (half of them when causal): 2 FLOPs a pair in each of the call's
    matrix products, two forward and five backward. Of each key and its value ``cached`` values are
    read. ``context`` replaces the number of keys: a
    decode step reads what has been filled.
    """
    flops = cache = 0.0
    for call in calls:
        keys = min(int(call["keys"]), context) if context else int(call["keys"])
        pairs = call["batch"] * call["heads"] * call["queries"] * keys
        flops += 2 * call["products"] * pairs * call["head_dim"] * (0.5 if call["causal"] else 1)
        cache += call["batch"] * call["kv_heads"] * keys * call["cached"] * call["itemsize"]
    return AttentionCost(
        flops=flops * layers, cache_bytes=cache * layers, calls=round(len(calls) * layers)
    )


def step_time(
    cost: ProgramCost, attended: AttentionCost, *, flops: float, dtype: str, target: Target
) -> StepTime:
    """The time of one run. ``cost`` and ``flops`` are of one device, ``attended`` of them all."""
    clock, bandwidth = target.clock_hz, target.hbm_bytes_s
    bounds = {
        "cycles": cost.cycles / clock,
        "hbm": max(
            cost.streaming_cycles / clock, cost.streaming_bytes / bandwidth
        ) + cost.prefetch_bytes / bandwidth,
        "flops": flops / target.peak_flop_s(dtype),
    }  # fmt: skip
    bound = max(bounds, key=lambda name: bounds[name])
    attention_s = max(
        attended.cache_bytes / target.devices / (bandwidth * ATTENTION_HBM_SHARE),
        attended.flops / target.devices / (target.peak_flop_s(dtype) * ATTENTION_FLOP_SHARE),
    )
    return StepTime(
        dense_s=bounds[bound],
        attention_s=attention_s,
        collectives_s=sum(exchange_s(each, target) for each in cost.collectives),
        bound=bound,
    )


def exchange_s(collective: Exchange, target: Target) -> float:
    """Seconds of one collective over the whole slice.

    ``bytes`` are those of the result on one chip. A chip of an n-chip group sends (n-1)/n of
    them, an all-reduce twice that, over one link for each axis that is longer than one, two where
    the axis is a ring. Latency: half of each ring, or a whole line, for each phase.
    """
    if collective.devices <= 1:
        return 0.0
    links = hops = 0.0
    for length in target.axes:
        if length > 1:
            ring = target.wraps(length)
            links += 2 if ring else 1
            hops += length / 2 if ring else length - 1
    phases = 2 if collective.kind == "all-reduce" else 1
    share = (collective.devices - 1) / collective.devices
    result = collective.bytes * (collective.devices if collective.kind == "reduce-scatter" else 1)
    # The two devices of a v7 chip are joined on the chip: a hop, and no slower than a link.
    links, hops = max(links, 1.0), max(hops, 1.0)
    return phases * (share * result / (links * target.link_bytes_s) + hops * HOP_LATENCY_S)


def extrapolate(one: ProgramCost, two: ProgramCost, layers: int) -> ProgramCost:
    """The cost with ``layers`` layers, from programs of one and of two.

    The second layer's share is what every further layer adds: the first pays for what stands
    before it, and a later one has its weights fetched while the previous runs.
    """
    more = layers - 2

    def line(first: float, second: float) -> float:
        return max(second + more * (second - first), 0.0)

    return ProgramCost(
        cycles=line(one.cycles, two.cycles),
        streaming_cycles=line(one.streaming_cycles, two.streaming_cycles),
        streaming_bytes=line(one.streaming_bytes, two.streaming_bytes),
        prefetch_bytes=line(one.prefetch_bytes, two.prefetch_bytes),
        collectives=_repeat(one.collectives, two.collectives, more),
        uncovered=_count(one.uncovered, two.uncovered, more),
        custom_calls=_count(one.custom_calls, two.custom_calls, more),
    )


def _count(one: Mapping[str, int], two: Mapping[str, int], more: int) -> dict[str, int]:
    return {
        name: max(two.get(name, 0) + more * (two.get(name, 0) - one.get(name, 0)), 0)
        for name in sorted({*one, *two})
    }


def _repeat(
    one: tuple[Exchange, ...], two: tuple[Exchange, ...], more: int
) -> tuple[Exchange, ...]:
    added = list(two)
    for each in one:
        if each in added:
            added.remove(each)
    return (*two, *(added * more))
