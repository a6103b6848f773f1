"""tpubench estimate: what a device would do, without running on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Explain, Json, Prices
from tpubench.errors import UsageError

app = App()


@app.command()
def estimate(
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload", "-w", help="llama-infer or llama-pretrain; compile: see docs/compile.md."
        ),
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
    method: Annotated[
        str, typer.Option(help="roofline (closed forms, fitted) or compile (the TPU compiler).")
    ] = "roofline",
    topology: Annotated[
        str | None,
        typer.Option(metavar="NxN", help="compile: shape of the slice. [default: by --chips]"),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="compile: every layer, not one and two.")
    ] = False,
    python: Annotated[
        Path | None, typer.Option(help="compile: interpreter that has tpubench[compile].")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="compile: seconds that exporting or compiling may take.")
    ] = 900.0,
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
        Path | None, typer.Option(help="Store the rows there, like those of a run.")
    ] = None,
    as_json: Json = False,
    explain: Explain = False,
) -> None:
    """Estimate a workload on a device that is not there; --validate judges the estimates."""
    if validate is not None:
        given = (workload, preset, device, chips, settings, price, usd_per_chip_hour, prices, store)
        compiling_only = (topology, python, full or None)
        if any(each is not None for each in given + compiling_only) or method != "roofline":
            raise UsageError(
                "--validate FILE judges roofline estimates: only --rows and --json fit"
            )
        from tpubench.estimates.published.validate import validate as judge
        from tpubench.reports.terminal import estimate as terminal_estimate

        terminal_estimate.show_validation(judge(validate).to_json(rows=rows), as_json=as_json)
        return
    if workload is None or not device:
        raise UsageError("give --workload and --device, or --validate FILE")
    from tpubench.commands import _estimate

    what = _estimate.Asked(
        workload=workload,
        preset=preset,
        devices=list(dict.fromkeys(device)),
        chips=chips,
        settings=settings or [],
        price=price,
        usd_per_chip_hour=usd_per_chip_hour,
        prices=prices or [],
        store=store,
    )
    compiling = _estimate.Compiling(topology=topology, full=full, python=python, timeout_s=timeout)
    fits = _estimate.run(method, what, compiling, as_json=as_json, explain=explain)
    # 1: the answer is no, it does not fit.
    raise typer.Exit(0 if fits else 1)
