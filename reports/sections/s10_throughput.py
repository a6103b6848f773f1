"""Throughput by case, with the interval between repetitions."""

from __future__ import annotations

from tpubench.reports.blocks import Drawing, Note, Section
from tpubench.reports.figure import Chart
from tpubench.reports.findings import Findings, Names
from tpubench.reports.sections._shared import cut, dots, left_out

_METRICS = ("decode_tok_s", "prefill_tok_s", "output_tok_s", "train_tok_s", "samples_s")


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    by_metric = {metric: findings.of(metric) for metric in _METRICS}
    everything = [summary for summaries in by_metric.values() for summary in summaries]
    lead = (
        "How much work the device does a second, all users together. A model reads the prompt"
        " (prefill), then writes the answer one token at a time (decode). Prefill is limited by"
        " arithmetic, decode mostly by memory, so the two are kept apart."
    )
    if not everything:
        missing = Note(
            text="No throughput among these results.",
            command="tpubench run --workload llama-infer",
        )
        return Section(title="Throughput", lead=lead, blocks=(missing,))
    names = Names(everything)
    drawn = tuple(panel for metric in _METRICS for panel in dots(metric, by_metric[metric], names))
    shared = names.shared()
    chart = Chart(
        name="throughput",
        alt="Throughput of each case with its 95 % interval; the same figures are in the table.",
        panels=drawn,
        caption=(f"All cases: {shared}. " if shared else "")
        + "Farther right is faster. Bars are 95 % intervals between repetitions; a mark without"
        " a bar has one repetition."
        + cut(drawn)
        + left_out(max(len(summaries) for summaries in by_metric.values())),
    )
    return Section(title="Throughput", lead=lead, blocks=(Drawing(chart=chart),))
