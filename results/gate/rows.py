"""The gate on stored rows: like with like or not at all, a process a sample, three verdicts.

Each repetition is a process and counts once, whatever the number of passes it timed. The two sides
are independent samples, compared by an exact rank test of shift on logarithms against the margin
(regressed) and the limit (ok). Figures tested together share their error by Holm's rule, within
three families: performance, cost, tails.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, stdev
from typing import Any

from tpubench.errors import UsageError
from tpubench.results.calibration import results_of
from tpubench.results.gate.looks import as_ratio
from tpubench.results.gate.policy import Policy, Rules, headline
from tpubench.results.gate.report import Cause, Finding, GateReport
from tpubench.results.gate.tests import EFFICIENCY, holm, shift_estimate, shift_p, smallest_p
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.statistics import percentile
from tpubench.results.summary import Summary, summarise

TAILED = ("itl_s", "ttft_s", "tpot_s")
"""Latencies whose p99 is gated too, where every repetition has the samples for one."""

_POWER = 0.95
_MOST_REPETITIONS = 200


def gate(baseline: Iterable[Row], candidate: Iterable[Row], rules: Rules) -> GateReport:
    """Every case of the baseline, judged. UsageError when the two sides are the same rows, or no
    case has a metric that the rules gate."""
    left, right = _Side(baseline), _Side(candidate)
    _refuse_itself(left, right)
    tried = [
        attempt
        for case in left.cases
        for attempt in _case(case, left.cases[case], right.cases.get(case, {}), right, rules)
    ]
    extra = [case for case in right.cases if case not in left.cases]
    notes = [f"no baseline: {case[0]} ({case[1]})" for case in extra]
    if not tried:
        raise UsageError("nothing to gate: no case of the baseline has a gated metric")
    return GateReport(title="gate", findings=_settle(tried), notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """A finding before several are settled together."""

    finding: Finding
    p_regressed: float = 1.0
    p_ok: float = 1.0
    testable: bool = False

    @property
    def family(self) -> str:
        return "tail" if self.finding.tail else self.finding.unit.split("/")[0]


class _Side:
    """One side's newest summary of each metric, by case; repetitions of one run."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = results_of(rows)
        self.runs = {row.run_id for row in self.rows}
        self.cases: dict[tuple[str, str, str], dict[str, Summary]] = {}
        for summary in sorted(summarise(self.rows), key=lambda s: s.first.run_id):
            self.cases.setdefault(_identity(summary), {})[summary.first.metric] = summary


def _identity(summary: Summary) -> tuple[str, str, str]:
    row = summary.first
    return (f"{row.workload} {row.preset} {summary.label()}", row.dtype, row.params)


def _refuse_itself(left: _Side, right: _Side) -> None:
    shared = sorted(left.runs & right.runs)
    mine, theirs = ({(r.run_id, r.repetition, r.metric, r.params, r.price_id) for r in side.rows}
                    for side in (left, right))  # fmt: skip
    if shared and mine & theirs:
        raise UsageError(
            f"baseline and candidate are the same rows (run {shared[0]}): name two runs"
        )


def _case(
    case: tuple[str, str, str],
    a: Mapping[str, Summary],
    b: Mapping[str, Summary],
    right: _Side,
    rules: Rules,
) -> list[_Attempt]:
    present = {name for name, summary in a.items() if summary.estimate is not None}
    wanted = rules.metrics or headline(present)
    if not wanted:
        wanted = tuple(a)[:1]
    attempts = [
        _figure(case, name, a, b, right, rules) for name in wanted if name in a or name in b
    ]
    gated = rules.metrics or TAILED
    tails = [
        _tail(case, a[name], b[name], rules)
        for name in TAILED
        if name in gated and name in present and name in b
    ]
    return attempts + [tail for tail in tails if tail is not None]


def _figure(
    case: tuple[str, str, str],
    name: str,
    a: Mapping[str, Summary],
    b: Mapping[str, Summary],
    right: _Side,
    rules: Rules,
) -> _Attempt:
    one, other = a.get(name), b.get(name)
    known = one or other
    assert known is not None
    blank = _blank(case, known.first, name, rules)
    if one is None or one.estimate is None:
        why = one.reason if one else "the baseline lacks it"
        return _Attempt(finding=replace(blank, state="missing", reason=f"baseline: {why}"))
    if other is None or other.estimate is None:
        state, why = _absent(other, b, right, case, one.first)
        return _Attempt(finding=replace(blank, state=state, reason=why))
    differing = differences(one.first, other.first)
    if differing:
        return _Attempt(finding=replace(blank, state="refused", reason=_differ(differing)))
    if other.failed:
        why = f"{other.failed} repetitions of the candidate failed: {_why_failed(other)}"
        return _Attempt(finding=replace(blank, state="failed", reason=why))
    attempt = _tested(blank, _values(one), _values(other))
    return replace(attempt, finding=replace(attempt.finding, cause=_cause(name, a, b)))


