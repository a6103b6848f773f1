"""What the figures of a table mean: printed where ``--explain`` asks for it, else one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console

from tpubench.results.metrics import METRICS
from tpubench.results.own_metrics import of_row
from tpubench.results.row import Row


def show(out: Console, rows: Iterable[Row], *, explain: bool, also: Sequence[str] = ()) -> None:
    """The formula of each metric of these rows, in the order of the metrics, after ``also``.

    also: what else there is to say of the table, a sentence each.
    """
    formulas = {row.metric: of_row(row).formula for row in rows}
    if not explain:
        if formulas or also:
            out.print("--explain says how each figure is defined", style="dim")
        return
    order = {name: index for index, name in enumerate(METRICS)}
    names = sorted(formulas, key=lambda name: order.get(name, len(order)))
    for line in (*also, *(f"{name}: {formulas[name]}" for name in names)):
        out.print(line, style="dim", markup=False, soft_wrap=True)
