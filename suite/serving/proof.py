"""Whether the load was what was asked, from the generator's own log of every request.

A generator may be late, too busy to read what comes, or wrong; a server may refuse, or answer at
another length. None of that is a measurement of the load that was asked for: the figures are then
invalid, and the reason says why. Latencies in open loop count from the time at which a request was
due, so that a generator that waits with a stalled server does not hide the stall.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tpubench.results.statistics import percentile, percentile_minimum
from tpubench.suite.serving import arrivals
from tpubench.suite.serving.load import Ask, Load
from tpubench.suite.serving.log import Answer

LAG_SHARE = 0.05
"""Largest p99 of the lag behind the schedule, as a share of the mean gap between requests; of too
few requests for a p99 the p90, and of too few for that the largest lag."""
IN_FLIGHT_SHARE = 0.95
"""Least mean number of requests in flight in closed loop, as a share of the concurrency."""


TAILS = (("p99", 0.99), ("p90", 0.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the log shows. ``fault`` says why the load was not what was asked; None when it was.

    due_s: when each request was to be sent, by the generator's clock; in closed loop, when it was.
    """

    fault: str | None
    due_s: tuple[float, ...]
    sent: int
    errors: int
    asked_req_s: float | None
    """Rate of the schedule as drawn, not its nominal rate."""
    delivered_req_s: float | None
    p_value: float | None
    """Of the gaps between requests, were they Poisson; None where nothing says they should be."""
    lag_s: float | None
    """Open loop: behind the schedule, at ``tail``."""
    dispatch_s: float | None
    """From a request's turn to its sending, inside the generator, at ``tail``."""
    tail: str
    """The percentile that the number of requests allows: p99, p90 or max."""
    mean_in_flight: float | None

    def facts(self) -> dict[str, Any]:
        """As JSON values, without the stamps, which are samples."""
        return {name: value for name, value in asdict(self).items() if name != "due_s"}


def prove(load: Load, schedule: Sequence[Ask], answers: Sequence[Answer]) -> Proof:
    """Hold the log against the requests asked for. answers: in the order of the schedule."""
    due_s = tuple(_due_s(load, schedule, answers))
    gap_s = _mean_gap(load, schedule)
    measured = [(a, due) for a, due in zip(answers, due_s, strict=True) if a.number >= load.warm_up]
    sent_s = sorted(answer.sent_s for answer, _ in measured)
    lags = [answer.sent_s - due for answer, due in measured]
    tail = next((name for name, q in TAILS if len(measured) >= percentile_minimum(q)), "max")
    gaps = [late - early for early, late in itertools.pairwise(sent_s)]
    facts: dict[str, Any] = {
        "sent": len(answers),
        "errors": sum(answer.error is not None for answer in answers),
        "asked_req_s": 1 / gap_s if gap_s else None,
        "delivered_req_s": len(gaps) / math.fsum(gaps) if gaps and math.fsum(gaps) > 0 else None,
        "p_value": None if load.request_rate is None else arrivals.p_value(gaps, load.request_rate),
        "lag_s": _at(tail, lags) if load.open_loop else None,
        "dispatch_s": _at(tail, [answer.sent_s - answer.issued_s for answer, _ in measured]),
        "tail": tail,
        "mean_in_flight": _mean_in_flight(load, answers),
    }
    fault = (
        _unanswered(schedule, answers)
        or _miscounted(schedule, answers)
        or _late(facts, gap_s)
        or _unlike(facts)
        or _idle(load, facts)
    )
    return Proof(fault=fault, due_s=due_s, **facts)


def _due_s(load: Load, schedule: Sequence[Ask], answers: Sequence[Answer]) -> list[float]:
    """The generator starts when it likes: its start is where no request is early."""
    if not load.open_loop:
        return [answer.sent_s for answer in answers]
    at_s = [schedule[answer.number].at_s or 0.0 for answer in answers]
    zero = min((a.sent_s - at for a, at in zip(answers, at_s, strict=True)), default=0.0)
    return [zero + at for at in at_s]


def _mean_gap(load: Load, schedule: Sequence[Ask]) -> float | None:
    if not load.open_loop or len(schedule) < 2:
        return None
    return ((schedule[-1].at_s or 0.0) - (schedule[0].at_s or 0.0)) / (len(schedule) - 1)


def _unanswered(schedule: Sequence[Ask], answers: Sequence[Answer]) -> str | None:
    errors = Counter(answer.error for answer in answers if answer.error is not None)
    if errors:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in errors.most_common(3))
        return f"{errors.total()} of {len(answers)} requests failed: {kinds}"
    if len(answers) < len(schedule):
        return f"the generator logged {len(answers)} of {len(schedule)} requests"
    if any(answer.first_s is None or answer.last_s is None for answer in answers):
        return "a request has no first token: the server does not stream"
    return None


def _miscounted(schedule: Sequence[Ask], answers: Sequence[Answer]) -> str | None:
    silent = sum(a.output_tokens is None or a.input_tokens is None for a in answers)
    if silent:
        return f"the server counted no tokens for {silent} of {len(answers)} requests"
    for what, counted, asked in (
        ("prompt", [a.input_tokens for a in answers], [len(ask.prompt) for ask in schedule]),
        ("answer", [a.output_tokens for a in answers], [ask.output_len for ask in schedule]),
    ):
        pairs = Counter((n, m) for n, m in zip(counted, asked, strict=True) if n != m)
        if pairs:
            ((n, m), _) = pairs.most_common(1)[0]
            return (
                f"{pairs.total()} of {len(answers)} {what}s are not as long as asked:"
                f" {n} tokens in place of {m}, say"
            )
    return None


def _late(facts: dict[str, Any], gap_s: float | None) -> str | None:
    lag_s = facts["lag_s"]
    if lag_s is None or not gap_s or lag_s <= LAG_SHARE * gap_s:
        return None
    return (
        f"the generator was late: {facts['tail']} {1000 * lag_s:.3g} ms behind the schedule,"
        f" {1000 * LAG_SHARE * gap_s:.3g} ms is the most at this rate"
    )


def _unlike(facts: dict[str, Any]) -> str | None:
    p_value = facts["p_value"]
    if p_value is None or p_value >= arrivals.DELIVERED:
        return None
    return (
        f"arrivals were not Poisson at the rate asked (Kolmogorov-Smirnov p = {p_value:.2g}):"
        f" {facts['delivered_req_s']:.3g} requests/s were sent"
    )


def _idle(load: Load, facts: dict[str, Any]) -> str | None:
    mean = facts["mean_in_flight"]
    if mean is None or load.concurrency is None or mean >= IN_FLIGHT_SHARE * load.concurrency:
        return None
    return f"the generator kept {mean:.3g} requests in flight, asked were {load.concurrency}"


def _mean_in_flight(load: Load, answers: Sequence[Answer]) -> float | None:
    """Over the time in which measured requests were still being sent."""
    measured = [a.sent_s for a in answers if a.number >= load.warm_up]
    if not measured or max(measured) <= min(measured):
        return None
    start, end = min(measured), max(measured)
    busy = math.fsum(max(0.0, min(a.ended_s, end) - max(a.sent_s, start)) for a in answers)
    return busy / (end - start)


def _at(tail: str, values: Sequence[float]) -> float | None:
    if not values:
        return None
    if tail == "max":
        return max(values)
    estimate = percentile(values, dict(TAILS)[tail])
    return None if estimate is None else estimate.point
