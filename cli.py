"""The command line: parse, call, print. Everything heavy is imported by the command that needs it.

Exit codes: 0 done · 1 the answer is no (regressed, damaged) · 2 bad usage or input ·
3 inconclusive · 4 environments not comparable · 5 the run failed or the backend is missing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from tpubench.results.errors import TpubenchError, UsageError

app = typer.Typer(
    name="tpubench",
    help="The same PyTorch programs on TPUs and Nvidia GPUs: measured, priced and compared.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Store = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of stored facts. [default: $TPUBENCH_STORE or ./bench-results]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Filters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SELECTOR]...",
        help="A run id, 'latest', a Parquet file, a commit, or column=value pairs.",
    ),
]


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
        typer.Option(help="Child processes for each case. [default: 3, as time allows]"),
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
    timeout: Annotated[float, typer.Option(help="Seconds a child may take.")] = 900.0,
    chips: Annotated[int, typer.Option(help="Chips to use.")] = 1,
    price: Annotated[
        str | None, typer.Option(metavar="ID", help="Price from the table: tpubench price list.")
    ] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
    seed: Annotated[int | None, typer.Option(help="Seed of random weights and inputs.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")
    ] = False,
) -> None:
    """Run a workload, store its facts, and print what was measured."""
    from tpubench.reports import progress, terminal
    from tpubench.results.store import default_store
    from tpubench.suite import request
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
        price=price,
        usd_per_chip_hour=usd_per_chip_hour,
        seed=seed,
    )
    plan = suite_run.make_plan(asked)
    where = store or default_store()
    if dry_run:
        terminal.show_plan(plan.describe(), as_json=as_json)
        return
    with progress.observer(show=not as_json) as observe:
        outcome = suite_run.execute(plan, where, observe)
    terminal.show_run(outcome, as_json=as_json)
    raise typer.Exit(outcome.exit_code)


@app.command()
def show(
    selectors: Filters = None,
    store: Store = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
) -> None:
    """Show stored facts: the latest run, or whatever the selectors pick."""
    from tpubench.reports import terminal
    from tpubench.results.select import select
    from tpubench.results.store import default_store

    chosen = selectors or ["latest"]
    terminal.show_rows(select(store or default_store(), chosen), as_json=as_json, as_csv=as_csv)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Selector of the one side.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Selector of the other side.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Compare B with A, figure by figure: ratio, interval, and what else differs."""
    from tpubench.reports import terminal_compare
    from tpubench.results.compare import compare_selected
    from tpubench.results.store import default_store

    found, unreadable = compare_selected(store or default_store(), a, b)
    terminal_compare.show(found, unreadable, as_json=as_json)


@app.command()
def verify(store: Store = None, as_json: Json = False) -> None:
    """Recompute every stored figure from its samples; exit 1, naming the file, if one is off."""
    from tpubench.reports import terminal
    from tpubench.results.store import default_store
    from tpubench.results.verify import verify_store

    report = verify_store(store or default_store())
    terminal.show_verification(report, as_json=as_json)
    raise typer.Exit(0 if report.ok else 1)


@app.command()
def report(
    selectors: Filters = None,
    store: Store = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("bench-report"),
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page, where there is a screen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a self-contained HTML page and PNG charts of the stored facts."""
    from tpubench.reports import page, terminal
    from tpubench.results.select import select
    from tpubench.results.store import default_store

    written = page.write(select(store or default_store(), selectors or []), out)
    terminal.show_written(written, as_json=as_json)
    if open_page:
        terminal.open_page(written[0])


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="workloads, backends, devices, metrics or presets.")],
    as_json: Json = False,
) -> None:
    """List what there is: workloads, backends, devices, metrics, presets."""
    from tpubench.reports import terminal
    from tpubench.suite.catalogue import catalogue

    listed = catalogue(what)
    terminal.show_catalogue(listed.title, listed.records, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what this machine can run, and the command that installs what is missing."""
    from tpubench.reports import terminal
    from tpubench.suite.doctor import examine

    terminal.show_doctor(examine().to_json(), as_json=as_json)


def main() -> None:
    """Entry point: one error line on stderr, the right exit code, no traceback."""
    debug = os.environ.get("TPUBENCH_DEBUG") == "1"
    try:
        code = app(standalone_mode=False)
    except TpubenchError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except _CLICK_ERROR as error:
        _fail(error.format_message(), UsageError.exit_code)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted: finished repetitions are kept", 5)
    except BrokenPipeError:
        # The reader of our output went away (| head): not our error, and nothing left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _fail(message: str, code: int) -> None:
    print(f"tpubench: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


_CLICK_ERROR: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
"""Base of what typer raises for bad usage; typer does not export it."""


if __name__ == "__main__":
    main()
