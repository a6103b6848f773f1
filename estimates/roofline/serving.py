"""Seconds behind a serving figure, for each kind of run, from closed forms of one replica.

With in-flight batching each request costs its prompt and its share of ``output_len`` steps; the
batch is what the memory left by the weights can cache, or what the source states. At a fixed
request rate the batch settles where arrivals and completions balance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tpubench.estimates.problem import Serving
from tpubench.estimates.roofline.replica import (
    Seconds,
    add,
    context,
    decode_step,
    group_size,
    most_sequences,
    prefill,
    replicas,
    weight_bytes,
)
from tpubench.estimates.roofline.terms import Terms

TAIL = 3.0
"""The longest reply of a run, relative to the mean: a run ends with it, at a falling rate."""
REQUESTS = 500.0
"""Requests of a run at a fixed rate where the source does not say."""
REQUESTS_A_SLOT = 10.0
"""Requests of a run at a fixed concurrency for each one in flight, where the source does not say:
what InferenceX sends (github.com/SemiAnalysisAI/InferenceX)."""
SERVER_SHARE = {"mlperf-server": 0.92, "mlperf-interactive": 0.55}
"""Part of the offline rate that holds under a latency limit, before correction."""


def terms(problem: Serving) -> Terms:
    """The prediction of a serving figure: seconds by class of work, and how they become it."""
    problem = replace(problem, tensor=group_size(problem))
    kind = problem.kind
    if problem.metric == "e2e_s":
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


def _whole_request(problem: Serving) -> Terms:
    """From sending to the last token: the first one, and the gaps between the others."""
    first = terms(replace(problem, metric="ttft_s"))
    gap = terms(replace(problem, metric="tpot_s"))
    both = add((1.0, first.seconds), (max(0.0, (problem.output_len or 1.0) - 1), gap.seconds))
    return Terms(seconds=both, scale=1.0, rate=False, batch=gap.batch)


def _per_request(problem: Serving, batch: float) -> Seconds:
    """Busy seconds of one replica for one request, ``batch`` of them in flight."""
    output = problem.output_len or 1.0
    length = problem.input_len or 1.0
    step = decode_step(problem, batch, context(problem, 0.5))
    return add((1.0, prefill(problem, length, length)), (problem.beams * output / batch, step))


def _rate_terms(problem: Serving, per_request: Seconds, batch: float, extra: float = 1.0) -> Terms:
    """Tokens (or requests, or bytes) a second of all replicas from seconds of a request."""
    output, copies = problem.output_len or 1.0, replicas(problem)
    scale = output * copies
    metric = problem.metric
    if metric in {"samples_s", "requests_s"}:
        scale = copies
    elif metric.startswith("total_tok"):
        scale = (output + (problem.input_len or 0.0)) * copies
    elif metric == "prefill_tok_s":
        scale = (problem.input_len or 1.0) * copies
    if metric.endswith("per_chip"):
        scale /= problem.chips
    return Terms(seconds=per_request, scale=scale * extra, rate=True, batch=batch)


def _offline(problem: Serving) -> Terms:
    batch = most_sequences(problem)
    if problem.batch:
        batch = min(batch, max(1.0, problem.batch / replicas(problem)))
    extra = SERVER_SHARE.get(problem.scenario, 1.0)
    if extra < 0.6:
        batch = max(1.0, batch / 3)
    if problem.metric in {"itl_s", "tpot_s"}:
        return _gap(problem, batch)
    if problem.metric == "ttft_s":
        return _first_token(problem, batch)
    return _rate_terms(problem, _per_request(problem, batch), batch, extra)


def _static(problem: Serving) -> Terms:
    batch = max(1.0, (problem.batch or 1.0) / replicas(problem))
    length, output = problem.input_len or 1.0, problem.output_len or 1.0
    if problem.metric in {"itl_s", "tpot_s"}:
        return _decode(problem)
    if problem.metric == "ttft_s":
        return _prefill_only(problem)
    step = decode_step(problem, batch, context(problem, 0.5))
    whole = add((1.0, prefill(problem, batch * length, length)), (output, step))
    return _rate_terms(problem, add((1 / batch, whole)), batch)


def _decode(problem: Serving) -> Terms:
    batch = max(1.0, (problem.batch or 1.0) / replicas(problem))
    step = add((1.0, decode_step(problem, batch, context(problem, 0.5))))
    if problem.metric in {"itl_s", "tpot_s", "ttft_s"}:
        return Terms(seconds=step, scale=1.0, rate=False, batch=batch)
    if problem.metric == "bandwidth_bytes_s_per_chip":
        return Terms(
            seconds=step,
            scale=weight_bytes(problem) / problem.tensor,
            rate=True,
            batch=batch,
        )
    scale = batch * replicas(problem)
    if problem.metric.endswith("per_chip"):
        scale /= problem.chips
    return Terms(seconds=step, scale=scale, rate=True, batch=batch)


def _prefill_only(problem: Serving) -> Terms:
    batch = max(1.0, (problem.batch or 1.0) / replicas(problem))
    length = problem.input_len or 1.0
    floor = decode_step(problem, 1.0, length)
    work = prefill(problem, batch * length, length)
    parts = add((1.0, work), (1.0, {"host": floor["host"]}), (1.0, {"weights": floor["weights"]}))
    if problem.metric in {"ttft_s", "itl_s", "tpot_s"}:
        return Terms(seconds=parts, scale=1.0, rate=False, batch=batch)
    return _rate_terms(problem, add((1 / batch, parts)), batch)


def _gap(problem: Serving, batch: float) -> Terms:
    """Gap between tokens while other requests' prompts are processed in between."""
    output, length = problem.output_len or 1.0, problem.input_len or 1.0
    step = decode_step(problem, batch, context(problem, 0.5))
    parts = add((1.0, step), (batch / output, prefill(problem, length, length)))
    return Terms(seconds=parts, scale=1.0, rate=False, batch=batch)


