"""Duets judged: the finding of one case from its pairs, live or from stored rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tpubench.errors import UsageError
from tpubench.results.duet import CONFIRMATION, FIRST, METRIC, Pair, log_ratio, stored_pairs
from tpubench.results.gate.looks import LOOKS, Judged, judge, minimum_detectable
from tpubench.results.gate.policy import Policy, Rules
from tpubench.results.gate.report import Finding, GateReport
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
from tpubench.results.statistics import median

UNSTEADY_SHARE = 0.5
"""Above this share of processes whose warm-up never settled, nothing is proven."""


def finding(
    label: str,
    pairs: Sequence[Pair],
    policy: Policy,
    *,
    evidence: str,
    unsteady: float = 0.0,
    confirm: bool = True,
    alarm: Sequence[Pair] = (),
) -> Finding:
    """What the pairs of one case prove. ``confirm``: an alarm must be raised twice to count;
    ``alarm``: the pairs that raised the one which these are to confirm."""
    judged = judge([log_ratio(pair) for pair in pairs], policy, [log_ratio(p) for p in alarm])
    mde = None
    if judged.sigma is not None:
        mde = minimum_detectable(judged.sigma, policy, confirm=confirm)
    state, reason = judged.verdict, _reason(judged, policy, mde)
    if unsteady > UNSTEADY_SHARE and state != "inconclusive":
        state = "inconclusive"
        reason = f"{unsteady:.0%} of the processes never became steady; {reason}"
    seen = pairs[: judged.pairs]
    return Finding(
        case=label,
        metric=METRIC,
        unit=METRICS[METRIC].unit,
        better=METRICS[METRIC].better,
        state=state,
        reason=reason,
        evidence=evidence,
        policy=policy,
        test=policy.test,
        worse=judged.worse,
        sigma=judged.sigma,
        mde=mde,
        n=(judged.pairs, judged.pairs),
        baseline=median([median(pair.baseline_s) for pair in seen]) if seen else None,
        candidate=median([median(pair.candidate_s) for pair in seen]) if seen else None,
    )


def refused(label: str, policy: Policy, *, evidence: str, reason: str) -> Finding:
    """The finding of a case whose sides may not be compared."""
    return Finding(
        case=label,
        metric=METRIC,
        unit=METRICS[METRIC].unit,
        better=METRICS[METRIC].better,
        state="refused",
        reason=f"not comparable: {reason}",
        evidence=evidence,
        policy=policy,
        test=policy.test,
    )


def gate_stored(baseline: Iterable[Row], candidate: Iterable[Row], rules: Rules) -> GateReport:
    """The verdicts of a stored duet again, from its block times. UsageError when it is not one."""
    baseline, candidate = list(baseline), list(candidate)
    staged: dict[str, dict[str, Finding]] = {}
    stored = stored_pairs(baseline, candidate)
    for (case, stage), taken in stored.items():
        row = taken[0][2]
        first = stored.get((case, FIRST), []) if stage == CONFIRMATION else []
        staged.setdefault(case, {})[stage] = finding(
            f"{row.workload} {row.preset} {row.params}",
            [pair for pair, _, _ in taken],
            rules.policy(row.workload, METRIC),
            evidence=row.evidence,
            unsteady=_unsteady([row for _, *rows in taken for row in rows]),
            alarm=[pair for pair, _, _ in first],
        )
    if not staged:
        raise UsageError("no pairs of a duet among these rows")
    findings = [
        confirmed(stages[FIRST], stages[CONFIRMATION]) if CONFIRMATION in stages else stages[FIRST]
        for stages in staged.values()
    ]
    runs = (baseline[0].run_id, candidate[0].run_id)
    return GateReport(title="stored duet", findings=findings, runs=runs)


def confirmed(first: Finding, second: Finding) -> Finding:
    """A first-stage alarm after its confirmation: it stands only if fresh pairs prove it too."""
    if second.state == "regressed":
        return replace(second, reason=f"{second.reason}; confirmed on {second.n[0]} fresh pairs")
    worse = first.worse.point if first.worse else 1.0
    return replace(
        second,
        reason=f"an alarm ({worse:.3f}) was not confirmed on {second.n[0]} fresh pairs:"
        f" {second.reason}",
    )


def unconfirmed(first: Finding) -> Finding:
    """A first-stage alarm while nothing has confirmed it."""
    return replace(first, state="inconclusive", reason=f"{first.reason}; not confirmed yet")


def _unsteady(rows: Sequence[Row]) -> float:
    words = [(json.loads(row.environment).get("timing") or {}).get("steadiness") for row in rows]
    return float(sum(word != "steady" for word in words) / len(words))


def _reason(judged: Judged, policy: Policy, mde: float | None) -> str:
    if judged.verdict == "regressed":
        return f"worse by more than {policy.margin - 1:.0%}, proven by {judged.pairs} pairs"
    if judged.verdict == "ok":
        return f"worse by less than {policy.limit - 1:.0%}, proven by {judged.pairs} pairs"
    if judged.pairs < LOOKS[0]:
        return f"{judged.pairs} pairs: the first look is at {LOOKS[0]}"
    noisy = mde is not None and mde > policy.limit
    why = ": they scatter too much to show a change of the limit" if noisy else ""
    return f"{judged.pairs} pairs prove neither{why}"
