"""tpubench run: measure a workload and store its facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Explain, Json, Prices, Store

app = App()


@app.command()
def run(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.toml]", help="A run file: options and parameters as TOML."),
    ] = None,
    workload: Annotated[
        str | None, typer.Option("--workload", "-w", help="Standard program to run.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Backend. [default: auto, the best present]")
    ] = None,
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
    timeout: Annotated[
        float | None, typer.Option(help="Seconds a case may take. [default: 900]")
    ] = None,
    chips: Annotated[int | None, typer.Option(help="Chips to use. [default: 1]")] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="llama-serve: the server to measure.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="llama-serve: start this engine: vllm.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="llama-serve: model to ask for. [default: the only one]")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="llama-serve: completions, chat, or auto. [default: auto]"
        ),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="llama-serve: variable with the server's key."),
    ] = None,
    power_w: Annotated[
        float | None,
        typer.Option(metavar="W", help="llama-serve: watts that the server draws under load."),
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SECONDS", help="llama-serve: ttft_p99=2, tpot_p90=0.1, ..."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="llama-serve: what the server runs on, e.g. tpu-v6e.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="llama-serve: precision of the server's weights.")
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="ID", help="Price from the table: tpubench price list.")
    ] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
    explain: Explain = False,
    seed: Annotated[int | None, typer.Option(help="Seed of random weights and inputs.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")
    ] = False,
) -> None:
    """Run a workload, store its facts, and print what was measured."""
    from tpubench.commands import _run

    given = {name: value for name, value in locals().items() if name not in {"file", "_run"}}
    raise typer.Exit(_run.run(file, given))
