"""Predict every row of a published table and say how wrong that was.

A row is used when its device has a data sheet, its model a size and its metric a formula. What
cannot be used is listed with its reason; a figure above what the hardware can do is flagged as
implausible and judged no further.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tpubench.errors import UsageError
from tpubench.estimates.problem import MeasuredLine
from tpubench.estimates.published import table
from tpubench.estimates.published.pairs import Order, PredictedLine, order
from tpubench.estimates.regression.model import Model, shipped
from tpubench.estimates.roofline import physics


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Errors of a set of rows; absolute percentages of the published value."""

    rows: int
    median_abs_pct_err: float
    p90_abs_pct_err: float
    coverage_90: float
    """Share of rows inside their 90 % interval."""

    def to_json(self) -> dict[str, float]:
        """As plain values, rounded to what the data support."""
        return {
            "rows": self.rows,
            "median_abs_pct_err": round(self.median_abs_pct_err, 2),
            "p90_abs_pct_err": round(self.p90_abs_pct_err, 2),
            "coverage_90": round(self.coverage_90, 4),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The outcome for one file."""

    path: Path
    version: str
    judged: tuple[PredictedLine, ...]
    skipped: tuple[MeasuredLine, ...]
    implausible: tuple[tuple[MeasuredLine, str], ...]
    faster: Order
    cheaper: Order
    known_sources: frozenset[str]
    """Sources that the fit has seen."""

    @property
    def overall(self) -> Accuracy | None:
        """Over all rows used; None when there is none."""
        return accuracy(self.judged)

    def by(self, label: Callable[[PredictedLine], str]) -> dict[str, Accuracy]:
        """Accuracy of each group of rows, most rows first."""
        groups: dict[str, list[PredictedLine]] = defaultdict(list)
        for row in self.judged:
            groups[label(row)].append(row)
        ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        return {name: judged for name, rows in ordered if (judged := accuracy(rows))}

    def to_json(self, *, rows: bool = False) -> dict[str, Any]:
        """The document of ``--validate --json``; with ``rows`` also every prediction."""
        overall = self.overall
        seen = sum(row.source in self.known_sources for row in self.judged)
        done: dict[str, Any] = {
            "file": self.path.name,
            "fit": self.version,
            "evidence": "modelled",
            "rows_total": len(self.judged) + len(self.skipped) + len(self.implausible),
            "rows_used": len(self.judged),
            "rows_skipped": len(self.skipped),
            "rows_implausible": len(self.implausible),
            "rows_of_fitted_sources": seen,
            "median_abs_pct_err": _rounded(overall, "median_abs_pct_err"),
            "p90_abs_pct_err": _rounded(overall, "p90_abs_pct_err"),
            "coverage_90": _rounded(overall, "coverage_90"),
            "by_device": _json(self.by(device)),
            "by_source": _json(self.by(source)),
            "by_kind": _json(self.by(kind)),
            "by_metric": _json(self.by(metric)),
            "pairs": {"faster": _order(self.faster), "cheaper": _order(self.cheaper)},
            "skipped": dict(Counter(e.skipped for e in self.skipped if e.skipped)),
            "skipped_lines": [{"line": e.line, "reason": e.skipped} for e in self.skipped],
            "implausible": [
                {"line": e.line, "source": e.source, "device": e.device, "reason": why}
                for e, why in self.implausible
            ],
        }
        if rows:
            done["rows"] = [_row(row) for row in self.judged]
        return done


def device(row: PredictedLine) -> str:
    """Label: the canonical device."""
    return row.problem.chip.name


def source(row: PredictedLine) -> str:
    """Label: the source."""
    return row.source


def kind(row: PredictedLine) -> str:
    """Label: the kind of run."""
    return row.problem.kind


def metric(row: PredictedLine) -> str:
    """Label: the metric."""
    return row.problem.metric


def accuracy(rows: Sequence[PredictedLine]) -> Accuracy | None:
    """Median and 90th percentile of the absolute error, and coverage; None for no rows."""
    if not rows:
        return None
    errors = np.abs([row.error for row in rows]) * 100
    return Accuracy(
        rows=len(rows),
        median_abs_pct_err=float(np.median(errors)),
        p90_abs_pct_err=float(np.quantile(errors, 0.9)),
        coverage_90=float(np.mean([row.covered for row in rows])),
    )


def validate(path: Path, model: Model | None = None) -> Validation:
    """Predict every usable row of a file; UsageError when the file has no row at all."""
    model = model or shipped()
    entries = table.read(path)
    if not entries:
        raise UsageError(f"{path}: no rows under the header")
    skipped, implausible, usable = [], [], []
    for entry in entries:
        if entry.problem is None or entry.value is None:
            skipped.append(entry)
        elif why := physics.implausible(entry.problem, entry.value):
            implausible.append((entry, why))
        else:
            usable.append((entry, entry.problem, entry.value))
    predictions = model.predict([problem for _, problem, _ in usable])
    judged = tuple(
        PredictedLine(line=e.line, source=e.source, problem=p, value=v, predicted=predicted)
        for (e, p, v), predicted in zip(usable, predictions, strict=True)
    )
    faster, cheaper = order(judged)
    return Validation(
        path=path,
        version=model.version,
        judged=judged,
        skipped=tuple(skipped),
        implausible=tuple(implausible),
        faster=faster,
        cheaper=cheaper,
        known_sources=frozenset().union(*(group["source"] for group in model.seen.values())),
    )


def _rounded(judged: Accuracy | None, name: str) -> float | None:
    return None if judged is None else judged.to_json()[name]


def _json(groups: Mapping[str, Accuracy]) -> dict[str, dict[str, float]]:
    return {name: judged.to_json() for name, judged in groups.items()}


def _order(ordering: Order) -> dict[str, float | None]:
    share = ordering.share
    return {
        "pairs": ordering.pairs,
        "right": ordering.right,
        "share": None if share is None else round(share, 4),
    }


def _row(row: PredictedLine) -> dict[str, Any]:
    return {
        "line": row.line,
        "source": row.source,
        "device": row.problem.chip.name,
        "model": row.problem.model,
        "kind": row.problem.kind,
        "metric": row.problem.metric,
        "published": row.value,
        "predicted": float(f"{row.predicted.value:.6g}"),
        "low_90": float(f"{row.predicted.low:.6g}"),
        "high_90": float(f"{row.predicted.high:.6g}"),
        "bound": row.predicted.bound,
    }
