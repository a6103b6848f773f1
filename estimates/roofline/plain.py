"""Any program by the work that it states: FLOPs and bytes, the slower of which takes the time.

For programs of whose kind nothing was fitted. No more is known of them than what they must do, and
the interval says so.
"""

from __future__ import annotations

from collections.abc import Mapping

from tpubench.estimates.roofline.chips import Chip
from tpubench.estimates.roofline.operators import usual
from tpubench.estimates.roofline.terms import PROGRAM, STREAM, Terms
from tpubench.suite.workload import Case, Work, Workload

LINKS = frozenset({"transfer_bytes_s", "algorithm_bytes_s", "bus_bytes_s"})
"""Metrics of what moves over links to the host or between chips, and not through the memory."""
WITHIN = 2.0
"""Factor within which nine in ten figures lie: what a plain roofline with one factor for each
device misses published serving figures by (docs/estimate-accuracy.md, "Against simpler models")."""


def seconds(work: Work, case: Case, chip: Chip, chips: int) -> dict[str, float]:
    """Seconds by class of work, spread over all chips without exchange; one class is the limit."""
    precision = case.arithmetic_dtype
    peak = chip.peak(precision) or chip.peak_flop_s["bfloat16"]
    compute_s = work.flops / (chips * peak * usual(chip.name, precision) * PROGRAM)
    memory_s = work.bytes / (chips * chip.hbm_bytes_s * STREAM)
    return {"matmul": compute_s} if compute_s > memory_s else {"memory": memory_s}


def phases(workload: Workload, case: Case, chip: Chip, chips: int) -> Mapping[str, float]:
    """Seconds from mark to mark of each phase; of ``pass`` where the work is not told apart."""
    work, spans = workload.work(case), workload.phases(case)
    if spans and set(spans) == set(work.phases):
        return {
            name: sum(seconds(part, case, chip, chips).values()) / spans[name].marks
            for name, part in work.phases.items()
        }
    return {"pass": sum(seconds(work, case, chip, chips).values())}


def terms(workload: Workload, case: Case, chip: Chip, chips: int) -> Terms:
    """Where the time of a whole pass goes."""
    work = workload.work(case)
    total: dict[str, float] = {}
    for part in work.phases.values() or (work,):
        for name, value in seconds(part, case, chip, chips).items():
            total[name] = total.get(name, 0.0) + value
    return Terms(seconds=total, scale=1.0, rate=False)
