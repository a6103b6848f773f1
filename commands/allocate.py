"""tpubench allocate: split a budget over devices and years."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._options import Json, Prices, Store

app = typer.Typer()


@app.command()
def allocate(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan; see docs/money.md.")],
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Split a budget over chips to buy, commit to and rent, year by year; exit 1 if impossible."""
    from tpubench.costs.allocation import answer
    from tpubench.costs.price_files import all_prices
    from tpubench.devices.prices import today
    from tpubench.reports import terminal_plan
    from tpubench.results.store import default_store

    found = answer.allocate(plan, all_prices(prices or []), store or default_store(), today())
    terminal_plan.show_plan(found, as_json=as_json)
