"""The same charts as PNG files, by matplotlib: for slides, mail, paper, and pages without scripts.

Drawn without a display. Text is taken literally: mathematics between dollar signs is off, so a
hostile label can neither break the layout nor raise.
"""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tpubench.reports.figure import (
    DASHES,
    SHADES,
    SYMBOLS,
    Axis,
    Chart,
    Dots,
    Plane,
    Point,
    Series,
    hollow,
    log_ticks,
    tick_text,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"

DPI = 200
"""Twice matplotlib's default: sharp on a dense screen and in print."""

_WIDTH_IN = 7.2
_ROW_IN = 0.42
_PLANE_IN = 3.6
_FRAME_IN = 0.95
_LEGEND_IN = 0.2
_LEGEND_CHARACTERS = 100
"""That fit side by side over the width."""
_STYLE: Any = {
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
}


def draw(chart: Chart) -> bytes:
    """The chart as a PNG. The same chart gives the same bytes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fonts = logging.getLogger("matplotlib.font_manager")
    before = fonts.level
    with mpl.rc_context(rc=_STYLE), warnings.catch_warnings():
        # A label in a script that no installed font has is drawn as boxes; that is no news.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        fonts.setLevel(logging.ERROR)
        heights = [_panel_in(panel) for panel in chart.panels]
        entries = legend(chart)
        across = _columns(entries)
        top = 0.15 + _LEGEND_IN * math.ceil(len(entries) / across)
        total = top + sum(heights)
        picture = Figure(figsize=(_WIDTH_IN, total), dpi=DPI)
        FigureCanvasAgg(picture)
        above = top
        for panel, height in zip(chart.panels, heights, strict=True):
            axes = _place(picture, panel, above, height, total)
            if isinstance(panel, Dots):
                _dots(axes, panel)
            else:
                _plane(axes, panel)
            above += height
        if entries:
            _add_legend(picture, entries, across)
        stream = io.BytesIO()
        picture.savefig(stream, format="png", metadata={"Software": None})
        fonts.setLevel(before)
    return _smaller(stream.getvalue())


def _smaller(picture: bytes) -> bytes:
    """The PNG with a palette instead of full colour: a third of the size, the same to the eye."""
    from PIL import Image

    stream = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        image.convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE).save(
            stream, "png", optimize=True, dpi=(DPI, DPI)
        )
    return stream.getvalue()


def _dash(variant: int) -> Any:
    """A line style of matplotlib from :data:`DASHES`."""
    parts = [float(part) for part in DASHES[variant % len(DASHES)].split()]
    return (0, tuple(parts)) if parts else "-"


def _style(series: Series) -> Any:
    if series.draw == "roof":
        return "--"
    return "" if series.draw == "points" else _dash(series.variant)


def _panel_in(panel: Dots | Plane) -> float:
    return _FRAME_IN + (_ROW_IN * len(panel.rows) if isinstance(panel, Dots) else _PLANE_IN)


def _place(picture: Figure, panel: Dots | Plane, above: float, height: float, total: float) -> Axes:
    left = 0.25 if isinstance(panel, Dots) else 0.85
    bottom = total - above - height + 0.58
    return picture.add_axes(
        (
            left / _WIDTH_IN,
            bottom / total,
            (_WIDTH_IN - left - 0.3) / _WIDTH_IN,
            (height - _FRAME_IN) / total,
        )
    )


def _dots(axes: Axes, panel: Dots) -> None:
    marks: dict[tuple[str, str], list[Point]] = {}
    for y, row in enumerate(panel.rows):
        interval = None if row.low is None or row.high is None else (row.low, row.high)
        point = Point(x=row.point, y=y, x_interval=interval)
        marks.setdefault((row.colour, row.evidence), []).append(point)
        axes.text(
            0.004,
            y - 0.36,
            f"{row.text}   {row.label}",
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
        )
    for (shade, evidence), points in marks.items():
        _mark(axes, points, shade, evidence)
    _scale(axes, "x", panel.axis)
    axes.set_ylim(len(panel.rows) - 0.35, -0.75)
    axes.set_yticks(range(len(panel.rows)), labels=[])
    axes.tick_params(axis="y", length=0)
    axes.set_title(panel.title, loc="left", fontsize=9.5, fontweight="bold")


def _plane(axes: Axes, panel: Plane) -> None:
    for series in panel.series:
        if not series.points:
            continue
        shade = SHADES[series.colour][0]
        if series.draw in {"line", "roof", "points+line"}:
            roof = series.draw == "roof"
            axes.plot(
                [point.x for point in series.points],
                [point.y for point in series.points],
                color=shade,
                linewidth=0.8 if series.draw == "points+line" else 1.6,
                linestyle="--" if roof else _dash(series.variant),
            )
        if series.draw in {"points", "points+line"}:
            _mark(axes, series.points, series.colour, series.evidence)
        for point in series.points:
            if point.label:
                above = series.variant % 2 == 0
                axes.annotate(
                    point.label,
                    (point.x, point.y),
                    xytext=(6, 5 if above else -5),
                    textcoords="offset points",
                    ha="left",
                    va="bottom" if above else "top",
                    fontsize=8,
                    color=shade,
                )
    _scale(axes, "x", panel.x)
    _scale(axes, "y", panel.y)
    axes.set_title(panel.title, loc="left", fontsize=9.5, fontweight="bold")


def _scale(axes: Axes, which: str, described: Axis) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

    getattr(axes, f"set_{which}label")(described.title)
    chosen = getattr(axes, f"{which}axis")
    if described.log:
        getattr(axes, f"set_{which}scale")("log")
        ticks = log_ticks(described)
        chosen.set_major_locator(FixedLocator([place for place, _ in ticks]))
        chosen.set_major_formatter(FixedFormatter([text for _, text in ticks]))
        chosen.set_minor_locator(NullLocator())
    else:
        chosen.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    getattr(axes, f"set_{which}lim")(described.low, described.high)


def _mark(axes: Axes, points: Sequence[Point], shade: str, evidence: str | None) -> None:
    colour = SHADES[shade][0]
    axes.errorbar(
        [point.x for point in points],
        [point.y for point in points],
        xerr=_error([(point.x, point.x_interval) for point in points]),
        yerr=_error([(point.y, point.y_interval) for point in points]),
        fmt=SYMBOLS[evidence or "measured"],
        color=colour,
        markersize=6,
        markerfacecolor="white" if hollow(evidence) else colour,
        capsize=2.5,
        elinewidth=1.1,
    )


def _error(
    places: Sequence[tuple[float, tuple[float, float] | None]],
) -> list[list[float]] | None:
    """Lengths of the bars to either side; not a number where there is no interval."""
    if all(ends is None for _, ends in places):
        return None
    below = [math.nan if ends is None else max(0.0, at - ends[0]) for at, ends in places]
    above = [math.nan if ends is None else max(0.0, ends[1] - at) for at, ends in places]
    return [below, above]


def legend(chart: Chart) -> dict[str, Series]:
    """One entry for each name and evidence, as the page's legend has it."""
    by_name: dict[str, Series] = {}
    for panel in chart.panels:
        if isinstance(panel, Plane):
            shown = list(panel.series)
        else:
            shown = [
                Series(name=row.side, points=(), evidence=row.evidence, colour=row.colour)
                for row in panel.rows
            ]
        for series in shown:
            name = f"{series.name} ({series.evidence})" if series.evidence else series.name
            by_name.setdefault(name, series)
    return by_name


def _columns(entries: dict[str, Series]) -> int:
    """Entries of the legend beside each other, as many as fit."""
    longest = max(map(len, entries), default=0)
    return max(1, min(len(entries), int(_LEGEND_CHARACTERS / (longest + 8))))


def _add_legend(picture: Figure, entries: dict[str, Series], across: int) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for series in entries.values():
        dots = series.draw in {"points", "points+line"}
        colour = SHADES[series.colour][0]
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                marker=SYMBOLS[series.evidence or "measured"] if dots else "",
                markerfacecolor="white" if hollow(series.evidence) else colour,
                linestyle=_style(series),
            )
        )
    picture.legend(
        handles,
        list(entries),
        loc="upper left",
        ncols=across,
        frameon=False,
        fontsize=8.5,
        borderaxespad=0.2,
    )
