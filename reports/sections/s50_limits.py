"""The hardware's own limits, each by itself, and how near to them the programs come."""

from __future__ import annotations

from collections.abc import Sequence

from tpubench.reports import quantity
from tpubench.reports.blocks import Block, Drawing, Note, Section, Table, columns
from tpubench.reports.figure import Chart
from tpubench.reports.findings import Findings, Names, short
from tpubench.reports.measured_limits import Against, against
from tpubench.reports.roofline import place
from tpubench.reports.sections._shared import TABLE_ROWS, badge, cut, dots, further, left_out
from tpubench.results.summary import IMPORTED

_CHARTS = (
    ("flop_s", "gemm", "arithmetic", "FLOP/s by matrix shape"),
    ("bandwidth_bytes_s", "hbm", "bandwidth", "memory bandwidth by kernel"),
    ("transfer_bytes_s", "h2d", "transfer", "bandwidth between host and device"),
    ("bus_bytes_s", "collective", "exchange", "bandwidth among chips, by operation and size"),
)
_ASKED_FOR = {"gemm", "hbm"}
"""Those without which no program can be put in scale."""


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    blocks: list[Block] = []
    for metric, workload, name, what in _CHARTS:
        # A publication's FLOP/s is of a whole program, which is not the hardware's limit.
        limits = [s for s in findings.of(metric) if s.first.backend != IMPORTED]
        names = Names(limits)
        panels = tuple(dots(metric, limits, names))
        if not panels:
            if workload in _ASKED_FOR:
                command = f"tpubench run --workload {workload}"
                blocks.append(Note(text=f"No {what} among these results.", command=command))
            continue
        shared = names.shared()
        chart = Chart(
            name=name,
            alt=f"Measured {what}, with 95 % intervals between repetitions.",
            panels=panels,
            caption=(f"All cases: {shared}. " if shared else "")
            + "Farther right is faster."
            + cut(panels)
            + left_out(len(limits)),
        )
        blocks.append(Drawing(chart=chart))
    blocks += _placed(findings)
    return Section(
        title="The hardware's own limits",
        lead=(
            "The best the device does on one simple thing at a time: multiplying matrices (gemm),"
            " moving memory (hbm), attending to a prompt or a cache (attention), being fed by its"
            " host (h2d) and exchanging arrays with other chips (collective). A whole program"
            " hardly gets there; these put it in scale."
        ),
        blocks=tuple(blocks),
    )


def _placed(findings: Findings) -> list[Block]:
    """The table of programs against what gemm and hbm reached on the same device."""
    placed, _ = place(findings.summaries)
    held = against(placed, findings.summaries)
    if not held:
        return []
    return [_table(held)]


def _table(held: Sequence[Against]) -> Table:
    shown = held[:TABLE_ROWS]
    names = Names([one.placement.summary for one in held])
    return Table(
        caption="Work against measured limits",
        columns=columns("Work", "Case", "Attained#", "Possible#", "Share#", "Set by", "Evidence"),
        rows=tuple(
            (
                short(f"{row.workload}, {one.placement.phase}", 40),
                names.label(one.placement.summary),
                quantity.quantity(one.placement.flop_s.point, "FLOP/s"),
                quantity.quantity(one.possible_flop_s, "FLOP/s"),
                quantity.quantity(one.share, "fraction"),
                one.bound,
                badge(row),
            )
            for one in shown
            for row in (one.placement.summary.first,)
        ),
        foot=(
            "Possible: the best gemm of the same precision, or the best hbm kernel times the"
            " program's FLOPs a byte, whichever is less, times the chips held. Above 100 % a"
            " working set fits in a cache, or the limit was measured on a busier machine."
            + further(len(held), len(shown))
        ),
    )
