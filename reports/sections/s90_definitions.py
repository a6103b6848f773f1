"""The formula of every metric on the page, and what the evidence words mean."""

from __future__ import annotations

from tpubench.reports.blocks import Badge, Cell, Section, Table, columns
from tpubench.reports.findings import Findings
from tpubench.results.metrics import METRICS
from tpubench.results.own_metrics import of_row, says_how

_EVIDENCE = {
    "measured": "This suite ran the program on the device and timed it.",
    "published": "Taken from a source outside this suite, which is named.",
    "compiled": "The compiler's own estimate for the device; nothing was executed.",
    "modelled": "Computed from a model of the device, or under a scripted clock.",
}


def section(findings: Findings) -> Section | None:
    used = {row.metric for row in findings.rows}
    rows: list[tuple[Cell, ...]] = [
        (name, metric.unit, f"{metric.better} is better", metric.formula)
        for name, metric in METRICS.items()
        if name in used
    ]
    others = {row.metric: row for row in findings.rows if row.metric not in METRICS}
    undefined = "not a metric of this version of tpubench: no definition"
    for name, row in sorted(others.items()):
        if says_how(row):  # a workload's own metric: its rows define it
            own = of_row(row)
            rows.append((name, own.unit, f"{own.better} is better", own.formula))
        else:
            rows.append((name, "", "", undefined))
    words: list[tuple[Cell, ...]] = [
        (Badge(text=name, tone=name), text) for name, text in _EVIDENCE.items()
    ]
    return Section(
        title="Definitions",
        lead=(
            "How each figure is computed from the stored samples. Anyone with the result files can"
            " recompute all of them: tpubench verify does."
        ),
        blocks=(
            Table(
                caption="Metrics",
                columns=columns("Metric", "Unit", "Direction", "Definition"),
                rows=tuple(rows),
                stacks=True,
            ),
            Table(caption="Evidence", columns=columns("Word", "Meaning"), rows=tuple(words)),
        ),
    )
