"""Charts as Plotly figures: plain JSON values, drawn in the reader's browser.

Plotly takes a subset of HTML in any text, links included, so every text is escaped here; and a
hover template would substitute ``%{…}``, so hover text is given ready-made instead.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

from tpubench.reports.figure import (
    SYMBOLS,
    Axis,
    Chart,
    Dots,
    Plane,
    Point,
    Series,
    colour,
    log_ticks,
)

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, MUTED, GRID = "#1f2933", "#52606d", "#e4e7eb"

_ROW_PX = 46
_PLANE_PX = 380
_TITLE_PX = 34
_AXIS_PX = 56
_LEGEND_ROW_PX = 22

_LABELS_ON_A_PHONE = 5

Json = dict[str, Any]


def plotly_text(text: str) -> str:
    """``text`` that Plotly shows as it stands: no tag, link or entity in it has an effect."""
    return html.escape(text, quote=False)


def _lines(text: str) -> str:
    """Text of several lines; a line break is the one tag that gets through."""
    return "<br>".join(plotly_text(line) for line in text.split("\n"))


def figure(chart: Chart) -> Json:
    """The chart as ``{"data": […], "layout": {…}}``, every number finite."""
    heights = [_panel_px(panel) for panel in chart.panels]
    legend = len({(t, e) for panel in chart.panels for t, e in _legend_entries(panel)})
    top = 12 + (_LEGEND_ROW_PX * legend)
    total = top + sum(heights)
    labels = sum(
        bool(point.label)
        for panel in chart.panels
        if isinstance(panel, Plane)
        for series in panel.series
        for point in series.points
    )
    layout: Json = {
        "height": total,
        "margin": {"l": 14, "r": 16, "t": top, "b": 0, "autoexpand": False},
        "font": {"family": FONT, "size": 13, "color": INK},
        "paper_bgcolor": "#ffffff",
        "plot_bgcolor": "#ffffff",
        "hovermode": "closest",
        "hoverlabel": {
            "align": "left",
            "bgcolor": "#ffffff",
            "font": {"family": FONT, "color": INK, "size": 12.5},
        },
        "showlegend": legend > 0,
        "legend": {
            "orientation": "v",
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "itemsizing": "constant",
            "font": {"size": 12},
            "tracegroupgap": 0,
        },
        "annotations": [],
        "meta": {"crowded": labels > _LABELS_ON_A_PHONE},
    }
    data: list[Json] = []
    planes = any(isinstance(panel, Plane) for panel in chart.panels)
    if planes:
        layout["margin"]["l"] = 52
    paper = sum(heights)
    above = 0
    seen: set[str] = set()
    for number, (panel, height) in enumerate(zip(chart.panels, heights, strict=True), 1):
        suffix = "" if number == 1 else str(number)
        domain = [1 - (above + height - _AXIS_PX) / paper, 1 - (above + _title_px(panel)) / paper]
        left = 8 - layout["margin"]["l"]
        layout["annotations"].append(_title(panel, 1 - above / paper, left))
        if isinstance(panel, Dots):
            _add_dots(panel, suffix, domain, data, layout, seen)
        else:
            _add_plane(panel, suffix, domain, data, layout, seen)
        above += height
    return {"data": data, "layout": layout}


def _panel_px(panel: Dots | Plane) -> int:
    inner = _ROW_PX * len(panel.rows) if isinstance(panel, Dots) else _PLANE_PX
    return inner + _title_px(panel) + _AXIS_PX


def _title_px(panel: Dots | Plane) -> int:
    return _TITLE_PX if isinstance(panel, Dots) else _TITLE_PX + 20


def _legend_entries(panel: Dots | Plane) -> list[tuple[str, str | None]]:
    if isinstance(panel, Dots):
        return [(row.series, row.evidence) for row in panel.rows]
    return [(series.name, series.evidence) for series in panel.series]


def _title(panel: Dots | Plane, y: float, shift: int) -> Json:
    """The panel's title; a plane's upright axis is named under it, so that nothing is rotated."""
    text = f"<b>{plotly_text(panel.title)}</b>"
    if isinstance(panel, Plane):
        text += f"<br>{plotly_text(panel.y.title)}"
    return {
        "text": text,
        "showarrow": False,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "xshift": shift,
        "y": y,
        "xanchor": "left",
        "yanchor": "top",
        "align": "left",
        "font": {"size": 13},
    }


def _add_dots(
    panel: Dots,
    suffix: str,
    domain: Sequence[float],
    data: list[Json],
    layout: Json,
    seen: set[str],
) -> None:
    count = len(panel.rows)
    layout[f"xaxis{suffix}"] = {
        "title": _axis_title(panel.unit),
        "range": [panel.start, panel.end],
        "anchor": f"y{suffix}",
        "gridcolor": GRID,
        "zeroline": True,
        "zerolinecolor": MUTED,
        "nticks": 6,
    }
    layout[f"yaxis{suffix}"] = {
        "domain": list(domain),
        "range": [count - 0.35, -0.75],
        "anchor": f"x{suffix}",
        "showticklabels": False,
        "gridcolor": GRID,
        "tickmode": "array",
        "tickvals": list(range(count)),
        "zeroline": False,
        "fixedrange": True,
    }
    colours = panel.colours
    for name, evidence in dict.fromkeys((row.series, row.evidence) for row in panel.rows):
        chosen = [
            (y, row)
            for y, row in enumerate(panel.rows)
            if (row.series, row.evidence) == (name, evidence)
        ]
        points = [
            Point(
                x=row.point,
                y=float(y),
                x_interval=None if row.low is None or row.high is None else (row.low, row.high),
                hover=row.hover,
            )
            for y, row in chosen
        ]
        series = Series(name=name, points=tuple(points), evidence=evidence, colour=colours[name])
        data.append(_trace(series, suffix, seen))
    for y, row in enumerate(panel.rows):
        layout["annotations"].append(
            {
                "text": f"<b>{plotly_text(row.text)}</b>  {plotly_text(row.label)}",
                "showarrow": False,
                "xref": f"x{suffix}",
                "yref": f"y{suffix}",
                "x": 0,
                "y": y,
                "xshift": 3,
                "yshift": 15,
                "xanchor": "left",
                "yanchor": "middle",
                "align": "left",
                "font": {"size": 12.5},
            }
        )


def _add_plane(
    panel: Plane,
    suffix: str,
    domain: Sequence[float],
    data: list[Json],
    layout: Json,
    seen: set[str],
) -> None:
    layout[f"xaxis{suffix}"] = {**_axis(panel.x), "anchor": f"y{suffix}"}
    layout[f"xaxis{suffix}"]["title"] = _axis_title(panel.x.title)
    layout[f"yaxis{suffix}"] = {**_axis(panel.y), "anchor": f"x{suffix}", "domain": list(domain)}
    data += [_trace(series, suffix, seen) for series in panel.series if series.points]


def _axis_title(text: str) -> Json:
    return {"text": plotly_text(text), "standoff": 6, "font": {"size": 12.5, "color": MUTED}}


def _axis(axis: Axis) -> Json:
    ends = [axis.low, axis.high]
    return {
        "type": "log" if axis.log else "linear",
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": MUTED,
        "showline": True,
        "exponentformat": "SI",
        "range": [math.log10(end) for end in ends] if axis.log else ends,
        **_log_ticks(axis),
    }


def _log_ticks(axis: Axis) -> Json:
    if not axis.log:
        return {}
    places, texts = zip(*log_ticks(axis), strict=True) if log_ticks(axis) else ((), ())
    return {"tickmode": "array", "tickvals": list(places), "ticktext": list(texts)}


def _trace(series: Series, suffix: str, seen: set[str]) -> Json:
    shade = colour(series.colour)
    label = series.name if series.evidence is None else f"{series.name} ({series.evidence})"
    line = series.draw in {"line", "roof", "points+line"}
    dots = series.draw in {"points", "points+line"}
    labelled = any(point.label for point in series.points)
    trace: Json = {
        "type": "scatter",
        "name": plotly_text(label),
        "legendgroup": plotly_text(label),
        "showlegend": label not in seen,
        "x": [point.x for point in series.points],
        "y": [point.y for point in series.points],
        "xaxis": f"x{suffix}",
        "yaxis": f"y{suffix}",
        "mode": "+".join(
            word for word, used in (("lines", line), ("markers", dots), ("text", labelled)) if used
        ),
        "hoverinfo": "text",
        "hovertext": [_lines(point.hover) for point in series.points],
    }
    seen.add(label)
    if line:
        roof = series.draw == "roof"
        trace["line"] = {"color": shade, "width": 2 if roof or not dots else 1}
        trace["line"]["dash"] = "dash" if roof else "solid"
    if dots:
        symbol = SYMBOLS[series.evidence or "measured"][0]
        trace["marker"] = {"color": shade, "size": 10, "symbol": symbol, "line": {"width": 2}}
        trace["marker"]["line"]["color"] = shade
        for axis in ("x", "y"):
            bars = _bars(series.points, axis, shade)
            if bars:
                trace[f"error_{axis}"] = bars
    if labelled:
        trace["text"] = [plotly_text(point.label) for point in series.points]
        trace["textposition"] = ["top center", "bottom center"][series.colour % 2]
        trace["textfont"] = {"size": 12, "color": shade}
    return trace


def _bars(points: Sequence[Point], axis: str, shade: str) -> Json | None:
    intervals = [getattr(point, f"{axis}_interval") for point in points]
    if not any(intervals):
        return None
    centres = [getattr(point, axis) for point in points]
    pairs = list(zip(intervals, centres, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if ends is None else max(0.0, ends[1] - at) for ends, at in pairs],
        "arrayminus": [0.0 if ends is None else max(0.0, at - ends[0]) for ends, at in pairs],
        "color": shade,
        "thickness": 1.5,
        "width": 5,
    }