def _tail(
    case: tuple[str, str, str], one: Summary, other: Summary, rules: Rules
) -> _Attempt | None:
    if differences(one.first, other.first):
        return None  # the figure itself is refused already
    sides = [[percentile(row.samples or [], 0.99) for row in s.rows] for s in (one, other)]
    points = [[tail.point for tail in side if tail is not None] for side in sides]
    if any(len(p) < len(s) or min(p, default=0) <= 0 for p, s in zip(points, sides, strict=True)):
        return None
    row = one.first
    policy = rules.policy(row.workload, row.metric, tail=True)
    blank = replace(_blank(case, row, row.metric, rules), tail=True, policy=policy)
    return _tested(replace(blank, metric=f"{row.metric} p99"), *points)


def _blank(case: tuple[str, str, str], row: Row, name: str, rules: Rules) -> Finding:
    return Finding(
        case=f"{case[0]} {case[1]}" if f"dtype={case[1]}" not in case[0] else case[0],
        metric=name,
        unit=row.unit,
        better=row.better,
        state="inconclusive",
        reason="",
        evidence=row.evidence,
        policy=rules.policy(row.workload, name),
    )


def _absent(
    other: Summary | None,
    b: Mapping[str, Summary],
    right: _Side,
    case: tuple[str, str, str],
    row: Row,
) -> tuple[Any, str]:
    failed = [s for s in ([other] if other else []) + list(b.values()) if s.failed]
    if failed:
        return "failed", f"the candidate failed: {_why_failed(failed[0])}"
    if other is not None:
        return "missing", f"candidate: {other.reason}"
    versions = {r.workload_version for r in right.rows if r.workload == row.workload}
    if case not in right.cases and not versions:
        return "missing", f"the candidate has no {row.workload} at all: was it renamed?"
    return "missing", "the candidate has no such case"


def _why_failed(summary: Summary) -> str:
    return next((r.reason for r in summary.rows if r.status != "ok" and r.reason), "no reason")


def differences(a: Row, b: Row) -> dict[str, tuple[str, str]]:
    """Fields that must be equal and are not, or that either side lacks; empty when comparable."""
    one, other = _must_match(a), _must_match(b)
    if one is None or other is None:
        return {"fingerprint": ("recorded" if one else "none", "recorded" if other else "none")}
    for field in {"hosts", "parallelism"} - one.keys() - other.keys():  # another tool's rows
        one[field], other[field] = getattr(a, field), getattr(b, field)
    differing: dict[str, tuple[str, str]] = {}
    for field in sorted(one.keys() | other.keys()):
        left, right = one.get(field), other.get(field)
        if left is None or right is None or left != right:
            differing[field] = (_shown(left), _shown(right))
    if not differing and (a.fingerprint is None or a.fingerprint != b.fingerprint):
        differing["fingerprint"] = (str(a.fingerprint), str(b.fingerprint))
    return differing


def _shown(value: object) -> str:
    return "(missing)" if value is None else str(value)


def _must_match(row: Row) -> dict[str, Any] | None:
    """The fingerprint's fields, flattened, with the row's own columns that must be equal."""
    environment = json.loads(row.environment)
    fingerprint = environment.get("fingerprint") if isinstance(environment, dict) else None
    if not isinstance(fingerprint, dict) or not fingerprint:
        return None
    flat: dict[str, Any] = {
        "evidence": row.evidence,
        "row.workload_version": row.workload_version,
    }
    for field, value in fingerprint.items():
        if isinstance(value, dict) and value:
            flat |= {f"{field}.{key}": item for key, item in value.items() if item is not None}
        else:
            flat[field] = value
    return flat


def _differ(differing: Mapping[str, tuple[str, str]]) -> str:
    named = "; ".join(f"{k}: {a} ≠ {b}" for k, (a, b) in differing.items())
    return f"not comparable: {named}"


