"""The hardware's own limits: arithmetic by matrix shape, memory by kernel."""

from __future__ import annotations

from tpubench.reports.blocks import Block, Drawing, Note, Section
from tpubench.reports.figure import Chart
from tpubench.reports.findings import Findings, Names
from tpubench.reports.sections._shared import cut, dots, left_out
from tpubench.results.summary import IMPORTED

_CHARTS = (
    ("flop_s", "gemm", "arithmetic", "FLOP/s by matrix shape"),
    ("bandwidth_bytes_s", "hbm", "bandwidth", "memory bandwidth by kernel"),
)


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    blocks: list[Block] = []
    for metric, workload, name, what in _CHARTS:
        # A publication's FLOP/s is of a whole program, which is not the hardware's limit.
        found = [s for s in findings.of(metric) if s.first.backend != IMPORTED]
        names = Names(found)
        panels = tuple(dots(metric, found, names))
        if not panels:
            blocks.append(
                Note(
                    text=f"No {what} among these results.",
                    command=f"tpubench run --workload {workload}",
                )
            )
            continue
        shared = names.shared()
        chart = Chart(
            name=name,
            alt=f"Measured {what}, with 95 % intervals between repetitions.",
            panels=panels,
            caption=(f"All cases: {shared}. " if shared else "")
            + "Farther right is faster."
            + cut(panels)
            + left_out(len(found)),
        )
        blocks.append(Drawing(chart=chart))
    return Section(
        title="The hardware's own limits",
        lead=(
            "The best the device does on one simple thing at a time: multiplying matrices (gemm)"
            " and moving memory (hbm). A whole program hardly gets there; these put it in scale."
        ),
        blocks=tuple(blocks),
    )
