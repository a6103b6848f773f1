"""tpubench compile: what the TPU compiler itself says of a workload, without a TPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Explain, Json, Prices

app = App()


@app.command("compile")
def compile_(
    workload: Annotated[
        str, typer.Option("--workload", "-w", help="See: tpubench list workloads.")
    ],
    device: Annotated[
        list[str], typer.Option(help="TPU or slice: v4, v5e, v5p, v6e, v7, v5e-8 … Repeatable.")
    ],
    preset: Annotated[str | None, typer.Option(help="A preset of the workload.")] = None,
    chips: Annotated[int, typer.Option(help="Chips, of which the slice is made.")] = 1,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Parameter; batch=1,8 gives both."),
    ] = None,
    topology: Annotated[
        str | None, typer.Option(metavar="NxN", help="Shape of the slice. [default: by --chips]")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Compile every layer, not one and two.")
    ] = False,
    python: Annotated[
        Path | None, typer.Option(help="Interpreter that has tpubench[compile].")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that exporting or compiling may take.")
    ] = 900.0,
    price: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Price by its id. [default: the device's list price]"),
    ] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    prices: Prices = None,
    store: Annotated[
        Path | None, typer.Option(help="Store the rows there, like those of a run.")
    ] = None,
    as_json: Json = False,
    explain: Explain = False,
) -> None:
    """Compile a workload for a TPU that is not there: does it fit, and how fast would it be?"""
    from tpubench.costs.price_files import all_prices, chosen_price
    from tpubench.estimates.compiled import estimate
    from tpubench.estimates.compiled.request import parse
    from tpubench.reports.terminal import compiled as terminal
    from tpubench.results.row import Row
    from tpubench.results.sealing import manifest
    from tpubench.results.store import prepare, write

    requests = [
        request
        for name in dict.fromkeys(device)
        for request in parse(
            workload=workload,
            device=name,
            preset=preset,
            settings=settings or [],
            chips=chips,
            topology=topology,
            full=full,
            python=python,
            timeout_s=timeout,
            price=chosen_price(price, usd_per_chip_hour, prices or []),
            table=all_prices(prices or []),
        )
    ]
    if store is not None:
        prepare(store)
    rows: list[Row] = []
    for request in requests:
        compiled = estimate(request)
        if store is not None:
            manifest.close([write(store, request.case.key, compiled)])
        rows += compiled
    terminal.show(rows, store, as_json=as_json, explain=explain)
    if not all(row.status == "ok" for row in rows):
        raise typer.Exit(1)  # the answer is no: it does not fit