def _first_token(problem: Serving, batch: float) -> Terms:
    """Prompts until the own one is done, and a step.

    The first requests come at once and wait for half of each other. Later ones come as replies
    end: behind all others where replies are one token, else behind those being read, at their
    load as in a queue with one server and equal work (Pollaczek and Khinchine).
    """
    length = problem.input_len or 1.0
    concurrency = max(1.0, (problem.batch or batch) / replicas(problem))
    burst = "burst" in problem.notes
    step = decode_step(problem, batch, context(problem, 0.5))
    own = prefill(problem, length, length)
    reading = concurrency * sum(own.values())
    load = min(0.9, reading / (reading + (problem.output_len or 1.0) * sum(step.values())))
    later = concurrency if burst else 1 + load / (1 - load) / 2
    at_once = 1 / REQUESTS_A_SLOT
    if problem.requests:
        at_once = min(1.0, concurrency * replicas(problem) / problem.requests)
    queued = at_once * (concurrency + 1) / 2 + (1 - at_once) * min(later, concurrency)
    parts = [(max(1.0, queued), own), (1.0, step)]
    if (
        concurrency > 1.05 * batch and not burst
    ):  # more requests than the memory holds: whole turns are waited
        turn = _per_request(problem, batch)
        parts.append((concurrency - batch, turn))
    return Terms(seconds=add(*parts), scale=1.0, rate=False, batch=batch)


def _concurrency(problem: Serving) -> Terms:
    stated = max(1.0, (problem.batch or 1.0) / replicas(problem))
    batch = min(stated, most_sequences(problem))
    if problem.metric in {"itl_s", "tpot_s"}:
        return _gap(problem, batch)
    if problem.metric == "ttft_s":
        return _first_token(problem, batch)
    rate = _rate_terms(problem, _per_request(problem, batch), batch)
    if problem.metric == "peak_output_tok_s":
        output = problem.output_len or 1.0
        step = add((output / batch, decode_step(problem, batch, context(problem, 0.5))))
        return replace(rate, seconds=step)
    return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    """A run of :data:`REQUESTS` at a fixed rate, as one replica sees it."""

    problem: Serving
    qps: float
    """Requests a second of one replica; infinite when all are sent at once."""
    most: float
    """Sequences that fit, or that there are."""
    batch: float
    """Sequences at once where requests leave as fast as they come."""
    own: Seconds
    """Of one prompt."""

    @property
    def saturated(self) -> bool:
        return self.batch > 0.98 * self.most

    @property
    def tail(self) -> float:
        """The longest reply over the mean: 1 for replies cut at a length."""
        return 1.0 if _capped(self.problem.output_len or 1.0) else TAIL

    def step(self, batch: float) -> Seconds:
        return decode_step(self.problem, batch, context(self.problem, 0.5))


