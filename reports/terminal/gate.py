"""Verdicts of the gate on a terminal, and the line that moves while a duet runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.markup import escape

from tpubench.reports import quantity
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import console, print_json, warn, warn_unreadable
from tpubench.results.gate.looks import LOOKS, Judged
from tpubench.results.gate.report import Finding, GateReport
from tpubench.results.metrics import METRICS
from tpubench.results.plain_text import one_line
from tpubench.results.statistics import Estimate
from tpubench.results.store import Unreadable

STYLE = {
    "ok": "green",
    "regressed": "bold red",
    "inconclusive": "yellow",
    "missing": "yellow",
    "failed": "red",
    "refused": "magenta",
    "first": "green",
}


class PairProgress(Protocol):
    """What the progress line needs to know of a pair."""

    @property
    def case(self) -> str: ...
    @property
    def number(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def cases(self) -> int: ...
    @property
    def judged(self) -> Judged: ...
    @property
    def confirming(self) -> bool: ...


def show(
    report: GateReport, unreadable: Sequence[Unreadable], *, as_json: bool, explain: bool = False
) -> None:
    """The verdicts as a table or one JSON document; files left out are named on stderr."""
    warn_unreadable(unreadable)
    warn(_too_noisy(report))
    if as_json:
        print_json(document(report))
        return
    out = console()
    for note in report.notes:
        out.print(note, markup=False, soft_wrap=True)
    if report.findings:
        _table(out, report, explain=explain)
    for run in report.runs[:1]:
        out.print(f"stored as runs {run} and {report.runs[-1]}", markup=False)
    words = {"first": "nothing to compare with yet"}.get(report.state, report.state)
    out.print(f"gate: {words}", style=STYLE[report.state])


def _too_noisy(report: GateReport) -> list[str]:
    """A line for each figure that scattered too much for any verdict."""
    return [
        f"too noisy for a verdict: {one.case}: {one.metric} scatters by {100 * one.sigma:.1f} %, so"
        f" that only a change of {100 * (one.mde - 1):.0f} % would show; try again in a quieter"
        " moment, or on a quieter machine"
        for one in report.findings
        if one.state == "inconclusive" and one.sigma and one.mde and one.mde > one.policy.limit
    ]


def _table(out: Any, report: GateReport, *, explain: bool) -> None:
    table = FoldingTable(title=escape(report.title))
    for heading in ("case", "metric", "baseline", "candidate", "worse by", "σ", "detectable", "n"):
        right = heading not in {"case", "metric"}
        table.add_column(heading, justify="right" if right else "left")
    table.add_column("verdict")
    for finding in report.findings:
        table.add_row(
            escape(f"{finding.case} · {finding.evidence}"),
            finding.metric,
            _value(finding.baseline, finding.unit),
            _value(finding.candidate, finding.unit),
            escape(change(finding.worse)),
            "–" if finding.sigma is None else f"{100 * finding.sigma:.2f} %",
            "–" if finding.mde is None else f"{100 * (finding.mde - 1):+.1f} %",
            "/".join(map(str, dict.fromkeys(finding.n))),
            f"[{STYLE[finding.state]}]{finding.state}[/]",
        )
    out.print(table)
    for finding in report.findings:
        what = f"{finding.state}: {finding.case}: {finding.metric}"
        out.print(f"{what}: {finding.reason}{cause(finding)}", markup=False, soft_wrap=True)
    _legend(out, report, explain=explain)


def _legend(out: Any, report: GateReport, *, explain: bool) -> None:
    policies = {(f.policy.margin, f.policy.limit, f.policy.alpha, f.policy.ok_alpha)
                for f in report.findings}  # fmt: skip
    for margin, limit, alpha, ok_alpha in sorted(policies):
        out.print(
            f"regressed: worse by more than {100 * (margin - 1):.3g} % (proven, error {alpha:.0%});"
            f" ok: worse by less than {100 * (limit - 1):.3g} % (proven, error {ok_alpha:.0%})",
            style="dim",
            soft_wrap=True,
        )
    if not explain:
        out.print("--explain says how each figure is defined", style="dim")
        return
    out.print(
        "worse by: Hodges-Lehmann ratio [95 % interval]; σ: spread of its logarithm from process to"
        " process; detectable: smallest true change flagged 95 times in 100",
        style="dim",
        soft_wrap=True,
    )
    for name in dict.fromkeys(finding.metric for finding in report.findings):
        if name in METRICS:
            out.print(f"{name}: {METRICS[name].formula}", style="dim", markup=False, soft_wrap=True)


def change(worse: Estimate | None) -> str:
    """``+4.2 % [+3.1, +5.4]``: how much worse the candidate is; a dash when unknown."""
    if worse is None:
        return "–"
    point = f"{100 * (worse.point - 1):+.1f} %"
    if worse.low is None or worse.high is None:
        return point
    return f"{point} [{100 * (worse.low - 1):+.1f}, {100 * (worse.high - 1):+.1f}]"


def cause(finding: Finding) -> str:
    """Why a cost moved, in words; empty for other metrics."""
    if finding.cause is None:
        return ""
    return (
        f" (of which throughput {100 * (finding.cause.throughput - 1):+.1f} %,"
        f" price {100 * (finding.cause.price - 1):+.1f} %)"
    )


def document(report: GateReport) -> dict[str, Any]:
    """The verdicts as JSON values."""
    return {
        "verdict": report.state,
        "exit_code": report.exit_code,
        "title": report.title,
        "notes": list(report.notes),
        "runs": list(report.runs),
        "cut_short": report.cut_short,
        "findings": [_record(finding) for finding in report.findings],
    }


def _record(finding: Finding) -> dict[str, Any]:
    worse, why, policy = finding.worse, finding.cause, finding.policy
    return {
        "case": finding.case,
        "metric": finding.metric,
        "unit": finding.unit,
        "better": finding.better,
        "evidence": finding.evidence,
        "verdict": finding.state,
        "reason": finding.reason,
        "tail": finding.tail,
        "worse_ratio": None
        if worse is None
        else {"point": worse.point, "low": worse.low, "high": worse.high, "n": worse.n},
        "sigma": finding.sigma,
        "minimum_detectable_ratio": finding.mde,
        "n": list(finding.n),
        "baseline": finding.baseline,
        "candidate": finding.candidate,
        "cause": None if why is None else {"throughput": why.throughput, "price": why.price},
        "margin": policy.margin,
        "limit": policy.limit,
        "test": finding.test,
    }


def show_contest(planned: Mapping[str, Any], *, as_json: bool) -> None:
    """What a duet would compare."""
    if as_json:
        print_json(planned)
        return
    out = console()
    out.print(planned["title"], markup=False)
    for note in planned["notes"]:
        out.print(note, markup=False, soft_wrap=True)
    for case, design in zip(planned["cases"], planned["design"], strict=True):
        a, b = case["baseline"], case["candidate"]
        same = " ".join(f"{k}={v}" for k, v in a.items() if b.get(k) == v)
        differs = "; ".join(f"{k}: {a.get(k)} → {b.get(k)}" for k in b if a.get(k) != b[k])
        modes = " → ".join(dict.fromkeys(case["compile_modes"]))
        out.print(
            f"{case['workload']} {case['preset']} ({modes}, {design}): {same}"
            + (f"; differs: {differs}" if differs else ""),
            markup=False,
            soft_wrap=True,
        )
    out.print("nothing was run")


@contextmanager
def watcher(*, show: bool) -> Iterator[Callable[[PairProgress], None]]:
    """Something to call after each pair: a moving line on a terminal, a line a look elsewhere.

    It draws between pairs only, never while a block is timed.
    """
    if not show:
        yield lambda taken: None
    elif sys.stderr.isatty():
        yield _moving
        print(file=sys.stderr)
    else:
        yield _at_looks


def _moving(taken: PairProgress) -> None:
    print(f"\r\x1b[2K{one_line(_line(taken))}", end="", file=sys.stderr, flush=True)


def _at_looks(taken: PairProgress) -> None:
    if taken.number in LOOKS or taken.judged.final:
        print(one_line(_line(taken)), file=sys.stderr, flush=True)


def _line(taken: PairProgress) -> str:
    judged = taken.judged
    again = " (confirming)" if taken.confirming else ""
    sigma = "" if judged.sigma is None else f", σ {100 * judged.sigma:.2f} %"
    return (
        f"[{taken.done + 1}/{taken.cases}] {taken.case}{again}: pair {taken.number} of at most"
        f" {LOOKS[-1]}, worse by {change(judged.worse)}{sigma}: {judged.verdict}"
    )


def _value(value: float | None, unit: str) -> str:
    return "–" if value is None else escape(quantity.quantity(value, unit))
