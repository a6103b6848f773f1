"""tpubench import: other tools' result files into the store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json, Store

app = App()


@app.command("import")
def import_(
    format_name: Annotated[
        str, typer.Argument(metavar="FORMAT", help="Name of the format, or auto, or list.")
    ],
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Result files, or a tree.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device, where the file names none: v6e, v5p-128, h100-sxm.")
    ] = None,
    chips: Annotated[int | None, typer.Option(help="Physical chips that were used.")] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Devices as a framework counts them: two to a TPU v7 chip."),
    ] = None,
    hosts: Annotated[int | None, typer.Option(help="Machines that were used.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of weights and activations.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, where the file names none.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Where the file comes from: an address, a publication.")
    ] = None,
    date: Annotated[
        str | None, typer.Option(metavar="DATE", help="Day of the run, where the file has none.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Parameter of the case. Repeatable."),
    ] = None,
    store: Store = None,
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing.")
    ] = False,
) -> None:
    """Import other tools' results: MLPerf, vLLM, AIPerf, guidellm, inference-perf, InferenceX.

    FORMAT 'list' names every format.
    """
    from tpubench.costs import import_files
    from tpubench.costs.imported import Given
    from tpubench.estimates.published.beyond_peak import beyond_peak
    from tpubench.reports.terminal import imported as terminal_import
    from tpubench.results.importers import formats
    from tpubench.results.store import default_store

    if format_name == "list" and not paths:
        terminal_import.show_formats(formats(), as_json=as_json)
        return
    if not paths:
        raise typer.BadParameter("name at least one file to import", param_hint="PATH")
    given = Given(
        device=device,
        chips=chips,
        framework_devices=devices,
        hosts=hosts,
        dtype=dtype,
        model=model,
        source=source,
        date=import_files.day(date),
        params=import_files.settings(settings or []),
    )
    report = import_files.import_files(
        format_name,
        paths,
        given,
        store or default_store(),
        dt.datetime.now(dt.UTC),
        dry_run=dry_run,
        impossible=beyond_peak,
    )
    terminal_import.show(report, as_json=as_json)
