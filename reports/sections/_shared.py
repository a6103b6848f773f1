"""What several sections say in the same way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tpubench.devices.vendors import colour_name, label, side
from tpubench.reports import quantity
from tpubench.reports.blocks import Badge
from tpubench.reports.figure import MAX_CASES, Dot, Dots, Plane
from tpubench.reports.findings import Names, short
from tpubench.results.metrics import METRICS
from tpubench.results.published import SINGLE_SOURCE
from tpubench.results.row import Row
from tpubench.results.statistics import Estimate
from tpubench.results.summary import Summary

TITLES = {
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "itl_s": "Gap between tokens",
    "output_tok_s": "Both together: output tokens a second",
    "prefill_tok_s": "Prefill: prompt tokens read a second",
    "decode_tok_s": "Decode: answer tokens written a second",
    "train_tok_s": "Training: tokens learnt from a second",
    "flop_s": "Arithmetic",
    "bandwidth_bytes_s": "Memory",
    "transfer_bytes_s": "Between host and device",
    "bus_bytes_s": "Among chips",
}
"""Metric names in plain words."""

TABLE_ROWS = 200
"""Rows of a section's own table; every figure is in the one table of all of them."""

MADE_UP = ": made-up times, no measurement"


def badge(row: Row) -> Badge:
    """The evidence of a row's number. What a scripted clock made, or one source says, is said."""
    if row.backend == "fake":
        return Badge(text=f"{row.evidence}, fake", tone="modelled")
    if SINGLE_SOURCE in (row.reason or ""):
        return Badge(text=f"{row.evidence}, one source", tone=row.evidence)
    return Badge(text=row.evidence, tone=row.evidence)


def series_name(row: Row) -> str:
    """Which line of the legend a row belongs to."""
    fake = " fake clock" if row.backend == "fake" and row.device != "fake" else ""
    return short(f"{label(row.device)}{fake} · {row.preset}", 44)


def interval(estimate: Estimate, unit: str) -> str:
    """The 95 % interval between repetitions, or of a model; or why there is none."""
    if estimate.low is None or estimate.high is None:
        return "a single value: no interval"
    factor, name = quantity.scale_of(estimate.point, unit)
    low, high = quantity.number(estimate.low / factor), quantity.number(estimate.high / factor)
    source = "of the model" if estimate.n == 1 else f"{estimate.n} repetitions"
    if quantity.useless(estimate):
        return f"unusable: the 95 % interval exceeds a factor of {quantity.USELESS}, {source}"
    if unit.startswith("USD"):
        return f"95 % interval ${low} to ${high}, {source}"
    return f"95 % interval {low} to {high} {name}, {source}"


def value(point: float, unit: str) -> str:
    """A value with its unit; money with its sign in front, for places that say per what."""
    return (
        f"${quantity.number(point)}" if unit.startswith("USD") else quantity.quantity(point, unit)
    )


def cut(panels: Sequence[Dots | Plane]) -> str:
    """A caption's remark when an interval leaves a panel."""
    if any(panel.cut for panel in panels):
        return " A bar that runs off the edge is longer than drawn; the tables have its ends."
    return ""


def dots(metric: str, summaries: Sequence[Summary], names: Names) -> list[Dots]:
    """One metric by case, a panel for each workload; made-up times have panels of their own."""
    valued = [s for s in summaries if s.estimate is not None]
    groups = by(valued, lambda s: (s.first.backend == "fake", s.first.workload))
    return [_panel(metric, group, names, alone=len(groups) == 1) for group in groups]


def _panel(metric: str, group: Sequence[Summary], names: Names, *, alone: bool) -> Dots:
    chosen = spread(group)
    unit = METRICS[metric].unit
    factor, unit_text = quantity.scale_of(max(_point(s) for s in chosen), unit)
    row = group[0].first
    of = "" if alone else f", {short(row.workload, 40)}"
    return Dots(
        title=f"{TITLES.get(metric, metric)}{of}{MADE_UP if row.backend == 'fake' else ''}",
        unit=f"{metric}, {unit_text}",
        rows=tuple(_dot(s, unit, factor, names) for s in chosen),
    )


def spread(summaries: Sequence[Summary], most: int = MAX_CASES) -> list[Summary]:
    """At most so many, every device among them: one of each in turn, in their own order."""
    if len(summaries) <= most:
        return list(summaries)
    groups = by(summaries, lambda s: s.first.device)
    turns = [s for turn in itertools.zip_longest(*groups) for s in turn if s is not None]
    kept = {id(s) for s in turns[:most]}
    return [s for s in summaries if id(s) in kept]


def further(count: int, shown: int) -> str:
    """A table's remark about rows that are not in it."""
    more = count - shown
    return "" if more <= 0 else f" {more:,} more are in the table of all figures."


def left_out(count: int, most: int = MAX_CASES) -> str:
    """A caption's remark about cases beyond those drawn."""
    if count <= most:
        return ""
    return (
        f" {most} of {count:,} cases are drawn, every device among them; all are in the table of"
        " every figure."
    )


def distinct(items: Sequence[str], most: int = 8) -> tuple[str, ...]:
    """The different items in order; beyond ``most`` only how many more there are."""
    different = list(dict.fromkeys(items))
    if len(different) <= most:
        return tuple(different)
    return (*different[:most], f"… and {len(different) - most} more")


def by(summaries: Sequence[Summary], key: Callable[[Summary], object]) -> list[list[Summary]]:
    """The summaries in groups of equal key, in order."""
    groups: dict[object, list[Summary]] = {}
    for summary in summaries:
        groups.setdefault(key(summary), []).append(summary)
    return list(groups.values())


def _point(summary: Summary) -> float:
    return 0.0 if summary.estimate is None else summary.estimate.point


def _dot(summary: Summary, unit: str, factor: float, names: Names) -> Dot:
    estimate, row = summary.estimate, summary.first
    assert estimate is not None
    name = names.label(summary, most=60)
    return Dot(
        label=name,
        text=quantity.quantity(estimate.point, unit),
        hover=(
            f"{name}\n{quantity.quantity(estimate.point, unit)}\n{interval(estimate, unit)}"
            f"\n{badge(row).text}"
        ),
        colour=colour_name(row.device),
        side=side(row.device, backend=row.backend),
        evidence=row.evidence,
        point=estimate.point / factor,
        low=None if estimate.low is None else estimate.low / factor,
        high=None if estimate.high is None else estimate.high / factor,
    )
