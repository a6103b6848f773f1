"""What runs spent where, from the timing records of their rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tpubench.results.row import Row
from tpubench.results.summary import case_key

PHASES = (
    "import", "open", "clock", "build", "reference", "compile", "warm-up", "window",
    "other windows", "check", "release", "store",
)  # fmt: skip
"""In the order in which they come."""
MEASURING = ("window", "other windows")
"""Phases in which something is measured; all others are set-up."""


def by_phase(rows: Iterable[Row]) -> dict[str, float]:
    """Seconds by phase, of all repetitions of ``rows`` together; empty where none recorded any."""
    total: dict[str, float] = {}
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        repetition = (*case_key(row), row.repetition)
        if repetition in seen:
            continue
        seen.add(repetition)
        for phase, seconds in _spent_s(row).items():
            total[phase] = total.get(phase, 0.0) + seconds
    known = {phase: total.pop(phase) for phase in PHASES if phase in total}
    return known | total


def measured_share(spent_s: Mapping[str, float]) -> float | None:
    """Share of the time in which something was measured; None where there was no time."""
    total = sum(spent_s.values())
    return sum(spent_s.get(phase, 0.0) for phase in MEASURING) / total if total else None


def _spent_s(row: Row) -> Mapping[str, float]:
    environment = json.loads(row.environment)
    timing = environment.get("timing") if isinstance(environment, dict) else None
    spent_s = timing.get("spent_s") if isinstance(timing, dict) else None
    if not isinstance(spent_s, dict):
        return {}  # a row of an earlier version, of an import or of an estimate
    return {
        str(phase): float(seconds)
        for phase, seconds in spent_s.items()
        if isinstance(seconds, int | float) and 0 <= seconds < float("inf")
    }
