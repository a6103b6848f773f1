"""What is missing, and why: figures without a value, repetitions without figures."""

from __future__ import annotations

from tpubench.reports.blocks import Badge, Cell, Section, Table, Text, columns
from tpubench.reports.findings import Findings
from tpubench.reports.sections._shared import distinct
from tpubench.results.plain_text import plural
from tpubench.results.summary import CaseKey, case_key

_REMEDY = {
    "usd_per_": "run again with --price ID or --usd-per-chip-hour X",
    "mfu": "needs a peak FLOP/s of the device at this precision",
    "mbu": "needs a peak memory bandwidth of the device",
    "joules_per_token": "needs a device that reports its power",
    "peak_memory_bytes": "needs a device that reports its memory",
    "tpot_s": "ask for two or more output tokens",
    "itl_s": "ask for two or more output tokens",
    "decode_tok_s": "ask for two or more output tokens",
}


def section(findings: Findings) -> Section | None:
    lead = "A figure that could not be obtained honestly is left out, never guessed and never zero."
    groups: dict[tuple[str, str, str], set[CaseKey]] = {}
    metrics: dict[tuple[str, str, str], list[str]] = {}
    for row in findings.rows:
        if row.value is not None:
            continue
        family = "usd_per_…" if row.metric.startswith("usd_per_") else row.metric
        if row.status != "ok":
            family = "all figures of the repetition"
        key = (row.status, family, row.reason or "")
        groups.setdefault(key, set()).add((*case_key(row), row.repetition))
        metrics.setdefault(key, []).append(row.metric)
    if not groups:
        measured = any(row.evidence == "measured" for row in findings.rows)
        text = "Nothing: every figure of every repetition is there."
        if not measured:
            text = (
                "Every measurement: nothing here was measured by this suite, and what a source"
                " left out cannot be told from here."
            )
        return Section(title="What is missing, and why", lead=lead, blocks=(Text(text=text),))
    rows: list[tuple[Cell, ...]] = []
    for (status, family, reason), where in sorted(
        groups.items(), key=lambda item: (item[0][0] == "ok", item[0])
    ):
        rows.append(
            (
                family,
                Badge(text=status, tone="bad") if status != "ok" else "not obtained",
                reason,
                f"{plural(len(where), 'repetition')} of {_workloads(where)}",
                _remedy(status, metrics[status, family, reason][0], reason),
            )
        )
    headings = columns("Figure", "State", "Reason", "Where", "What would give it")
    table = Table(columns=headings, rows=tuple(rows), stacks=True)
    return Section(title="What is missing, and why", lead=lead, blocks=(table,))


def _workloads(where: set[CaseKey]) -> str:
    return ", ".join(distinct(sorted({str(case[2]) for case in where}), 4))


def _remedy(status: str, metric: str, reason: str) -> str:
    if status != "ok":
        return "mend the cause and run again; facts are kept, never overwritten"
    if metric in {"mfu", "mbu"} and "no known peak" not in reason:
        return ""
    return next((text for name, text in _REMEDY.items() if metric.startswith(name)), "")
