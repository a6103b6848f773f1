"""Two sides of a comparison on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from tpubench.reports import definitions, quantity
from tpubench.reports.markdown_facts import letters, of_sides, ratio, short
from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import console, print_json, warn_unreadable
from tpubench.results.compare import Compared, ComparedSide, Comparison
from tpubench.results.statistics import Estimate
from tpubench.results.store import Unreadable

_STYLE = {"better": "green", "worse": "red", "unclear": "dim"}


def show(
    sides: Sequence[ComparedSide],
    unreadable: Sequence[Unreadable],
    *,
    as_json: bool,
    as_markdown: bool = False,
    explain: bool = False,
) -> None:
    """Ratios as a table, Markdown or one JSON document; files left out are named on stderr."""
    warn_unreadable(unreadable)
    compared = [(side.name, side.against_first) for side in sides if side.against_first]
    if as_json:
        one = [_document(each) for _, each in compared]
        several = [
            {"selector": name, **document}
            for (name, _), document in zip(compared, one, strict=True)
        ]
        print_json(one[0] if len(one) == 1 else {"against": sides[0].name, "sides": several})
        return
    if as_markdown:
        print(of_sides(sides))
        return
    out = console()
    if len(compared) == 1:
        _two(out, compared[0][1])
    else:
        _several(out, sides)
    better = (
        "better or worse: the 95 % interval of the ratio (Welch, on logarithms, between"
        " repetitions) excludes 1"
    )
    rows = (comparison.a.first for _, each in compared for comparison in each.comparisons)
    definitions.show(out, rows, explain=explain, also=[better])


def _two(out: Console, compared: Compared) -> None:
    table = FoldingTable(title="B ÷ A")
    for heading in ("case", "metric", "A", "B", "B ÷ A", "B is"):
        table.add_column(
            heading,
            justify="right" if "A" in heading else "left",
            no_wrap=heading == "metric",
        )
    last = None
    for comparison in compared.comparisons:
        row = comparison.a.first
        case = _case(comparison)
        shown, last = "" if case == last else case, case
        table.add_row(
            shown,
            row.metric,
            escape(quantity.estimate(comparison.a.estimate, row.unit)),
            escape(quantity.estimate(comparison.b.estimate, row.unit)),
            escape(ratio(comparison.ratio)),
            f"[{_STYLE[comparison.verdict]}]{comparison.verdict}[/]",
        )
    out.print(table)
    _differences(out, compared, "B")


def _several(out: Console, sides: Sequence[ComparedSide]) -> None:
    """A column for each side, its ratio to A and the verdict; intervals are in --format md."""
    names = letters(len(sides))
    for letter, side in zip(names, sides, strict=True):
        out.print(f"{letter}: {side.name}", markup=False, soft_wrap=True)
    table = FoldingTable(title="against A")
    table.add_column("case")
    table.add_column("metric", no_wrap=True)
    for letter in names:
        table.add_column("A" if letter == "A" else f"{letter} ÷ A", justify="right")
    columns: list[dict[tuple[str, str], Comparison]] = [
        {(_case(one), one.a.first.metric): one for one in side.against_first.comparisons}
        for side in sides
        if side.against_first is not None
    ]
    last = None
    for key in dict.fromkeys(key for column in columns for key in column):
        cells = [column.get(key) for column in columns]
        first = next(one for one in cells if one is not None)
        shown, last = "" if key[0] == last else key[0], key[0]
        table.add_row(
            shown,
            key[1],
            quantity.quantity(
                None if first.a.estimate is None else first.a.estimate.point, first.a.first.unit
            ),
            *(
                quantity.MISSING if one is None else f"[{_STYLE[one.verdict]}]{short(one)}[/]"
                for one in cells
            ),
        )
    out.print(table)
    for letter, side in zip(names, sides, strict=True):
        if side.against_first is not None:
            _differences(out, side.against_first, letter)


def _case(comparison: Comparison) -> str:
    row = comparison.a.first
    return escape(f"{row.workload} {row.preset} {row.dtype} {comparison.a.label()}")


def _differences(out: Console, compared: Compared, letter: str) -> None:
    for name, (a, b) in compared.differs.items():
        out.print(f"differs: {name}: A {a}, {letter} {b}", markup=False, soft_wrap=True)
    for words in compared.where_not:
        out.print(f"definitions: {words}", markup=False, soft_wrap=True)
    if compared.only_a or compared.only_b:
        out.print(
            f"left out: {compared.only_a} figures only in A, {compared.only_b} only in {letter}"
        )


def _document(compared: Compared) -> dict[str, object]:
    return {
        "comparisons": [_record(comparison) for comparison in compared.comparisons],
        "differs": {name: list(pair) for name, pair in compared.differs.items()},
        "only_a": compared.only_a,
        "only_b": compared.only_b,
        "where_not": list(compared.where_not),
    }


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


def _estimate(estimate: Estimate | None) -> dict[str, float | int | None] | None:
    if estimate is None:
        return None
    return {"point": estimate.point, "low": estimate.low, "high": estimate.high, "n": estimate.n}
