"""Two sides of a comparison on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from tpubench.reports import definitions, quantity
from tpubench.reports.tables import Table
from tpubench.reports.terminal import console, print_json, warn_unreadable
from tpubench.results.compare import Compared, Comparison
from tpubench.results.statistics import Estimate
from tpubench.results.store import Unreadable

_STYLE = {"better": "green", "worse": "red", "unclear": "dim"}


def show(
    found: Compared, unreadable: Sequence[Unreadable], *, as_json: bool, explain: bool = False
) -> None:
    """Ratios as a table or one JSON document; files left out are named on stderr."""
    warn_unreadable(unreadable)
    if as_json:
        print_json(
            {
                "comparisons": [_record(comparison) for comparison in found.comparisons],
                "differs": {name: list(pair) for name, pair in found.differs.items()},
                "only_a": found.only_a,
                "only_b": found.only_b,
            }
        )
        return
    out = console()
    table = Table(title="B ÷ A")
    for heading in ("case", "metric", "A", "B", "B ÷ A", "B is"):
        table.add_column(
            heading,
            justify="right" if "A" in heading else "left",
            no_wrap=heading == "metric",
        )
    last = None
    for comparison in found.comparisons:
        row = comparison.a.first
        case = escape(f"{row.workload} {row.preset} {row.dtype} {comparison.a.label()}")
        shown, last = "" if case == last else case, case
        table.add_row(
            shown,
            row.metric,
            escape(quantity.estimate(comparison.a.estimate, row.unit)),
            escape(quantity.estimate(comparison.b.estimate, row.unit)),
            escape(_ratio(comparison.ratio)),
            f"[{_STYLE[comparison.verdict]}]{comparison.verdict}[/]",
        )
    out.print(table)
    for name, (a, b) in found.differs.items():
        out.print(f"differs: {name}: A {a}, B {b}", markup=False, soft_wrap=True)
    if found.only_a or found.only_b:
        out.print(f"left out: {found.only_a} figures only in A, {found.only_b} only in B")
    better = (
        "better or worse: the 95 % interval of the ratio (Welch, on logarithms, between"
        " repetitions) excludes 1"
    )
    rows = (comparison.a.first for comparison in found.comparisons)
    definitions.show(out, rows, explain=explain, also=[better])


def _ratio(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.point:.3f}×"
    return f"{found.point:.3f}× [{found.low:.3f}, {found.high:.3f}]"


def _record(comparison: Comparison) -> dict[str, object]:
    row = comparison.a.first
    return {
        "workload": row.workload,
        "preset": row.preset,
        "params": dict(comparison.a.params),
        "metric": row.metric,
        "unit": row.unit,
        "better": row.better,
        "a": _estimate(comparison.a.estimate),
        "b": _estimate(comparison.b.estimate),
        "ratio": _estimate(comparison.ratio),
        "verdict": comparison.verdict,
        "evidence": [row.evidence, comparison.b.first.evidence],
    }


def _estimate(found: Estimate | None) -> dict[str, float | int | None] | None:
    if found is None:
        return None
    return {"point": found.point, "low": found.low, "high": found.high, "n": found.n}