def _tested(blank: Finding, a: Sequence[float], b: Sequence[float]) -> _Attempt:
    """Two independent samples of positive values under the figure's policy."""
    if not a or not b or min(*a, *b) <= 0:
        why = "a value is not positive: it has no ratio"
        return _Attempt(finding=replace(blank, reason=why))
    sign = 1 if blank.better == "lower" else -1
    left, right = ([sign * math.log(v) for v in side] for side in (a, b))
    policy = blank.policy
    spreads = [stdev(side) for side in (left, right) if len(side) > 1]
    sigma = math.sqrt(sum(s * s for s in spreads) / len(spreads)) if spreads else None
    worse = as_ratio(shift_estimate(right, left))
    finding = replace(
        blank,
        worse=worse,
        sigma=sigma,
        mde=None if sigma is None else _detectable(sigma, len(a), len(b), policy),
        n=(len(a), len(b)),
        baseline=_geometric_mean(a),
        candidate=_geometric_mean(b),
    )
    return _Attempt(
        finding=finding,
        p_regressed=shift_p(right, left, math.log(policy.margin)),
        p_ok=shift_p(left, right, -math.log(policy.limit)),
        testable=True,
    )


def _detectable(sigma: float, m: int, n: int, policy: Policy) -> float:
    normal = NormalDist()
    reach = normal.inv_cdf(1 - policy.alpha) + normal.inv_cdf(_POWER)
    spread = sigma * math.sqrt((1 / m + 1 / n) / EFFICIENCY["signed-rank"])
    return math.exp(min(math.log(policy.margin) + reach * spread, 700.0))


def _settle(tried: Sequence[_Attempt]) -> list[Finding]:
    """Verdicts, the errors of each family shared by Holm's rule."""
    findings = {id(attempt): attempt.finding for attempt in tried}
    for family in {attempt.family for attempt in tried}:
        members = [attempt for attempt in tried if attempt.family == family and attempt.testable]
        if not members:
            continue
        alpha = min(member.finding.policy.alpha for member in members)
        alarms = holm([member.p_regressed for member in members], alpha)
        # Each ok stands on its own: a wrong one lets one figure through, and it says which.
        for member, alarm in zip(members, alarms, strict=True):
            finding = member.finding
            if alarm:
                findings[id(member)] = replace(
                    finding, state="regressed", reason=_how_much(finding)
                )
            elif member.p_ok <= finding.policy.ok_alpha and _able(finding):
                findings[id(member)] = replace(finding, state="ok", reason=_how_much(finding))
            else:
                reason = _what_would_do(finding, alpha, len(members))
                findings[id(member)] = replace(finding, reason=reason)
    return [findings[id(attempt)] for attempt in tried]


def _able(finding: Finding) -> bool:
    """Whether a change of the limit would have shown; of one value a side nobody knows."""
    return finding.mde is not None and finding.mde <= finding.policy.limit


def _how_much(finding: Finding) -> str:
    assert finding.worse is not None
    return f"{finding.worse.point:.3f} times as bad" if finding.worse.point > 1 else "no worse"


def _what_would_do(finding: Finding, alpha: float, family: int) -> str:
    m, n = finding.n
    needed = repetitions_needed(finding.sigma, finding.policy, alpha / family)
    have = f"{m} and {n} repetitions prove neither"
    if smallest_p(m, n) > alpha / family:
        have = f"{m} and {n} repetitions cannot prove a regression at {alpha:.0%}"
    if needed is None:
        return f"{have}; the runs scatter too much: use tpubench ab"
    return f"{have}; about {needed} a side would"


def repetitions_needed(sigma: float | None, policy: Policy, level: float) -> int | None:
    """Fewest repetitions a side that can prove a true change of the limit; None above 200."""
    for n in range(2, _MOST_REPETITIONS + 1):
        if smallest_p(n, n) > level:
            continue
        if sigma is None or _detectable(sigma, n, n, policy) <= policy.limit:
            return n
    return None


def _cause(name: str, a: Mapping[str, Summary], b: Mapping[str, Summary]) -> Cause | None:
    metric = METRICS.get(name)
    if metric is None or metric.usd_of is None:
        return None
    rates = [side[metric.usd_of].estimate if metric.usd_of in side else None for side in (a, b)]
    prices = [side[name].first.usd_per_chip_hour for side in (a, b)]
    if rates[0] is None or rates[1] is None or not prices[0] or not prices[1]:
        return None
    return Cause(throughput=rates[0].point / rates[1].point, price=prices[1] / prices[0])


def _values(summary: Summary) -> list[float]:
    return [row.value for row in summary.rows if row.value is not None]


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))
