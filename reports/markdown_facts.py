"""Stored rows and comparisons as GitHub-flavoured Markdown, for a pull request or a mail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tpubench.devices.vendors import label
from tpubench.reports import quantity
from tpubench.reports.markdown import escape, table
from tpubench.results.calibration import results_of
from tpubench.results.compare import Compared, ComparedSide, Comparison
from tpubench.results.row import Row
from tpubench.results.statistics import Estimate
from tpubench.results.summary import Summary, summarise


def of_rows(rows: Iterable[Row]) -> str:
    """A table of every figure of the rows; what measured the machine itself is left out."""
    summaries = summarise(results_of(rows))
    return table(
        ("Work", "Device", "Case", "Figure", "Value", "Repetitions", "Evidence", "Run"),
        [
            (
                f"{s.first.workload} {s.first.preset} {s.first.dtype}",
                label(s.first.device),
                s.label(),
                s.first.metric,
                quantity.estimate(s.estimate, s.first.unit),
                str(len(s.rows)),
                s.first.evidence,
                s.first.run_id,
            )
            for s in summaries
        ],
    )


def of_sides(sides: Sequence[ComparedSide]) -> str:
    """Every other side against the first: values, ratio with interval, and what else differs."""
    names = [side.name for side in sides]
    parts = [f"A is {escape(names[0])}."]
    for letter, side in zip(letters(len(sides)), sides, strict=True):
        if side.against_first is None:
            continue
        parts.append(f"## {letter} ÷ A: {escape(side.name)} ÷ {escape(names[0])}")
        parts.append(_compared(side.against_first, letter))
        parts += [
            f"- differs: {escape(f'{name}: A {a}, {letter} {b}')}"
            for name, (a, b) in side.against_first.differs.items()
        ]
        left = (side.against_first.only_a, side.against_first.only_b)
        if any(left):
            parts.append(f"Left out: {left[0]} figures only in A, {left[1]} only in {letter}.")
    return "\n\n".join(parts)


def letters(count: int) -> list[str]:
    """Names of sides: A, B … Z, then numbered."""
    return [chr(ord("A") + i) if i < 26 else f"S{i + 1}" for i in range(count)]


def _compared(compared: Compared, letter: str) -> str:
    return table(
        ("Case", "Figure", "A", letter, f"{letter} ÷ A", f"{letter} is"),
        [
            (
                _case(one.a),
                one.a.first.metric,
                quantity.estimate(one.a.estimate, one.a.first.unit),
                quantity.estimate(one.b.estimate, one.b.first.unit),
                ratio(one.ratio),
                one.verdict,
            )
            for one in compared.comparisons
        ],
    )


def _case(summary: Summary) -> str:
    row = summary.first
    return f"{row.workload} {row.preset} {row.dtype} {summary.label()}"


def ratio(estimate: Estimate) -> str:
    """A ratio with its interval, where there is one."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.point:.3f}×"
    return f"{estimate.point:.3f}× [{estimate.low:.3f}, {estimate.high:.3f}]"


def short(one: Comparison) -> str:
    """A ratio and its verdict in a few characters."""
    return f"{one.ratio.point:.3f}× {one.verdict}"
