"""tpubench sweep: a matrix of cells, run one after another, taken up again where it stopped."""

from __future__ import annotations

from pathlib import Path
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
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Device of cells that name none: tpubench list devices."),
    ] = None,
    executor: Annotated[
        str,
        typer.Option(metavar="local|ray|slurm|kubernetes", help="Where the cells run."),
    ] = "local",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="slurm, kubernetes: write what to submit here."),
    ] = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="slurm, kubernetes: cells at the same time."),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="kubernetes: container image that has tpubench.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="kubernetes: Kueue's local queue.")] = None,
    claim: Annotated[
        str | None, typer.Option(help="kubernetes: volume claim that holds the store.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="ray: address of the cluster's head. [default: this one's]")
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
            device=device,
            cluster=_sweep.ExecutorOptions(
                executor=executor,
                out=out,
                at_once=at_once,
                image=image,
                queue=queue,
                claim=claim,
                address=address,
            ),
            store=store,
            as_json=as_json,
        )
    )
