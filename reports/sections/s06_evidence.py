"""Evidence side by side: the same case measured, published, compiled and modelled."""

from __future__ import annotations

import json

from tpubench.devices.vendors import label
from tpubench.reports import quantity
from tpubench.reports.blocks import Badge, Block, Cell, Note, Section, Table, Text, columns
from tpubench.reports.findings import Findings
from tpubench.results import published
from tpubench.results.metrics import METRICS
from tpubench.results.model_names import model_key
from tpubench.results.plain_text import plural
from tpubench.results.statistics import median
from tpubench.results.summary import Summary, summarise

_STRENGTH = ("measured", "published", "compiled", "modelled")
"""Kinds of evidence, the strongest first: each is held against the strongest that a case has."""

_SAME_WORK = {"llama-infer": "llm-static", "llama-pretrain": "llm-training"}
"""This suite's programs that do what published results of that kind do."""
_CASE = (
    *("batch", "global_batch", "input_len", "output_len", "seq_len", "load", "concurrency"),
    *("request_rate", "scenario", "round", "resolution", "layers"),
)
_SHOWN = 200


def section(findings: Findings) -> Section | None:
    if findings.survey:
        return None
    cases = _cases(findings)
    if not cases:
        return None
    rows: list[tuple[Cell, ...]] = []
    for kinds in cases[:_SHOWN]:
        rows.append(_row(kinds))
    blocks: list[Block] = [
        Text(items=tuple(_agreement(cases))),
        Table(
            caption="The same figure by kind of evidence",
            columns=columns("Case", "Figure", *(f"{kind}#" for kind in _STRENGTH), "Ratio#"),
            rows=tuple(rows),
            foot=(
                "The ratio is each weaker kind ÷ the strongest that the case has. A case is the"
                " same work, model, device, number of chips, precision, lengths and batch;"
                " software and day may differ. Published figures may come from the set that ships"
                " with tpubench."
            ),
        ),
    ]
    if len(cases) > _SHOWN:
        blocks.append(Note(text=f"{len(cases) - _SHOWN} more figures are not shown."))
    return Section(
        title="Evidence side by side",
        lead=(
            "Where one case has more than one kind of evidence: how far the compiler's and the"
            " model's figures are from what was published or measured."
        ),
        blocks=tuple(blocks),
    )


def _cases(findings: Findings) -> list[dict[str, Summary]]:
    """Kind of evidence to summary, for each figure that has two kinds or more."""
    own = [s for s in findings.summaries if s.estimate is not None and s.estimate.point > 0]
    own = [s for s in own if s.first.metric in METRICS and METRICS[s.first.metric].usd_of is None]
    if not own or {s.first.evidence for s in own} == {"published"}:
        return []
    wanted = {_key(summary) for summary in own}
    shipped = [s for s in summarise(published.rows()) if _key(s) in wanted]
    cases: dict[tuple[object, ...], dict[str, Summary]] = {}
    for summary in (*own, *shipped):
        if summary.first.backend == "fake":
            continue
        kinds = cases.setdefault(_key(summary), {})
        held = kinds.get(summary.first.evidence)
        if held is None or held.first.run_id < summary.first.run_id:
            kinds[summary.first.evidence] = summary
    return [kinds for kinds in cases.values() if len(kinds) > 1]


def _key(summary: Summary) -> tuple[object, ...]:
    row, params = summary.first, summary.params
    work = _SAME_WORK.get(row.workload, row.workload)
    stated = {name: params[name] for name in _CASE if params.get(name) is not None}
    if work == "llm-training" and "batch" in stated and "global_batch" not in stated:
        stated["global_batch"] = stated.pop("batch")
    case = json.dumps(stated, sort_keys=True, default=str)
    return (work, model_key(row.preset), row.device, row.chips, row.dtype, case, row.metric)


def _point(summary: Summary) -> float:
    return 0.0 if summary.estimate is None else summary.estimate.point


def _strongest(kinds: dict[str, Summary]) -> str:
    return next(kind for kind in _STRENGTH if kind in kinds)


def _row(kinds: dict[str, Summary]) -> tuple[Cell, ...]:
    base = _strongest(kinds)
    first = kinds[base].first
    ratios = [
        f"{kind} {quantity.number(_point(kinds[kind]) / _point(kinds[base]))}×"
        for kind in _STRENGTH
        if kind in kinds and kind != base
    ]
    chips = f"{first.chips} × " if first.chips != 1 else ""
    return (
        f"{first.preset} on {chips}{label(first.device)}, {first.dtype}: {kinds[base].label()}",
        first.metric,
        *(
            quantity.quantity(_point(kinds[kind]), first.unit) if kind in kinds else ""
            for kind in _STRENGTH
        ),
        Badge(text=", ".join(ratios), tone=base),
    )


def _agreement(cases: list[dict[str, Summary]]) -> list[str]:
    """For each two kinds, how far apart they are over all figures that have both."""
    sentences = []
    for weak in reversed(_STRENGTH):
        for base in _STRENGTH:
            ratios = [
                _point(kinds[weak]) / _point(kinds[base])
                for kinds in cases
                if weak in kinds and _strongest(kinds) == base != weak
            ]
            if ratios:
                sentences.append(
                    f"{weak} ÷ {base} over {plural(len(ratios), 'figure')}: median"
                    f" {quantity.number(median(ratios))}, from {quantity.number(min(ratios))} to"
                    f" {quantity.number(max(ratios))}"
                )
    return sentences
