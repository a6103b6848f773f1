"""The highest rate at which a server keeps its service level: looked for, and kept as a case.

From half of what a crowd gets, rates are doubled until one misses, or halved until one keeps it;
then what lies between is halved. Only a load that was proved counts: where the generator was late,
the answer is bounded by the generator, and says so.
"""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tpubench.suite.serving.figures import Figures
from tpubench.suite.serving.load import Load, Plain
from tpubench.suite.serving.rows import Measured
from tpubench.suite.serving.slo import Slo

if TYPE_CHECKING:
    from tpubench.suite.serving.run import Bench

CLOSE = 1.1
"""The search ends when the lowest rate that missed is at most so many times the highest kept."""
_MOST_STEPS = 12
_ALONE = 16
"""Requests, one after another: what a server gives at the very best."""
_CROWD = 64
"""Requests in flight that show about how many a second it ends at most, of which the first rate is
half. From one at a time the way up would be long: 662 requests of 10 s each are two hours."""
_LOWEST = 1 / 16
"""Of the rate at which requests would follow one another: below it hardly two are ever in flight,
and a level that is missed there is missed by requests alone."""
_DIGITS = 3


def search(bench: Bench) -> None:
    """Look for the highest rate, then repeat it as often as the plan says."""
    (base,) = bench.plan.loads
    alone = replace(base, concurrency=1, requests=min(base.requests, _ALONE))
    e2e_s = bench.measure(alone, 0).values.get("e2e_s")
    if e2e_s is None or _missed_alone(bench):
        return
    crowd = min(_CROWD, base.requests // 4)
    rate = 1 / e2e_s
    if crowd > 1:
        many = replace(base, concurrency=crowd, requests=4 * crowd)
        rate = max(rate, (bench.measure(many, 0).values.get("requests_s") or 0.0) / 2)
    kept, missed = 0.0, math.inf
    rate = _rounded(rate)
    for _ in range(_MOST_STEPS):
        if keeps(bench, bench.measure(replace(base, request_rate=rate), 0)):
            kept = max(kept, rate)
        else:
            missed = min(missed, rate)
        if kept and missed <= CLOSE * kept:
            break
        rate = _rounded(_next(kept, missed))
        if rate in (kept, missed) or rate < _LOWEST / e2e_s:
            break
    if kept:
        for repetition in range(1, bench.plan.repeats):
            bench.measure(replace(base, request_rate=kept), repetition)


def _next(kept: float, missed: float) -> float:
    if not kept:
        return missed / 2
    return 2 * kept if math.isinf(missed) else math.sqrt(kept * missed)


def _rounded(rate: float) -> float:
    return float(f"{rate:.{_DIGITS}g}")


def keeps(bench: Bench, measured: Measured) -> bool:
    """Whether a repetition was proved and keeps every goal."""
    return measured.status == "ok" and not bench.plan.slo.missed(measured.values)


def keep(bench: Bench) -> list[str]:
    """Store the highest rate that kept the service level in all its repetitions; what to note."""
    rates = _rates(bench)
    best = max((load for load in rates if _kept(bench, load)), key=_rate, default=None)
    if best is None or not bench.plan.slo.goals:
        return []
    above = min((load for load in rates if _rate(load) > _rate(best)), key=_rate, default=None)
    why = "no higher rate was tried"
    if above is not None:
        why = f"{_rate(above):g}/s did not: {_why_not(bench, above)}"
    note = f"{_rate(best):g} requests/s keep {bench.plan.slo}; {why}"
    wanted = ("goodput_req_s", "goodput_tok_s", "cached_share")
    for repetition, measured in enumerate(bench.done[best]):
        assert measured.figures is not None
        own = measured.figures.samples
        samples = {"slo_req_s": [_rate(best)], **{k: own[k] for k in wanted if k in own}}
        figures = Figures(samples=samples, reasons=dict.fromkeys(samples, note))
        now = dt.datetime.now(dt.UTC)
        bench.keep(_params(bench, best), repetition, now, replace(measured, figures=figures))
    return [note]


def is_answered(bench: Bench) -> bool:
    """Whether some rate kept the service level in all its repetitions."""
    return any(_kept(bench, load) for load in _rates(bench))


def missed(bench: Bench) -> str | None:
    """That no rate kept the service level, in a line; None where one did, or none was asked."""
    rates = _rates(bench)
    if alone := _missed_alone(bench):
        return (
            f"no rate keeps {bench.plan.slo}: of requests one after another, {', '.join(alone)};"
            f" what was measured is kept in run {bench.plan.run_id}"
        )
    if not bench.plan.slo.goals or not rates or is_answered(bench):
        return None
    lowest = min(rates, key=_rate)
    return (
        f"no rate tried keeps {bench.plan.slo}: at {_rate(lowest):g} requests/s, the lowest,"
        f" {_why_not(bench, lowest)}; what was measured is kept in run {bench.plan.run_id}"
    )


def _missed_alone(bench: Bench) -> list[str]:
    """What half of the requests miss even one after another, in a search; then no rate keeps it."""
    if not bench.plan.searches:
        return []
    halves = Slo(goals=tuple(replace(goal, percentile="p50") for goal in bench.plan.slo.goals))
    return [
        f"the median {words}"
        for load, (first, *_) in bench.done.items()
        if load.concurrency == 1 and first.status == "ok"
        for words in halves.missed(first.values)
        if "not known" not in words
    ]


def _rates(bench: Bench) -> list[Load]:
    return [load for load in bench.done if load.request_rate is not None]


def _rate(load: Load) -> float:
    assert load.request_rate is not None
    return load.request_rate


def _kept(bench: Bench, load: Load) -> bool:
    return all(keeps(bench, measured) for measured in bench.done[load])


def _why_not(bench: Bench, load: Load) -> str:
    for measured in bench.done[load]:
        if measured.status != "ok":
            return str(measured.reason)
        if words := bench.plan.slo.missed(measured.values):
            return ", ".join(words)
    return "it was kept"


def _params(bench: Bench, load: Load) -> dict[str, Plain]:
    """The case of the answer: the shape and the service level, at whatever rate it is."""
    params = {**load.params, "load": "slo", "slo": str(bench.plan.slo)}
    del params["request_rate"]
    return params
