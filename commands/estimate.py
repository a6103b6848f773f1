"""tpubench estimate: what a device would do, by closed forms, without running on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Explain, Json, Prices, store_of
from tpubench.errors import UsageError

app = App()


@app.command()
def estimate(
    workload: Annotated[
        str | None, typer.Option("--workload", "-w", help="See: tpubench list workloads.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Model, or a size such as 13b or 80b-a3b.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Device or slice: v6e, h100-sxm, v5p-8 … Repeatable.")
    ] = None,
    chips: Annotated[int | None, typer.Option(help="Chips. [default: of the slice, or 1]")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Parameter; batch=1,8 gives both."),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Price by its id. [default: the device's list price]"),
    ] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    prices: Prices = None,
    validate: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Predict a published table and print the error."),
    ] = None,
    rows: Annotated[
        bool, typer.Option("--rows", help="With --validate: also every row's prediction.")
    ] = False,
    store: Annotated[
        Path | None,
        typer.Option(
            parser=store_of, metavar="STORE", help="Store the rows there, like those of a run."
        ),
    ] = None,
    as_json: Json = False,
    explain: Explain = False,
) -> None:
    """Estimate a workload on a device that is not there; --validate judges the estimates."""
    from tpubench.reports.terminal import estimate as terminal

    if validate is not None:
        given = (workload, preset, device, chips, settings, price, usd_per_chip_hour, prices, store)
        if any(each is not None for each in given):
            raise UsageError("--validate FILE judges estimates: only --rows and --json fit")
        from tpubench.estimates.published.validate import validate as judge

        terminal.show_validation(judge(validate).to_json(rows=rows), as_json=as_json)
        return
    if workload is None or not device:
        raise UsageError("give --workload and --device, or --validate FILE")
    from tpubench.costs.price_files import all_prices, chosen_price
    from tpubench.estimates.modelled import examine
    from tpubench.estimates.request import parse
    from tpubench.results.row import Row
    from tpubench.results.sealing import manifest
    from tpubench.results.store import prepare, write

    requests = [
        parse(
            workload=workload,
            preset=preset,
            device=name,
            chips=chips,
            settings=settings or [],
            price=chosen_price(price, usd_per_chip_hour, prices or []),
            table=all_prices(prices or []),
        )
        for name in dict.fromkeys(device)
    ]
    all_rows: list[Row] = []
    notes: list[str] = []
    for request in requests:
        modelled = examine(request)
        if store is not None and modelled.rows:
            prepare(store)
            name = f"{request.workload}-roofline-{request.device}-000"
            manifest.close([write(store, name, list(modelled.rows))])
        all_rows += modelled.rows
        notes += [note for note in modelled.notes if note not in notes]
    terminal.show(all_rows, notes, store, as_json=as_json, explain=explain)
    if not all(row.status == "ok" for row in all_rows):
        raise typer.Exit(1)  # the answer is no: it does not fit
