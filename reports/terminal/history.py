"""A metric over runs on a terminal: a line of blocks, then every change point in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpubench.reports.quantity import estimate, quantity
from tpubench.reports.terminal import console, print_json, warn_unreadable
from tpubench.results.history import HistoryPoint, MetricHistory
from tpubench.results.store import Unreadable

_BLOCKS = "▁▂▃▄▅▆▇█"
SHOWN = 60
"""Most recent runs drawn in the line."""


def show(
    histories: Sequence[MetricHistory], unreadable: Sequence[Unreadable], *, as_json: bool
) -> None:
    """Each series; files left out are named on stderr."""
    warn_unreadable(unreadable)
    if as_json:
        print_json({"series": [_record(series) for series in histories]})
        return
    out = console()
    for series in histories:
        _one(out, series)
    out.print("Advisory: change points by Apache Otava; a verdict comes from tpubench ab or gate.")


def _one(out: Any, series: MetricHistory) -> None:
    points = series.points
    out.print(
        f"{series.metric} of {series.case} ({series.evidence}), {len(points)}"
        f" run{'s' * (len(points) != 1)},"
        f" {series.better} is better",
        markup=False,
        soft_wrap=True,
    )
    values = [point.estimate.point for point in points][-SHOWN:]
    low, high = (quantity(value, series.unit) for value in (min(values), max(values)))
    out.print(f"  {line(values)}  {low} … {high}", markup=False, soft_wrap=True)
    last = points[-1]
    out.print(f"  latest: {estimate(last.estimate, series.unit)} at {_name(last)}", markup=False)
    for index in series.environments:
        where = _name(points[index])
        out.print(f"  another environment from {where} on: not comparable", markup=False)
    for change in series.changes:
        word = "worse" if change.worse else "better"
        before, after = points[change.index - 1], points[change.index]
        out.print(
            f"  changed by {100 * (change.ratio - 1):+.1f} % ({word}) at {_name(after)},"
            f" after {_name(before)}; p {change.p:.1g}",
            markup=False,
            soft_wrap=True,
        )
    if series.note:
        out.print(f"  {series.note}", markup=False, soft_wrap=True)
    elif not series.changes:
        out.print("  no change point", markup=False)


def line(values: Sequence[float]) -> str:
    """Values as blocks of eight heights, from the least to the greatest."""
    low, high = min(values), max(values)
    if low == high:
        return _BLOCKS[3] * len(values)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((v - low) / (high - low) * top)] for v in values)


def _name(point: HistoryPoint) -> str:
    when = f"{point.started_at:%Y-%m-%d %H:%M}"
    if point.commit is None:
        return f"run {point.run_id} ({when})"
    return f"commit {point.commit[:10]}{'+' if point.dirty else ''} ({when})"


def _record(series: MetricHistory) -> dict[str, Any]:
    return {
        "case": series.case,
        "metric": series.metric,
        "unit": series.unit,
        "better": series.better,
        "evidence": series.evidence,
        "note": series.note,
        "environment_changes": list(series.environments),
        "points": [
            {
                "run_id": p.run_id,
                "started_at": p.started_at.isoformat(),
                "commit": p.commit,
                "dirty": p.dirty,
                "value": p.estimate.point,
                "low": p.estimate.low,
                "high": p.estimate.high,
                "n": p.estimate.n,
            }
            for p in series.points
        ],
        "changes": [
            {"index": c.index, "ratio": c.ratio, "worse": c.worse, "p": c.p} for c in series.changes
        ],
    }
