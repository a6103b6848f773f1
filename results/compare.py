"""Two selections of rows side by side: the ratio of each shared figure, with its interval.

Only like is compared with like: the same workload version, parameters, precision and metric. What
else differs (device, evidence, versions) is listed with the answer, not hidden by it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tpubench.errors import UsageError
from tpubench.results import serving
from tpubench.results.calibration import results_of
from tpubench.results.listing import Unreadable, naming
from tpubench.results.row import Row
from tpubench.results.select import select_newest
from tpubench.results.statistics import CONFIDENCE, Estimate, exponentials
from tpubench.results.store import iter_rows
from tpubench.results.summary import Summary, summarise

_NOT_COMPARED = {"seed", "submission"}
"""Parameters that tell results apart and do not make them other work."""

Verdict = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One figure of both sides. ``ratio`` is B ÷ A; without two repetitions each it has no ends."""

    a: Summary
    b: Summary
    ratio: Estimate
    verdict: Verdict
    """Of B against A: better or worse only when the interval of the ratio excludes 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All shared figures, what differs besides, and what only one side has."""

    comparisons: list[Comparison]
    differs: dict[str, tuple[str, str]]
    only_a: int
    only_b: int
    where_not: tuple[str, ...] = ()
    """Where the definitions of the two sides part, or may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedSide:
    """One of several selections. ``name`` is its selector."""

    name: str
    against_first: Compared | None
    """This side against the first one; None for the first itself."""


def compare_selected(
    store: Path, selectors: Sequence[str]
) -> tuple[list[ComparedSide], list[Unreadable]]:
    """Every other side against the first, each a selector; several ``column=value`` are joined by
    commas.

    UsageError with fewer than two, when one picks nothing, or shares nothing with the first.
    """
    if len(selectors) < 2:
        raise UsageError("compare takes two selectors or more: what, and what to hold against it")
    picked, unreadable = [], []
    for selector in selectors:
        scan = select_newest(store, selector.split(","))
        rows = list(iter_rows(scan.table))
        if not rows:
            with naming(scan.unreadable):
                raise UsageError(f"no rows match {selector!r}")
        picked.append(rows)
        unreadable += scan.unreadable
    sides = [ComparedSide(name=selectors[0], against_first=None)]
    for selector, rows in zip(selectors[1:], picked[1:], strict=True):
        with naming(unreadable):
            try:
                found_here = compare(picked[0], rows)
            except UsageError as error:
                if len(selectors) == 2:
                    raise
                raise UsageError(f"{selector}: {error}") from None
        sides.append(ComparedSide(name=selector, against_first=found_here))
    return sides, unreadable


def compare(a: Iterable[Row], b: Iterable[Row]) -> Compared:
    """B against A. UsageError when the two sides share no case."""
    sides = [list(summarise(results_of(rows))) for rows in (a, b)]
    left, right = (_by_case(side) for side in sides)
    where_not: tuple[str, ...] = ()
    shared = [key for key in left if key in right]
    if not shared:
        left, right = (_by_load(side) for side in sides)
        shared, where_not = [key for key in left if key in right], serving.WHERE_NOT
    if not shared:
        raise UsageError(
            "nothing to compare: no case of B has the workload version, parameters, precision and"
            " metric of one of A"
        )
    comparisons = [_comparison(left[key], right[key]) for key in shared]
    return Compared(
        comparisons=comparisons,
        differs=_differences(comparisons),
        only_a=len(left) - len(shared),
        only_b=len(right) - len(shared),
        where_not=where_not,
    )


def _by_load(summaries: Iterable[Summary]) -> dict[tuple[object, ...], Summary]:
    """The newest summary with a value for each figure of a served model, ours or imported."""
    by_load: dict[tuple[object, ...], Summary] = {}
    for summary in sorted(summaries, key=lambda s: s.first.run_id):
        key = serving.load_of(summary.first, summary.params)
        if key is not None and summary.estimate is not None:
            by_load[key] = summary
    return by_load


def _by_case(summaries: Iterable[Summary]) -> dict[tuple[object, ...], Summary]:
    """The newest summary with a value for each comparable figure."""
    by_case: dict[tuple[object, ...], Summary] = {}
    for summary in sorted(summaries, key=lambda s: s.first.run_id):
        row = summary.first
        shape = _fingerprint(row).get("shape")
        params = {k: v for k, v in summary.params.items() if k not in _NOT_COMPARED}
        if summary.estimate is not None:
            key = (
                row.workload,
                row.workload_version,
                # Imported results have no shape; the model's name stands for it.
                json.dumps([params, row.preset if shape is None else shape], sort_keys=True),
                row.dtype,
                row.metric,
            )
            by_case[key] = summary
    return by_case


def _comparison(a: Summary, b: Summary) -> Comparison:
    ratio = ratio_of(_values(b), _values(a))
    verdict: Verdict = "unclear"
    if ratio.low is not None and ratio.high is not None:
        higher_is_better = a.first.better == "higher"
        if ratio.low > 1:
            verdict = "better" if higher_is_better else "worse"
        elif ratio.high < 1:
            verdict = "worse" if higher_is_better else "better"
    return Comparison(a=a, b=b, ratio=ratio, verdict=verdict)


def ratio_of(upper: Sequence[float], lower: Sequence[float]) -> Estimate:
    """Ratio of two geometric means of positive values, with Welch's t interval on logarithms.

    Welch (1947): the two sides may scatter differently. No ends with fewer than two values a side.
    """
    logs = [[math.log(value) for value in side] for side in (upper, lower)]
    means = [math.fsum(side) / len(side) for side in logs]
    point = means[0] - means[1]
    n = min(len(upper), len(lower))
    if n < 2:
        return Estimate(point=math.exp(point), low=None, high=None, n=n)
    shares = [
        math.fsum((x - mean) ** 2 for x in side) / (len(side) - 1) / len(side)
        for side, mean in zip(logs, means, strict=True)
    ]
    total = sum(shares)
    if total == 0:
        return Estimate(point=math.exp(point), low=math.exp(point), high=math.exp(point), n=n)
    from scipy.special import stdtrit

    freedom = total**2 / sum(s**2 / (len(x) - 1) for s, x in zip(shares, logs, strict=True))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(total)
    low, high = exponentials((point - half, point + half))
    return Estimate(point=math.exp(point), low=low, high=high, n=n)


def _values(summary: Summary) -> list[float]:
    return [row.value for row in summary.rows if row.value is not None and row.value > 0]


def _differences(comparisons: Sequence[Comparison]) -> dict[str, tuple[str, str]]:
    differences: dict[str, tuple[str, str]] = {}
    for comparison in comparisons:
        a, b = comparison.a.first, comparison.b.first
        sides = [
            {
                "evidence": row.evidence,
                "preset": row.preset,
                "chips": row.chips,
                **_environment(row),
            }
            for row in (a, b)
        ]
        for field in sides[0].keys() | sides[1].keys():
            pair = (str(sides[0].get(field)), str(sides[1].get(field)))
            if pair[0] != pair[1]:
                differences.setdefault(field, pair)
    return dict(sorted(differences.items()))


def _environment(row: Row) -> dict[str, Any]:
    compared = {"params", "shape", "workload", "workload_version"}
    flat: dict[str, Any] = {"device": row.device, "backend": row.backend}
    for field, value in _fingerprint(row).items():
        if isinstance(value, dict) and field not in compared:
            flat |= {f"{field}.{key}": item for key, item in value.items()}
        elif field not in compared:
            flat[field] = value
    return flat


def _fingerprint(row: Row) -> dict[str, Any]:
    environment = json.loads(row.environment)
    part = environment.get("fingerprint") if isinstance(environment, dict) else None
    return part if isinstance(part, dict) else {}
