"""What to know of a table beside its figures: whether its passes were steady, and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tpubench.reports import quantity
from tpubench.reports.row_json import json_object
from tpubench.results.row import Row
from tpubench.results.summary import Summary, summarise


def unsteady(cases: Sequence[str], summaries: Sequence[Summary]) -> Iterator[str]:
    """A sentence for each case whose passes did not take the same time."""
    for case in cases:
        own = [s for s in summaries if s.first.params == case]
        words = {row.repetition: word for s in own for row in s.rows if (word := _steadiness(row))}
        spoilt = [word for word in words.values() if word != "steady"]
        if spoilt:
            count = f" in {len(spoilt)} of {len(words)} repetitions" if len(words) > 1 else ""
            yield (
                f"not steady: {own[0].label()}: {', '.join(dict.fromkeys(spoilt))}{count}; the"
                " machine was busy, or not warm"
            )


def _steadiness(row: Row) -> str | None:
    """What the clock said of a repetition; None where it said nothing."""
    timing = json_object(row.environment)
    timing = timing.get("timing") if isinstance(timing, dict) else None
    word = timing.get("steadiness") if isinstance(timing, dict) else None
    return word if isinstance(word, str) and row.status == "ok" else None


def peaks(rows: Iterable[Row]) -> str | None:
    """A line on what measured the machine itself; None where nothing did."""
    rates = [
        f"{s.first.workload} {s.first.dtype} {quantity.quantity(s.estimate.point, s.first.unit)}"
        for s in summarise(rows)
        if s.estimate is not None and s.first.metric in {"flop_s", "bandwidth_bytes_s"}
    ]
    return f"peaks of this machine: {', '.join(dict.fromkeys(rates))}" if rates else None
