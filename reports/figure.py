"""What a chart shows, apart from who draws it: Plotly on the page, matplotlib in the PNG.

One value feeds both, so the picture in a slide deck can never disagree with the page. All text in
it is plain: each drawer makes it harmless in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_CASES = 40
"""Cases drawn in one chart; more stay in the tables, and the chart's caption says so."""

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#7A5195", "#56B4E9", "#B8860B", "#444444")
"""Colours that stay apart for colour-blind readers and on a grey print (after Okabe and Ito)."""

GREY = len(PALETTE) - 1
"""Index of the palette's grey, for what belongs to no series."""

SYMBOLS = {
    "measured": ("circle", "o"),
    "published": ("square", "s"),
    "compiled": ("diamond-open", "D"),
    "modelled": ("triangle-up-open", "^"),
}
"""Evidence to marker (Plotly's, matplotlib's). What no device ran is drawn hollow."""

_FEW_DECADES = 2.6

BEYOND = 2.5
"""How many times the farthest point an axis follows an interval."""

Draw = Literal["points", "points+line", "line", "roof"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One row of a :class:`Dots` panel. ``low`` and ``high`` are the 95 % interval."""

    label: str
    text: str
    hover: str
    series: str
    evidence: str
    point: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """One value a case, one case a row, on an axis that starts at zero."""

    title: str
    unit: str
    rows: tuple[Dot, ...]
    series: tuple[str, ...] = ()
    """Names that take the first colours, so that they keep them from panel to panel."""

    @property
    def colours(self) -> dict[str, int]:
        """Palette index of each series."""
        return colour_numbers([*self.series, *(row.series for row in self.rows)])

    @property
    def end(self) -> float:
        """Where the axis ends. An interval far beyond every point is cut, not followed."""
        most = max(row.point for row in self.rows)
        return 1.06 * min(max(row.high or row.point for row in self.rows), BEYOND * most)

    @property
    def start(self) -> float:
        """Just before zero, so that a mark at zero is whole."""
        return -0.012 * self.end

    @property
    def cut(self) -> bool:
        """Whether some interval leaves the panel."""
        return any(row.high is not None and row.high > self.end for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A labelled axis from ``low`` to ``high``; see :func:`axis`."""

    title: str
    low: float
    high: float
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place in a :class:`Plane`, with 95 % intervals where there are any.

    ``hover`` is what the pointer brings up; it may have several lines.
    """

    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    label: str = ""
    hover: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points that belong together. ``evidence`` is None for a line that is no result."""

    name: str
    points: tuple[Point, ...]
    evidence: str | None
    draw: Draw = "points"
    colour: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Points and lines over two number axes."""

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]

    @property
    def cut(self) -> bool:
        """Whether some interval leaves the panel."""
        points = [point for one in self.series for point in one.points]
        return any(
            interval is not None and (interval[0] < axis.low or interval[1] > axis.high)
            for point in points
            for axis, interval in ((self.x, point.x_interval), (self.y, point.y_interval))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One figure: panels from top to bottom. ``name`` is also the PNG's file name.

    ``alt`` says in words what is drawn, for a reader who cannot see it.
    """

    name: str
    alt: str
    panels: tuple[Dots | Plane, ...]
    caption: str = ""


def axis(
    title: str,
    values: Iterable[float],
    intervals: Iterable[tuple[float, float] | None] = (),
    *,
    log: bool = False,
) -> Axis:
    """An axis that shows every value, and intervals as far as they do not dwarf the values.

    ``log`` needs positive values. A linear axis starts at zero.
    """
    found = list(values)
    ends = [interval for interval in intervals if interval is not None]
    lowest, highest = min(found, default=0.0), max(found, default=1.0)
    high = min(max([highest, *(end[1] for end in ends)]), BEYOND * highest)
    if not log:
        return Axis(title=title, low=0.0, high=high * 1.1, log=False)
    low = max(min([lowest, *(end[0] for end in ends)]), lowest / BEYOND)
    return Axis(title=title, low=low / 1.6, high=high * 1.6, log=True)


def log_ticks(axis: Axis) -> list[tuple[float, str]]:
    """Places and texts of a logarithmic axis: 1, 2, 5 of each decade, decades alone if many."""
    decades = math.log10(axis.high / axis.low)
    ticks = []
    for exponent in range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1):
        for lead in (1, 2, 5):
            place = lead * 10.0**exponent
            if axis.low <= place <= axis.high and (lead == 1 or decades < _FEW_DECADES):
                ticks.append((place, tick_text(place)))
    return ticks


def tick_text(value: float) -> str:
    """A number on an axis: SI prefixes from ten thousand on, plain below."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{prefix}"
    return f"{value / 1e3:.3g}k" if abs(value) >= 1e4 else f"{value:.4g}"


def colour_numbers(names: Iterable[str]) -> dict[str, int]:
    """A palette index for each distinct name, in order of first appearance."""
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def colour(index: int) -> str:
    """The palette colour of that index; the palette starts again when it is used up."""
    return PALETTE[index % len(PALETTE)]


def spans_decades(values: Iterable[float]) -> bool:
    """Whether a linear axis would squash the small values: all positive, and eightfold apart."""
    found = list(values)
    return bool(found) and min(found) > 0 and max(found) / min(found) > 8