def _server(problem: Serving) -> Terms:
    """A fixed request rate: the batch settles where requests leave as fast as they come."""
    flow = _settle(problem)
    if problem.metric in {"itl_s", "tpot_s"}:
        return _flow_gap(flow)
    if problem.metric == "ttft_s":
        return _flow_first(flow)
    return _flow_rate(flow)


def _settle(problem: Serving) -> _Flow:
    qps = (problem.qps or math.inf) / replicas(problem)
    length, output = problem.input_len or 1.0, problem.output_len or 1.0
    own = prefill(problem, length, length)
    most = min(most_sequences(problem), REQUESTS)
    flow = _Flow(problem=problem, qps=qps, most=most, batch=most, own=own)
    busy_s = sum(own.values())
    if math.isfinite(qps) and qps * busy_s < 0.95:
        batch = 1.0
        for _ in range(60):
            gap_s = sum(flow.step(batch).values()) / (1 - qps * busy_s)
            batch = 0.5 * batch + 0.5 * min(most, max(1.0, qps * output * gap_s))
        flow = replace(flow, batch=batch)
    return flow


def _flow_gap(flow: _Flow) -> Terms:
    """Between tokens. A run of so few requests is filling or emptying for much of its time."""
    if flow.saturated and flow.most < REQUESTS:
        return _gap(flow.problem, flow.batch)
    if math.isinf(flow.qps):  # all begin at once and wait for half of the prompts on average
        running, meets = flow.batch * (0.5 + 0.5 / flow.tail), flow.batch / 2
    else:
        running = meets = flow.batch * (1 - flow.batch / REQUESTS / 2)
    output = flow.problem.output_len or 1.0
    parts = add((1.0, flow.step(running)), (meets / output, flow.own))
    return Terms(seconds=parts, scale=1.0, rate=False, batch=flow.batch)


def _flow_first(flow: _Flow) -> Terms:
    """Until the first token: prompts ahead, half of the running step, and the step of its own."""
    step, request = flow.step(flow.batch), _per_request(flow.problem, flow.batch)
    if math.isinf(flow.qps):
        waiting = max(0.0, REQUESTS - flow.most) ** 2 / (2 * REQUESTS)
        parts = add((REQUESTS / 2, flow.own), (1.0, step), (waiting, request))
        return Terms(seconds=parts, scale=1.0, rate=False, batch=flow.batch)
    load = min(0.9, flow.qps * sum(flow.own.values()))
    parts = add((1 + load / (1 - load), flow.own), (1.5, step))
    if flow.saturated and flow.most < REQUESTS:
        behind = max(0.0, 1 - 1 / (flow.qps * sum(request.values())))
        parts = add((1.0, parts), (REQUESTS / 2 * behind, request))
    return Terms(seconds=parts, scale=1.0, rate=False, batch=flow.batch)


def _flow_rate(flow: _Flow) -> Terms:
    """Requests until the last has ended: as they come, or as they can be worked off."""
    problem, output = flow.problem, flow.problem.output_len or 1.0
    request = _per_request(problem, flow.batch)
    if flow.saturated and sum(request.values()) > 1 / flow.qps:
        alone = (flow.tail - 1) * output / REQUESTS  # steps of the longest replies, for each
        return _rate_terms(problem, add((1.0, request), (alone, flow.step(1.0))), flow.batch)
    last = add((flow.tail * output / REQUESTS, flow.step(max(1.0, flow.batch / 2))))
    return _rate_terms(problem, {**last, "arrival": 1 / flow.qps}, flow.batch)


def _capped(output: float) -> bool:
    """Whether replies of that length were cut there, as a power of two is, and not a mean."""
    return output >= 1 and math.log2(output) % 1 == 0
