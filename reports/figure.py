"""What a chart shows, apart from who draws it: the page's template, or matplotlib in the PNG.

One value feeds both, so the picture in a slide deck can never disagree with the page. All text in
it is plain: each drawer makes it harmless in its own way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

MAX_CASES = 200
"""Cases drawn in one panel; more stay in the tables, and the chart's caption says so."""

OPEN_CASES = 20
"""Rows of a panel seen at once, so that a chart fits a screen; further ones are folded."""

SHADES = {
    "blue": ("#0072b2", "#58b0ec"),
    "orange": ("#c04f00", "#f5944a"),
    "green": ("#00795a", "#3ecb9f"),
    "grey": ("#52606d", "#a7b3bf"),
}
"""Each maker's colour (:data:`tpubench.devices.vendors.COLOURS`) on light and on dark paper, after
Okabe and Ito; apart for colour-blind readers, and at least 4.5 : 1 against their paper."""

SYMBOLS = {"measured": "o", "published": "s", "compiled": "D", "modelled": "^"}
"""Evidence to mark. What this suite did not measure is drawn hollow."""

DASHES = ("", "6 3", "2 3", "9 3 2 3", "12 4", "1 4")
"""Lines of one colour are told apart by these, in turn."""

_FEW_DECADES = 2.6

BEYOND = 2.5
"""How many times the farthest point an axis follows an interval."""

Draw = Literal["points", "points+line", "line", "roof"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A labelled axis from ``low`` to ``high``; see :func:`axis`."""

    title: str
    low: float
    high: float
    log: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """One row of a :class:`Dots` panel. ``low`` and ``high`` are the 95 % interval."""

    label: str
    text: str
    hover: str
    colour: str
    side: str
    """Whose device it is, for a legend."""
    evidence: str
    point: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """One value a case, one case a row: from zero, or logarithmic where values lie far apart."""

    title: str
    unit: str
    rows: tuple[Dot, ...]

    @property
    def axis(self) -> Axis:
        """The shared axis. An interval far beyond every point is cut, not followed."""
        points = [row.point for row in self.rows]
        ends = [
            (row.low, row.high)
            for row in self.rows
            if row.low is not None and row.high is not None and row.low > 0
        ]
        return axis(self.unit, points, ends, log=spans_decades(points))

    @property
    def cut(self) -> bool:
        """Whether some interval leaves the panel."""
        end = self.axis.high
        return any(row.high is not None and row.high > end for row in self.rows)


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
    colour: str = "grey"
    variant: int = 0
    """Which of several of one colour: its dash."""


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
    numbers = list(values)
    ends = [interval for interval in intervals if interval is not None]
    lowest, highest = min(numbers, default=0.0), max(numbers, default=1.0)
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


def variants(colours: Iterable[tuple[str, str]]) -> dict[str, int]:
    """For each distinct name its number among those of the same colour, in order."""
    counts: dict[str, int] = {}
    places: dict[str, int] = {}
    for name, colour in colours:
        if name not in places:
            places[name] = counts.get(colour, 0)
            counts[colour] = places[name] + 1
    return places


def hollow(evidence: str | None) -> bool:
    """Whether a mark is drawn hollow: this suite did not measure it."""
    return evidence not in {None, "measured"}


def spans_decades(values: Iterable[float]) -> bool:
    """Whether a linear axis would squash the small values: all positive, and eightfold apart."""
    numbers = list(values)
    return bool(numbers) and min(numbers) > 0 and max(numbers) / min(numbers) > 8
