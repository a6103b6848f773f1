"""The command line: parse, call, print. Everything heavy is imported by the command that needs it.

Exit codes: 0 done · 1 the answer is no (regressed, damaged) · 2 bad usage or input ·
3 inconclusive · 4 environments not comparable · 5 the run failed or the backend is missing.
"""

from __future__ import annotations

import io
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
Prices = Annotated[
    list[Path] | None,
    typer.Option(
        "--prices", metavar="FILE", help="More prices: your TOML, or an imported CSV. Repeatable."
    ),
]
Filters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SELECTOR]...",
        help="A run id, 'latest', a Parquet file, a commit, or column=value pairs.",
    ),
]

price_app = typer.Typer(
    help="Prices: list, show, import catalogues, compare tables, price stored rows again.",
    no_args_is_help=True,
)
app.add_typer(price_app, name="price")
cost_app = typer.Typer(
    help="Cost of a token: rented, owned, under contract; margin and payback.",
    no_args_is_help=True,
)
app.add_typer(cost_app, name="cost")


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


@price_app.command("list")
def price_list(
    accelerator: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider.")] = None,
    term: Annotated[str | None, typer.Option(help="Only this term: on_demand, spot, 3y …")] = None,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """List prices: the shipped table, $TPUBENCH_PRICES, and --prices."""
    from tpubench.costs.price_files import all_prices, pick, today
    from tpubench.reports import terminal_money

    found = pick(all_prices(prices or []), accelerator, provider, term)
    terminal_money.show_prices(found, today(), as_json=as_json)


@price_app.command("show")
def price_show(
    price_id: Annotated[str, typer.Argument(metavar="ID", help="Price id.")],
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Show one price: source, date, age and hash."""
    from tpubench.costs.price_files import find_price, today
    from tpubench.reports import terminal_money

    terminal_money.show_price(find_price(price_id, prices or []), today(), as_json=as_json)


@price_app.command("import")
def price_import(
    format_name: Annotated[str, typer.Argument(metavar="FORMAT", help="skypilot or gpuhunt.")],
    path: Annotated[Path, typer.Argument(help="Catalogue file.")],
    as_of: Annotated[
        str | None, typer.Option(metavar="DATE", help="Day the catalogue was downloaded.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(help="Cloud, where the file's name does not say it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="CSV to write. [default: prices-FORMAT-NAME-DATE.csv]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Import another tool's price catalogue; rows that make no sense are left out and named."""
    from tpubench.costs.price_files import import_prices
    from tpubench.reports import terminal_money

    found, written = import_prices(format_name, path, as_of, provider, out)
    terminal_money.show_import(found.prices, found.rejected, written, as_json=as_json)


@price_app.command("diff")
def price_diff(
    before: Annotated[str, typer.Argument(help="Price file, or 'shipped'.")],
    after: Annotated[str, typer.Argument(help="Price file, or 'shipped'.")],
    as_json: Json = False,
) -> None:
    """Say which offers are new, gone, dearer or cheaper between two tables."""
    from tpubench.costs.price_diff import diff
    from tpubench.costs.price_files import table
    from tpubench.reports import terminal_money

    terminal_money.show_diff(diff(table(before), table(after)), as_json=as_json)


@price_app.command("apply")
def price_apply(
    price_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Price id.")] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    run_id: Annotated[
        list[str] | None, typer.Option("--run", help="Only rates of this run. Repeatable.")
    ] = None,
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Price stored rates again: new figures in a new run, the old ones kept, nothing re-run."""
    from tpubench.costs.price_files import asked_price
    from tpubench.costs.reprice import store_repriced
    from tpubench.reports import terminal_money
    from tpubench.results.store import default_store

    price = asked_price(price_id, usd_per_chip_hour, prices or [])
    done = store_repriced(store or default_store(), price, set(run_id or []))
    terminal_money.show_repriced(
        list(done.rows), done.figures, price, done.skipped, as_json=as_json
    )


@cost_app.command("cloud")
def cost_cloud(
    usd_per_chip_hour: Annotated[float, typer.Option(help="Price of one chip for one hour.")],
    tok_s: Annotated[
        float | None, typer.Option("--tok-s", help="Tokens/s of all chips, at the SLO.")
    ] = None,
    chips: Annotated[float, typer.Option(help="Chips that give this rate.")] = 1,
    utilisation: Annotated[float, typer.Option(help="Share of paid hours in use.")] = 1.0,
    prefill_tok_s: Annotated[
        float | None, typer.Option("--prefill-tok-s", help="Input tokens/s of the prefill alone.")
    ] = None,
    decode_tok_s: Annotated[
        float | None, typer.Option("--decode-tok-s", help="Output tokens/s of the decode alone.")
    ] = None,
    in_out_ratio: Annotated[
        float | None, typer.Option(help="Input tokens per output token, for a blended price.")
    ] = None,
    cache_hits: Annotated[float, typer.Option(help="Share of the input read from a cache.")] = 0.0,
    cached_usd_per_mtok: Annotated[
        float | None, typer.Option(help="Cost of a million cached input tokens.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Cost of a million tokens on rented chips; input and output apart where timed apart."""
    from tpubench.costs import figures
    from tpubench.reports import terminal_money

    found = figures.cloud(
        usd_per_chip_hour=usd_per_chip_hour,
        tok_s=tok_s,
        chips=chips,
        utilisation=utilisation,
        prefill_tok_s=prefill_tok_s,
        decode_tok_s=decode_tok_s,
        in_out_ratio=in_out_ratio,
        cache_hits=cache_hits,
        cached_usd_per_mtok=cached_usd_per_mtok,
    )
    terminal_money.show_figures(found, as_json=as_json)


@cost_app.command("owned")
def cost_owned(
    capex: Annotated[float, typer.Option(help="Chip with its share of server and network, $.")],
    wacc: Annotated[float, typer.Option(help="Cost of capital a year, e.g. 0.087.")],
    years: Annotated[float, typer.Option(help="Useful life.")],
    kw: Annotated[float, typer.Option(help="kW per chip, its share of the server included.")],
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the building.")],
    usd_per_kwh: Annotated[float, typer.Option(help="Price of electricity.")],
    colo_usd_per_kw_month: Annotated[float, typer.Option(help="Colocation fee.")] = 0.0,
    facility_capex: Annotated[
        float, typer.Option(help="Building per chip, $, in place of colocation.")
    ] = 0.0,
    residual: Annotated[float, typer.Option(help="Resale value at the end of life, $.")] = 0.0,
    opex_rate: Annotated[float, typer.Option(help="Upkeep a year, share of capex.")] = 0.0,
    idle_power_share: Annotated[float, typer.Option(help="Share of power drawn when idle.")] = 0.0,
    availability: Annotated[float, typer.Option(help="Share of hours the chip works.")] = 1.0,
    tok_s: Annotated[
        float | None, typer.Option("--tok-s", help="Tokens/s of one chip, at the SLO.")
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of hours in use.")] = 1.0,
    cloud_usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Rent to hold it against, for the break-even.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Cost of an owned chip-hour and of a million tokens on it."""
    from tpubench.costs import figures
    from tpubench.costs.owned import Owned
    from tpubench.reports import terminal_money

    chip = Owned(
        capex_usd=capex,
        wacc=wacc,
        years=years,
        kw=kw,
        pue=pue,
        usd_per_kwh=usd_per_kwh,
        colo_usd_per_kw_month=colo_usd_per_kw_month,
        facility_capex_usd=facility_capex,
        residual_usd=residual,
        opex_rate=opex_rate,
        idle_power_share=idle_power_share,
        availability=availability,
    )
    found = figures.own(
        chip, tok_s=tok_s, utilisation=utilisation, cloud_usd_per_chip_hour=cloud_usd_per_chip_hour
    )
    terminal_money.show_figures(found, as_json=as_json)


@cost_app.command("margin")
def cost_margin(
    usd_per_mtok: Annotated[
        float, typer.Option(help="Cost of a million tokens; with --capex the cash cost only.")
    ],
    price_per_mtok: Annotated[float, typer.Option(help="Price of a million tokens.")],
    capex: Annotated[float | None, typer.Option(help="Spent at the start, $.")] = None,
    mtok_per_year: Annotated[float | None, typer.Option(help="Million tokens sold a year.")] = None,
    years: Annotated[float | None, typer.Option(help="Years of selling.")] = None,
    wacc: Annotated[float | None, typer.Option(help="Cost of capital a year.")] = None,
    tax: Annotated[float, typer.Option(help="Tax on profit.")] = 0.0,
    residual: Annotated[float, typer.Option(help="Resale value at the end, $.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Gross margin at a price per million tokens; with capex also payback, NPV and IRR."""
    from tpubench.costs import figures
    from tpubench.reports import terminal_money

    found = figures.margin(
        usd_per_mtok=usd_per_mtok,
        price_per_mtok=price_per_mtok,
        capex=capex,
        mtok_per_year=mtok_per_year,
        years=years,
        wacc=wacc,
        tax=tax,
        residual=residual,
    )
    terminal_money.show_figures(found, as_json=as_json)


@cost_app.command("contract")
def cost_contract(
    minimum: Annotated[float, typer.Option(help="Paid in any case, $.")],
    rate: Annotated[float, typer.Option(help="$/chip-hour up to the cap.")],
    cap: Annotated[float, typer.Option(help="Chip-hours at that rate.")],
    on_demand: Annotated[float, typer.Option(help="$/chip-hour beyond the cap.")],
    use: Annotated[float, typer.Option(help="Chip-hours used.")],
    as_json: Json = False,
) -> None:
    """Bill of a take-or-pay contract, against paying on demand."""
    from tpubench.costs import figures
    from tpubench.reports import terminal_money

    found = figures.contract(minimum=minimum, rate=rate, cap=cap, on_demand=on_demand, use=use)
    terminal_money.show_figures(found, as_json=as_json)


@app.command()
def allocate(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan; see docs/money.md.")],
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Split a budget over chips to buy, commit to and rent, year by year; exit 1 if impossible."""
    from tpubench.costs.allocation import answer
    from tpubench.costs.price_files import all_prices, today
    from tpubench.reports import terminal_plan
    from tpubench.results.store import default_store

    found = answer.allocate(plan, all_prices(prices or []), store or default_store(), today())
    terminal_plan.show_plan(found, as_json=as_json)


def main() -> None:
    """Entry point: one error line on stderr, the right exit code, no traceback."""
    debug = os.environ.get("TPUBENCH_DEBUG") == "1"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="replace"
            )  # a terminal that cannot show × still shows the rest
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except TpubenchError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except _CLICK_ERROR as error:
        _fail(error.format_message(), UsageError.exit_code)  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 5)
    except BrokenPipeError:
        # The reader of our output went away (| head): not our error, and nothing left to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"cannot write: {error.strerror}", UsageError.exit_code)
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
