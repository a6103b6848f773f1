"""What runs spent where, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tpubench.results import spent
from tpubench.results.row import Row

_LEAST_SHARE = 0.005
"""Phases that took less of the whole are not named."""


def lines(rows: Iterable[Row], also_s: Mapping[str, float] | None = None) -> list[str]:
    """A line for each workload of each run that recorded its time.

    also_s: seconds that no child spent, added to the last line.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.run_id, row.workload), []).append(row)
    sentences = []
    for number, ((_, workload), group) in enumerate(groups.items(), 1):
        spent_s = spent.by_phase(group)
        if not spent_s:
            continue
        if number == len(groups):
            spent_s |= also_s or {}
        sentences.append(f"time of {workload}: {in_words(spent_s)}")
    return sentences


def in_words(spent_s: Mapping[str, float]) -> str:
    """``62 s, 41 % of it measuring: import 4.1 s, compile 20 s, …``."""
    total = sum(spent_s.values())
    share = spent.measured_share(spent_s) or 0.0
    phases = [
        f"{phase} {seconds:.2g} s" if seconds < 10 else f"{phase} {seconds:.0f} s"
        for phase, seconds in spent_s.items()
        if seconds >= _LEAST_SHARE * total
    ]
    return f"{total:.0f} s, {share:.0%} of it measuring: {', '.join(phases)}"
