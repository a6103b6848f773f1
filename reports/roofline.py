"""Where each phase of a program stands against the two limits of its device.

A roofline (Williams, Waterman and Patterson, 2009) relates arithmetic intensity, FLOPs done for
each byte moved, to attained FLOP/s: left of the ridge memory bandwidth is the limit, right of it
arithmetic. Everything comes from stored facts: the closed-form work of each phase, the rates that
were measured, and the peaks with their source. What cannot be placed says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tpubench.reports.findings import part
from tpubench.results.row import Row
from tpubench.results.statistics import Estimate
from tpubench.results.summary import CaseKey, Summary, case_key

_RATE = {"prefill": "prefill_tok_s", "decode": "decode_tok_s"}
"""The metric that counts a phase's items a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """The limits of the chips a case held: FLOP/s, bytes/s, and where they come from."""

    device: str
    chips: int
    dtype: str
    flop_s: float
    bytes_s: float
    source: str
    measured: bool
    """Found by this suite in the same run: a lower bound, so a point may lie above it."""
    run_id: str | None
    """The run that measured it; None for published limits, which hold for every run."""

    def at(self, flops_per_byte: float) -> float:
        """Highest FLOP/s possible at that arithmetic intensity."""
        return min(self.flop_s, self.bytes_s * flops_per_byte)

    @property
    def ridge(self) -> float:
        """FLOPs a byte at which the limit changes from memory to arithmetic."""
        return self.flop_s / self.bytes_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflinePoint:
    """One phase of one case on the roofline. ``roof`` is None when ``no_roof`` says why."""

    summary: Summary
    phase: str
    flops_per_byte: float
    flop_s: Estimate
    roof: Roof | None
    no_roof: str

    def share(self) -> float | None:
        """Attained ÷ possible at this intensity."""
        return None if self.roof is None else self.flop_s.point / self.roof.at(self.flops_per_byte)

    def limit(self) -> Literal["memory", "arithmetic"] | None:
        """Which of the two limits is the lower one here."""
        if self.roof is None:
            return None
        return "memory" if self.flops_per_byte < self.roof.ridge else "arithmetic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """A case or phase that has no place on the roofline, and the reason."""

    summary: Summary
    phase: str
    reason: str


def place(summaries: Sequence[Summary]) -> tuple[list[RooflinePoint], list[Unplaced]]:
    """Every phase of every case that has a value, placed or with the reason why not."""
    cases: dict[CaseKey, list[Summary]] = {}
    for summary in summaries:
        if summary.estimate is not None:
            cases.setdefault(case_key(summary.first), []).append(summary)
    placed: list[RooflinePoint] = []
    unplaced: list[Unplaced] = []
    for case in cases.values():
        work = part(case[0].first, "work")
        if not work:
            reason = "the FLOPs and bytes of its work are not stored with it"
            unplaced.append(Unplaced(summary=case[0], phase="pass", reason=reason))
        for phase, amounts in work.items():
            placement = _place(case, phase, amounts if isinstance(amounts, dict) else {})
            if isinstance(placement, RooflinePoint):
                placed.append(placement)
            else:
                unplaced.append(placement)
    return placed, unplaced


def _place(
    case: Sequence[Summary], phase: str, amounts: Mapping[str, Any]
) -> RooflinePoint | Unplaced:
    flops, moved, items = (_positive(amounts.get(key)) for key in ("flops", "bytes", "items"))
    metrics = {summary.first.metric: summary for summary in case}

    def refuse(reason: str) -> Unplaced:
        return Unplaced(summary=case[0], phase=phase, reason=reason)

    if flops is None:
        return refuse("it does no arithmetic")
    if moved is None or items is None:
        return refuse("the bytes it moves, or the items it makes, are not known")
    if phase in _RATE:
        choices = {_RATE[phase]: flops / items}
    else:
        choices = {
            "flop_s": 1.0,
            "bandwidth_bytes_s": flops / moved,
            "samples_s": flops / items,
            "train_tok_s": flops / items,
        }
    name = next((name for name in choices if name in metrics), None)
    if name is None:
        return refuse(f"none of {', '.join(choices)} was obtained")
    summary = metrics[name]
    rate = None if summary.estimate is None else _scaled(summary.estimate, choices[name])
    if rate is None:
        return refuse(f"{name} is not a usable number")
    roof = _roof(summary.first)
    return RooflinePoint(
        summary=summary,
        phase=phase,
        flops_per_byte=flops / moved,
        flop_s=rate,
        roof=roof if isinstance(roof, Roof) else None,
        no_roof="" if isinstance(roof, Roof) else roof,
    )


def _roof(row: Row) -> Roof | str:
    peaks = part(row, "peaks")
    if row.chips < 1:
        return "how many chips it held is not known"
    if not peaks:
        return "no peak of this device is stored with it"
    # Weights of int8 are multiplied in another precision than the row's.
    dtype = str(peaks.get("dtype") or row.dtype)
    flop_s, bytes_s = _positive(peaks.get("flop_s")), _positive(peaks.get("bytes_s"))
    if flop_s is None:
        return f"no peak FLOP/s of {row.device} is known for {dtype}"
    if bytes_s is None:
        return f"no peak memory bandwidth of {row.device} is known"
    measured = peaks.get("measured") is True
    return Roof(
        device=row.device,
        chips=row.chips,
        dtype=dtype,
        flop_s=flop_s * row.chips,
        bytes_s=bytes_s * row.chips,
        source=str(peaks.get("source") or "source not stored"),
        measured=measured,
        run_id=row.run_id if measured else None,
    )


def _scaled(estimate: Estimate, factor: float) -> Estimate | None:
    point = estimate.point * factor
    if not 0 < point < math.inf:
        return None
    ends = [None if end is None else end * factor for end in (estimate.low, estimate.high)]
    return Estimate(point=point, low=ends[0], high=ends[1], n=estimate.n)


def _positive(value: object) -> float | None:
    """``value`` as a number above zero that arithmetic can bear; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 1e-30 < value < 1e30 else None
