"""What there is and what this machine can run: list, doctor."""

from __future__ import annotations

from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json

app = App()


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="workloads, backends, devices, metrics, presets or readiness.")
    ],
    as_json: Json = False,
) -> None:
    """List what there is: workloads, backends, devices, metrics, presets, readiness."""
    from tpubench.reports import terminal
    from tpubench.suite.catalogue import catalogue

    listed = catalogue(what)
    terminal.warn(listed.notes)
    terminal.show_catalogue(listed.title, listed.records, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run, and the command that installs what is missing."""
    from tpubench.reports import terminal
    from tpubench.suite.doctor import examine

    terminal.show_doctor(examine().to_json(), as_json=as_json)
