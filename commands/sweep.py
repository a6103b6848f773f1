"""tpubench sweep: a matrix of cells, run one after another, taken up again where it stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json, Store

app = App()


@app.command()
def sweep(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="A TOML file of cells, or smoke, standard, buyer."),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Run only what the store does not hold yet.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would run, for how long and for how much."),
    ] = False,
    cells: Annotated[
        list[str] | None,
        typer.Option("--cell", metavar="ID", help="Run this cell alone. Repeatable."),
    ] = None,
    usd_per_chip_hour: Annotated[
        float | None,
        typer.Option(help="Price of one chip for one hour, where a cell names none, US dollars."),
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Run every cell of a matrix into one store; a cell that fails stops no other."""
    from tpubench.commands import _sweep

    raise typer.Exit(
        _sweep.sweep(
            spec,
            resume=resume,
            dry_run=dry_run,
            ids=cells or [],
            usd_per_chip_hour=usd_per_chip_hour,
            store=store,
            as_json=as_json,
        )
    )
