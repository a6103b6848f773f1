"""tpubench allocate: split a budget over devices and years."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json, Prices
from tpubench.errors import UsageError

app = App()


@app.command()
def allocate(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan; see docs/money.md.")],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH[*]=VALUE",
            help="Change one input: site.pue=1.2, 'price[tpu-v7]*=0.73'. Repeatable.",
        ),
    ] = None,
    answer_only: Annotated[
        bool,
        typer.Option("--answer-only", help="The answer without samples, flips and variants."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on with figures that are hard to believe.")
    ] = False,
    prices: Prices = None,
    store: Annotated[
        Path | None,
        typer.Option(
            "--store",
            help="Folder of stored facts to read, in which the plan is kept for tpubench report."
            " [default: read $TPUBENCH_STORE or ./bench-results, keep nothing]",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Split a budget over chips to buy, commit to and rent, year by year; exit 1 if impossible."""
    from tpubench.costs.allocation import answer
    from tpubench.costs.allocation.plausibility import ImplausibleError
    from tpubench.costs.allocation.stored import keep
    from tpubench.costs.price_files import all_prices
    from tpubench.devices.prices import today
    from tpubench.reports.terminal import plan as terminal_plan
    from tpubench.results.plain_text import warn
    from tpubench.results.store import default_store

    if store is not None and not store.exists():
        raise UsageError(f"there is no store {store}; to keep a plan in it, make the folder first")
    try:
        outcome = answer.allocate(
            plan,
            all_prices(prices or []),
            store or default_store(),
            today(),
            settings=settings or [],
            answer_only=answer_only,
            force=force,
        )
    except ImplausibleError as error:
        for line in error.questions:
            warn(line)
        raise
    kept = None if store is None else keep(outcome, store, dt.datetime.now(dt.UTC))
    terminal_plan.show_plan(outcome, as_json=as_json, kept=kept)
