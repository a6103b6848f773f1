"""tpubench run: measure a workload and store its facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json, Prices, Store

app = App()


@app.command()
def run(
    workload: Annotated[str, typer.Option("--workload", "-w", help="Standard program to run.")],
    backend: Annotated[str, typer.Option(help="Backend, or auto for the best present.")] = "auto",
    preset: Annotated[str | None, typer.Option(help="Model or shape preset.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Parameter; batch=1,8 runs both."),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(help="Rounds: processes that run every case. [default: 3, as time allows]"),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Checkpoint: a safetensors folder, or a GGUF file.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Generate from this text (needs --weights).")
    ] = None,
    prompt_ids: Annotated[
        str | None, typer.Option(metavar="IDS", help="Generate from these token ids: 1,2,3.")
    ] = None,
    python: Annotated[
        Path | None, typer.Option(help="Python interpreter for the child processes.")
    ] = None,
    compile_mode: Annotated[
        str | None, typer.Option(help="How the backend compiles; see tpubench list backends.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a case may take.")] = 900.0,
    chips: Annotated[int, typer.Option(help="Chips to use.")] = 1,
    price: Annotated[
        str | None, typer.Option(metavar="ID", help="Price from the table: tpubench price list.")
    ] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
    seed: Annotated[int | None, typer.Option(help="Seed of random weights and inputs.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")
    ] = False,
) -> None:
    """Run a workload, store its facts, and print what was measured."""
    from tpubench.costs.price_files import chosen_price
    from tpubench.reports import progress, terminal
    from tpubench.results.store import default_store
    from tpubench.suite import processes, ranks, request
    from tpubench.suite import run as suite_run

    asked = request.parse(
        workload=workload,
        backend=backend,
        preset=preset,
        settings=settings or [],
        repeats=repeats,
        weights=weights,
        prompt=prompt,
        prompt_ids=prompt_ids,
        python=python,
        compile_mode=compile_mode,
        timeout_s=timeout,
        chips=chips,
        price=chosen_price(price, usd_per_chip_hour, prices or []),
        seed=seed,
    )
    processes.adopt_orphans()
    plan = suite_run.make_plan(asked)
    where = store or default_store()
    if dry_run:
        terminal.show_plan(plan.describe(), as_json=as_json)
        return
    leader = ranks.from_environment().rank == 0  # under torchrun one rank speaks for all
    with progress.observer(show=leader and not as_json) as observe:
        outcome = suite_run.execute(plan, where, observe)
    if leader:
        terminal.show_run(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)
