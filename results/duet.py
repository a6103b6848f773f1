"""A duet's facts: the block times of two processes that took turns, and what a pair says.

Two live processes, baseline (A) and candidate (B), run blocks of passes in turns, four at a time in
the order ABBA or BAAB, drawn at random: a drift over the four falls on both alike. The unit of the
test is the *pair* of processes, never the block or the pass, because what changes from process to
process (where memory lies, which core is warm) does not average out inside one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tpubench.errors import UsageError
from tpubench.results.row import Row
from tpubench.results.statistics import median

METRIC = "duet_pass_s"
FIRST, CONFIRMATION = "first", "confirmation"
"""Stages: an alarm in a suite of cases is confirmed on fresh pairs."""
Design = Literal["duet", "runs"]
"""``duet``: both live, in turns. ``runs``: one after the other, where a device admits one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One pair of processes. Block times are in the order taken, seconds a pass.

    ``order`` names the side of each block: ``ABBABAAB`` for two quads.
    """

    order: str
    baseline_s: Sequence[float]
    candidate_s: Sequence[float]
    design: Design = "duet"


def block_time_s(passes_s: Sequence[float]) -> float:
    """Tenth percentile of a block's passes: the value at rank ⌈n/10⌉, so the least of ten.

    Interruptions only ever lengthen a pass; a low quantile sees few of them. Both sides of a duet
    run equally many passes a block, so the quantile means the same on both.
    """
    return sorted(passes_s)[math.ceil(len(passes_s) / 10) - 1]


def log_ratio(pair: Pair) -> float:
    """ln(candidate ÷ baseline) of one pair: positive when the candidate is slower.

    Duet: median over quads of the difference of mean log block times. Runs: the difference of the
    medians, as nothing pairs their blocks.
    """
    a, b = ([math.log(t) for t in side] for side in (pair.baseline_s, pair.candidate_s))
    if pair.design == "runs":
        return median(b) - median(a)
    quads = range(0, len(a), 2)
    return median([(b[i] + b[i + 1] - a[i] - a[i + 1]) / 2 for i in quads])


def described(pair: Pair, side: str, partner: str) -> dict[str, Any]:
    """What a stored row says of its duet, beside its samples."""
    return {"side": side, "partner": partner, "order": pair.order, "design": pair.design}


def is_duet(rows: Iterable[Row]) -> bool:
    """Whether rows are the block times of a duet."""
    return any(row.metric == METRIC for row in rows)


def partner_of(row: Row) -> str | None:
    """The run that a duet's row was measured against; None for any other row."""
    partner = _duet(row).get("partner")
    return partner if isinstance(partner, str) else None


def is_baseline(row: Row) -> bool:
    """Whether a duet's row is of its baseline."""
    return _duet(row).get("side") == "baseline"


def stored_pairs(
    baseline: Iterable[Row], candidate: Iterable[Row]
) -> dict[tuple[str, str], list[tuple[Pair, Row, Row]]]:
    """Pairs of a stored duet with the rows they come from, by case and stage, in order.

    UsageError when the rows are not the two sides of one duet.
    """
    sides = [
        {(_case(row), row.repetition): row for row in rows if row.metric == METRIC and row.samples}
        for rows in (baseline, candidate)
    ]
    pairs: dict[tuple[str, str], list[tuple[Pair, Row, Row]]] = {}
    for key, row in sorted(sides[0].items()):
        other = sides[1].get(key)
        mine, theirs = _duet(row), _duet(other)
        if other is None or mine.get("partner") != other.run_id:
            raise UsageError(
                f"run {row.run_id} was a duet with run {mine.get('partner')}: give both its sides"
            )
        if (mine.get("side"), theirs.get("side")) != ("baseline", "candidate"):
            raise UsageError(f"run {row.run_id} was the candidate of its duet: swap the two")
        pair = Pair(
            order=str(mine["order"]),
            baseline_s=row.samples or [],
            candidate_s=other.samples or [],
            design="runs" if mine["design"] == "runs" else "duet",
        )
        pairs.setdefault(key[0], []).append((pair, row, other))
    return pairs


def _duet(row: Row | None) -> dict[str, Any]:
    duet = json.loads(row.environment).get("duet") if row is not None else None
    return duet if isinstance(duet, dict) else {}


def _case(row: Row) -> tuple[str, str]:
    return str(_duet(row).get("case", "")), str(_duet(row).get("stage", FIRST))
