"""tpubench price: the tables, other catalogues, pricing stored rows again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json, Prices, Store

app = App(
    name="price",
    help="Prices: list, show, import catalogues, compare tables, price stored rows again.",
    no_args_is_help=True,
)


@app.command("list")
def price_list(
    accelerator: Annotated[
        list[str] | None, typer.Option(help="Only this device. Repeatable.")
    ] = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="Only this provider. Repeatable.")
    ] = None,
    term: Annotated[
        list[str] | None, typer.Option(help="Only this term: on_demand, spot, 3y … Repeatable.")
    ] = None,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """List prices: the shipped table, $TPUBENCH_PRICES, and --prices."""
    from tpubench.costs.price_files import all_prices, pick
    from tpubench.devices.prices import today
    from tpubench.reports.terminal import money as terminal_money

    chosen = pick(all_prices(prices or []), accelerator or [], provider or [], term or [])
    terminal_money.show_prices(chosen, today(), as_json=as_json)


@app.command("show")
def price_show(
    price_id: Annotated[str, typer.Argument(metavar="ID", help="Price id.")],
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Show one price: source, date, age and hash."""
    from tpubench.costs.price_files import find_price
    from tpubench.devices.prices import today
    from tpubench.reports.terminal import money as terminal_money

    terminal_money.show_price(find_price(price_id, prices or []), today(), as_json=as_json)


@app.command("import")
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
    from tpubench.costs.importers import import_prices
    from tpubench.reports.terminal import money as terminal_money

    imported, written = import_prices(format_name, path, as_of, provider, out)
    terminal_money.show_import(imported.prices, imported.rejected, written, as_json=as_json)


@app.command("diff")
def price_diff(
    before: Annotated[str, typer.Argument(help="Price file, or 'shipped'.")],
    after: Annotated[str, typer.Argument(help="Price file, or 'shipped'.")],
    as_json: Json = False,
) -> None:
    """Say which offers are new, gone, dearer or cheaper between two tables, and what one omits."""
    from tpubench.costs.price_diff import diff
    from tpubench.costs.price_files import table
    from tpubench.reports.terminal import money as terminal_money

    changes = diff(table(before), table(after))
    terminal_money.show_diff(changes, before, after, as_json=as_json)


@app.command("apply")
def price_apply(
    price_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Price id.")] = None,
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour, US dollars.")
    ] = None,
    run_id: Annotated[
        list[str] | None,
        typer.Option("--run", metavar="RUN", help="Only this run's; 'latest' too. Repeatable."),
    ] = None,
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Price stored rates again: new figures in their run, the old ones kept, nothing re-run."""
    from tpubench.costs.price_files import asked_price
    from tpubench.costs.reprice import store_repriced
    from tpubench.reports import terminal
    from tpubench.reports.terminal import money as terminal_money
    from tpubench.results.store import default_store

    price = asked_price(price_id, usd_per_chip_hour, prices or [])
    store = store or default_store()
    done = store_repriced(store, price, run_id or [])
    terminal.warn_unreadable(done.unreadable)
    terminal_money.show_repriced(
        list(done.rows), done.figures, price, done.skipped, store, as_json=as_json
    )
