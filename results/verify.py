"""Recompute every stored figure from its own samples, and every $ figure from its price."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.metrics import Metric, of_row, says_how
from tpubench.results.row import Row
from tpubench.results.statistics import within
from tpubench.results.store import Unreadable, files, iter_rows, scan
from tpubench.results.summary import row_key

RELATIVE_TOLERANCE = 1e-9


Siblings = dict[tuple[tuple[object, ...], str], Row]
"""Rows of a repetition by metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A stored figure that does not follow from what is stored with it."""

    row: Row
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of a whole store found."""

    files: int
    rows: int
    damaged: list[Unreadable]
    mismatches: list[Mismatch]

    @property
    def ok(self) -> bool:
        return not self.damaged and not self.mismatches


def verify_store(store: Path) -> Verification:
    """Read every file of ``store`` and recompute every figure in it.

    UsageError when there is nothing to verify.
    """
    paths = files(store)
    if not paths and not paths.unreadable:
        raise UsageError(f"there are no results in {store}")
    found = scan(paths)
    rows = list(iter_rows(found.table))
    return Verification(
        files=len(paths), rows=len(rows), damaged=found.unreadable, mismatches=verify(rows)
    )


def verify(rows: Iterable[Row]) -> list[Mismatch]:
    """Every row whose value, interval, per-chip or $ figure cannot be recomputed."""
    rows = list(rows)
    found = []
    seen = set()
    for row in rows:
        if row_key(row) in seen:
            twice = f"repetition {row.repetition} is stored twice"
            found.append(Mismatch(row=row, problem=twice))
        seen.add(row_key(row))
    siblings = {(_repetition(row), row.metric): row for row in rows}
    for row in rows:
        problem = _problem(row, siblings)
        if problem:
            found.append(Mismatch(row=row, problem=problem))
    return found


def _problem(row: Row, siblings: Siblings) -> str | None:
    if row.value is None or not says_how(row):
        return None  # nothing claimed, or another version's metric
    metric = of_row(row)
    if (row.unit, row.better) != (metric.unit, metric.better):
        return f"unit or direction is not that of {metric.name}"
    if not row.samples:
        # An imported figure may come without its samples; our own never does.
        return "a measured value without samples" if row.evidence == "measured" else None
    try:
        estimate = within(metric.aggregate, row.samples)
    except (ValueError, ArithmeticError) as error:
        return f"its samples give no {metric.aggregate.replace('_', ' ')}: {error}"
    for name, stored, again in (
        ("value", row.value, estimate.point),
        ("ci_low", row.ci_low, estimate.low),
        ("ci_high", row.ci_high, estimate.high),
    ):
        if not _same(stored, again):
            return f"{name} is {stored}, its samples give {again}"
    return _derived(row, metric, siblings)


def _derived(row: Row, metric: Metric, siblings: Siblings) -> str | None:
    rate_name = metric.per_chip_of or metric.usd_of
    if rate_name is None:
        return None
    rate = siblings.get((_repetition(row), rate_name))
    if rate is None or not rate.samples or not row.samples:
        return f"{rate_name}, which it is derived from, is not stored with it"
    if metric.per_chip_of:
        if not row.chips:
            return "a figure per chip of no chips"
        again = [sample / row.chips for sample in rate.samples]
    elif row.usd_per_chip_hour is None:
        return "a price figure without its price"
    elif 0 in rate.samples:
        return f"a price figure of a {rate_name} of 0"
    else:
        bill = metric.usd_items * row.chips * row.usd_per_chip_hour / 3600
        again = [bill / sample for sample in rate.samples]
    if len(again) != len(row.samples) or not all(map(_same, again, row.samples)):
        return f"its samples do not follow from {rate_name}"
    return None


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE)


def _repetition(row: Row) -> tuple[object, ...]:
    return (row.run_id, row.repetition, row.workload, row.preset, row.params, row.backend)
