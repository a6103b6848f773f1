"""Charts as the page's template draws them: places in percent, so that no script is needed.

The strips and planes are plain SVG and HTML: they fit any width, take the page's colours in the
light, in the dark and in print, and every figure in them is text that can be read aloud.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpubench.reports.figure import (
    DASHES,
    OPEN_CASES,
    SYMBOLS,
    Chart,
    Dot,
    Dots,
    Plane,
    Point,
    Series,
    hollow,
)
from tpubench.reports.tracks import Scale, scale

SHAPES = {"o": "round", "s": "square", "D": "diamond", "^": "triangle"}
"""matplotlib's marks as the template names them."""

_CROWDED = 16
"""Labels in a plane above which they would only cover each other; the marks still say theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One row of a dots panel."""

    label: str
    text: str
    hover: str
    colour: str
    hollow: bool
    shape: str
    dot: float
    bar: tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DotsView:
    """A panel of rows: the first of them open, the rest folded."""

    kind: str
    title: str
    unit: str
    scale: Scale
    rows: tuple[RowView, ...]
    folded: tuple[RowView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkView:
    """One mark of a plane; ``bars`` are lines from and to."""

    x: float
    y: float
    label: str
    hover: str
    colour: str
    hollow: bool
    shape: str
    bars: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """A line of a plane: points for a 100 × 100 box, and how it is drawn."""

    name: str
    points: str
    colour: str
    dash: str
    roof: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendView:
    """One entry of a plane's legend."""

    name: str
    colour: str
    dash: str | None
    shape: str | None
    hollow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneView:
    """A panel of marks and lines over two axes."""

    kind: str
    title: str
    x: Scale
    y: Scale
    lines: tuple[LineView, ...]
    marks: tuple[MarkView, ...]
    legend: tuple[LegendView, ...]


def panels(chart: Chart) -> list[DotsView | PlaneView]:
    """Every panel of the chart, ready to be drawn."""
    return [_dots(panel) if isinstance(panel, Dots) else _plane(panel) for panel in chart.panels]


def _dots(panel: Dots) -> DotsView:
    axis = scale(panel.axis)
    rows = [_row(row, axis) for row in panel.rows]
    return DotsView(
        kind="dots",
        title=panel.title,
        unit=panel.unit,
        scale=axis,
        rows=tuple(rows[:OPEN_CASES]),
        folded=tuple(rows[OPEN_CASES:]),
    )


def _row(row: Dot, axis: Scale) -> RowView:
    bar = None
    if row.low is not None and row.high is not None:
        bar = (axis.place(row.low), axis.place(row.high))
    return RowView(
        label=row.label,
        text=row.text,
        hover=row.hover,
        colour=row.colour,
        hollow=hollow(row.evidence),
        shape=SHAPES[SYMBOLS[row.evidence]],
        dot=axis.place(row.point),
        bar=bar,
    )


def _plane(panel: Plane) -> PlaneView:
    x, y = scale(panel.x), scale(panel.y)
    labels = sum(bool(point.label) for one in panel.series for point in one.points)
    lines: list[LineView] = []
    marks: list[MarkView] = []
    legend: list[LegendView] = []
    for one in panel.series:
        line = one.draw in {"line", "roof", "points+line"}
        dots = one.draw in {"points", "points+line"}
        dash = "7 4" if one.draw == "roof" else DASHES[one.variant % len(DASHES)]
        if line:
            lines.append(_line(one, x, y, dash))
        if dots or line:
            legend.append(_entry(one, dash if line else None, dots=dots))
        if dots:
            marks += [_mark(one, point, x, y, labels <= _CROWDED) for point in one.points]
    return PlaneView(
        kind="plane",
        title=panel.title,
        x=x,
        y=y,
        lines=tuple(lines),
        marks=tuple(marks),
        legend=tuple(dict.fromkeys(legend)),
    )


def _line(one: Series, x: Scale, y: Scale, dash: str) -> LineView:
    places = " ".join(f"{x.place(p.x)},{100 - y.place(p.y):.3f}" for p in one.points)
    roof = one.draw == "roof"
    return LineView(name=one.name, points=places, colour=one.colour, dash=dash, roof=roof)


def _entry(one: Series, dash: str | None, *, dots: bool) -> LegendView:
    evidence = one.evidence
    return LegendView(
        name=one.name if evidence is None else f"{one.name} ({evidence})",
        colour=one.colour,
        dash=dash,
        shape=SHAPES[SYMBOLS[evidence or "measured"]] if dots else None,
        hollow=hollow(evidence),
    )


def _mark(one: Series, point: Point, x: Scale, y: Scale, labelled: bool) -> MarkView:
    at, up = x.place(point.x), round(100 - y.place(point.y), 3)
    bars = []
    if point.x_interval is not None:
        low, high = (x.place(end) for end in point.x_interval)
        bars.append((low, up, high, up))
    if point.y_interval is not None:
        low, high = (round(100 - y.place(end), 3) for end in point.y_interval)
        bars.append((at, low, at, high))
    return MarkView(
        x=at,
        y=up,
        label=point.label if labelled else "",
        hover=point.hover,
        colour=one.colour,
        hollow=hollow(one.evidence),
        shape=SHAPES[SYMBOLS[one.evidence or "measured"]],
        bars=tuple(bars),
    )
