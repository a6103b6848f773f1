"""A serving run on a terminal: what was asked, what was sent, and what users saw of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from tpubench.reports import quantity, terminal
from tpubench.reports.console import console, next_step
from tpubench.reports.row_json import json_object
from tpubench.reports.tables import FoldingTable
from tpubench.results.events import RunReport
from tpubench.results.row import Row
from tpubench.results.summary import Summary, summarise

Case = Mapping[str, Summary]
"""A load: its figures by metric."""

_LATENCIES = ("ttft", "tpot", "e2e")
_RATES = (
    ("output_tok_s", "out tok/s"),
    ("total_tok_s", "all tok/s"),
    ("goodput_req_s", "good/s"),
    ("usd_per_mtok_out", "$/M out"),
    ("usd_per_mtok_slo", "$/M SLO"),
)


def show_plan(plan: Mapping[str, Any], *, as_json: bool) -> None:
    """What would be sent."""
    if as_json:
        terminal.print_json(plan)
        return
    out = console()
    for note in plan["notes"]:
        out.print(note, markup=False, soft_wrap=True)
    to = plan["server"] or f"{plan['engine']} started here"
    table = FoldingTable(title=escape(f"{plan['workload']} on {to}"))
    table.add_column("load")
    table.add_column("requests", justify="right")
    table.add_column("in → out", justify="right")
    for case in plan["cases"]:
        table.add_row(
            escape(_load(case, searched=plan["searches"])),
            f"{case['requests']} (+ {case['warm_up']})",
            f"{case['input_len']} → {case['output_len']}",
        )
    out.print(table)
    out.print(f"{plan['repeats']} repetitions of each load; nothing was sent")


def show_run(report: RunReport) -> None:
    """What was measured, a line a load, and where it is."""
    out = console()
    for note in report.notes:
        out.print(note, markup=False, soft_wrap=True)
    cases = _cases(report.rows)
    if cases:
        out.print(_latencies(cases))
        out.print(_rates(cases))
        out.print("latencies: median/p90/p99 over requests; p90 needs 64, p99 662", style="dim")
    for own in cases:
        bad = [row for s in own.values() for row in s.rows if row.status != "ok"]
        for reason in dict.fromkeys(row.reason for row in bad):
            out.print(f"{_load(_params(own))}: {reason}", markup=False, soft_wrap=True)
    out.print(f"run {report.run_id} is stored in {report.store}", markup=False, soft_wrap=True)
    next_step(out, "show latest --explain", report.store, "every figure")


def _cases(rows: Sequence[Row]) -> list[Case]:
    """The loads in the order in which they ran."""
    cases: dict[str, dict[str, Summary]] = {}
    for summary in summarise(rows):
        if summary.params.get("load") in {"poisson", "closed", "trace"}:
            cases.setdefault(summary.first.params, {})[summary.first.metric] = summary
    order = {row.params: number for number, row in reversed(list(enumerate(rows)))}
    return [cases[params] for params in sorted(cases, key=order.__getitem__)]


def _latencies(cases: Sequence[Case]) -> FoldingTable:
    table = FoldingTable()
    table.add_column("load")
    for name in _LATENCIES:
        table.add_column(f"{name.upper()}, ms", justify="right")
    for own in cases:
        cells = [
            "/".join(_number(own.get(f"{name}{tail}_s"), 1e3) for tail in ("", "_p90", "_p99"))
            for name in _LATENCIES
        ]
        table.add_row(escape(_load(_params(own))), *cells)
    return table


def _rates(cases: Sequence[Case]) -> FoldingTable:
    table = FoldingTable()
    table.add_column("load")
    table.add_column("sent/s", justify="right")
    for _, heading in _RATES:
        table.add_column(heading, justify="right")
    for own in cases:
        cells = [_number(own.get(metric)) for metric, _ in _RATES]
        table.add_row(escape(_load(_params(own))), _sent(own), *cells)
    return table


def _sent(own: Case) -> str:
    """Rate at which the first repetition was sent, by the generator's log."""
    environment = json_object(next(iter(own.values())).first.environment)
    load = environment.get("load") if isinstance(environment, dict) else None
    rate = load.get("delivered_req_s") if isinstance(load, dict) else None
    return quantity.number(rate) if isinstance(rate, int | float) else quantity.MISSING


def _number(summary: Summary | None, scale: float = 1.0) -> str:
    if summary is None or summary.estimate is None:
        return quantity.MISSING
    return quantity.number(scale * summary.estimate.point)


def _params(own: Case) -> Mapping[str, Any]:
    return next(iter(own.values())).params


def _load(params: Mapping[str, Any], *, searched: bool = False) -> str:
    if "request_rate" in params:
        return f"{params['request_rate']:g} requests/s"
    if "concurrency" in params:
        return f"concurrency {params['concurrency']}"
    return "highest rate that keeps the SLO" if searched else "as recorded"
