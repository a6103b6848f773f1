"""A metric over the runs of a store, and where its level changed. Advisory: no verdict, no exit 1.

Slow drift hides from a gate that compares neighbours; it shows over many runs. Change points come
from Apache Otava (E-divisive with a t test; Fleming et al. 2023, doi 10.1145/3578244.3583719),
which is optional: ``pip install 'tpubench[history]'``.
"""

from __future__ import annotations

import datetime as dt
import importlib
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tpubench.errors import UsageError
from tpubench.results.calibration import results_of
from tpubench.results.metrics import metric
from tpubench.results.row import Row
from tpubench.results.statistics import Estimate
from tpubench.results.summary import Summary, summarise

MAX_P = 0.001
"""Significance at which Otava reports a change point: its own default."""
MIN_POINTS = 4
WINDOW = 50
INSTALL = "pip install 'tpubench[history]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """One run: when, which commit, and the estimate over its repetitions."""

    run_id: str
    started_at: dt.datetime
    commit: str | None
    dirty: bool
    estimate: Estimate
    fingerprint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """The level from the point of this index on differs from the level before it."""

    index: int
    ratio: float
    """Mean after ÷ mean before."""
    worse: bool
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricHistory:
    """One case's metric over runs, oldest first."""

    case: str
    metric: str
    unit: str
    better: str
    evidence: str
    points: Sequence[HistoryPoint]
    changes: Sequence[LevelChange] = ()
    environments: Sequence[int] = field(default_factory=tuple)
    """Indices of points whose environment is not that of the point before."""
    note: str | None = None
    """Why there are no change points."""


def history(rows: Iterable[Row], metric_name: str) -> list[MetricHistory]:
    """Every case's series of one metric. UsageError when no run has a value of it."""
    rows = list(rows)
    if not any(row.metric == metric_name for row in rows):
        metric(metric_name)  # a name that is no metric at all is a slip
    groups: dict[tuple[str, ...], list[Summary]] = {}
    for summary in summarise(results_of(rows)):
        row = summary.first
        if row.metric != metric_name or summary.estimate is None:
            continue
        case = f"{row.workload} {row.preset} {summary.label()}"
        key = (case, row.dtype, str(row.workload_version), row.device, row.backend, row.evidence)
        groups.setdefault(key, []).append(summary)
    if not groups:
        present = sorted({row.metric for row in rows if row.samples})
        others = f"; they have {', '.join(present)}" if present else ""
        raise UsageError(f"no run among these has a value of {metric_name}{others}")
    return [_series(metric_name, summaries) for summaries in groups.values()]


def _series(metric_name: str, summaries: Sequence[Summary]) -> MetricHistory:
    ordered = sorted(summaries, key=lambda s: (s.first.started_at, s.first.run_id))
    first = ordered[0].first
    points = [_point(summary) for summary in ordered]
    values = [point.estimate.point for point in points]
    changes, note = change_points(values, first.better)
    return MetricHistory(
        case=f"{first.workload} {first.preset} {ordered[0].label()} {first.dtype}, {first.device}",
        metric=metric_name,
        unit=first.unit,
        better=first.better,
        evidence=first.evidence,
        points=points,
        changes=changes,
        environments=[
            i for i in range(1, len(points)) if points[i].fingerprint != points[i - 1].fingerprint
        ],
        note=note,
    )


def _point(summary: Summary) -> HistoryPoint:
    row = summary.first
    assert summary.estimate is not None
    return HistoryPoint(
        run_id=row.run_id,
        started_at=row.started_at,
        commit=row.git_sha,
        dirty=bool(row.git_dirty),
        estimate=summary.estimate,
        fingerprint=row.fingerprint,
    )


def change_points(values: Sequence[float], better: str) -> tuple[list[LevelChange], str | None]:
    """Where the level of ``values`` changes, and why that cannot be said, if it cannot.

    What goes wrong inside Otava is the note, never an exception: the history is shown without.
    """
    if len(values) < MIN_POINTS:
        runs = f"{len(values)} run{'s' * (len(values) != 1)}"
        return [], f"{runs}: change points need at least {MIN_POINTS}"
    if min(values) == max(values):
        return [], None
    try:
        analysis = importlib.import_module("otava.analysis")
    except ImportError:
        return [], f"change points need Apache Otava: {INSTALL}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constant stretches, whose deviation is 0
            by_metric, _ = analysis.compute_change_points(
                list(values), window_len=WINDOW, max_pvalue=MAX_P
            )
        return [_change(point, better) for point in by_metric], None
    except Exception as error:  # noqa: BLE001 — advisory: another project's error is no reason to fail
        return [], f"Otava could not analyse these runs: {type(error).__name__}: {error}"


def _change(point: Any, better: str) -> LevelChange:  # Otava has no type hints
    stats = point.stats
    before, after = float(stats.mean_1), float(stats.mean_2)
    ratio = after / before if before else math.inf
    return LevelChange(
        index=int(point.index),
        ratio=ratio,
        worse=(ratio > 1) == (better == "lower"),
        p=float(stats.pvalue),
    )
