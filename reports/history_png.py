"""A picture of a metric over runs: points with their intervals, change points marked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.reports.quantity import scale_of
from tpubench.results.history import MetricHistory

_WORSE, _BETTER, _LINE = "#b3261e", "#1b7f3b", "#1f4e9c"


def write(histories: Sequence[MetricHistory], path: Path) -> Path:
    """One panel a series, one PNG. UsageError when it cannot be written."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * len(histories) + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(histories), 1, squeeze=False)[:, 0]
    for axes, series in zip(panels, histories, strict=True):
        points = [point.estimate for point in series.points]
        factor, unit = scale_of(max(p.point for p in points), series.unit)
        xs = range(len(points))
        values = [p.point / factor for p in points]
        below = [(p.point - (p.point if p.low is None else p.low)) / factor for p in points]
        above = [((p.point if p.high is None else p.high) - p.point) / factor for p in points]
        axes.errorbar(
            xs, values, yerr=[below, above], fmt="o-", ms=3, lw=1, color=_LINE, ecolor="#9db4d6"
        )
        for change in series.changes:
            colour = _WORSE if change.worse else _BETTER
            axes.axvline(change.index - 0.5, color=colour, lw=1, ls="--")
            label = f" {100 * (change.ratio - 1):+.1f} %"
            axes.annotate(
                label, (change.index - 0.5, 1), xycoords=("data", "axes fraction"),
                va="top", color=colour, fontsize=8,
            )  # fmt: skip
        axes.set_title(
            f"{series.case} · {series.evidence}", fontsize=8, loc="left", parse_math=False
        )
        axes.set_ylabel(f"{series.metric} ({unit})", fontsize=8, parse_math=False)
        step = max(1, len(points) // 12)
        axes.set_xticks(list(xs)[::step])
        names = [(p.commit or p.run_id)[:10] for p in series.points]
        axes.set_xticklabels(names[::step], rotation=30, ha="right", fontsize=7)
        axes.margins(y=0.2)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return path
