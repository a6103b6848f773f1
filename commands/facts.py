"""Stored facts: show, compare, verify, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import (
    Explain,
    Filters,
    Format,
    Json,
    Prices,
    Store,
    markdown_asked,
)

app = App()

Signers = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Who may sign, as git's allowed signers: the chain must be theirs."
    ),
]


@app.command()
def show(
    selectors: Filters = None,
    store: Store = None,
    as_json: Json = False,
    prices: Prices = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the rows as CSV.")] = False,
    form: Format = None,
    explain: Explain = False,
) -> None:
    """Show stored facts: the latest run, or whatever the selectors pick."""
    from tpubench.costs.price_files import all_prices
    from tpubench.costs.published_cost import with_list_prices
    from tpubench.reports import terminal
    from tpubench.results.select import select
    from tpubench.results.store import default_store

    as_markdown = markdown_asked(form, as_json=as_json or as_csv)
    table = all_prices(prices or [])
    scan = with_list_prices(select(store or default_store(), selectors or ["latest"]), table)
    if as_markdown:
        from tpubench.reports.markdown_facts import of_rows
        from tpubench.results.store import iter_rows

        terminal.warn_unreadable(scan.unreadable)
        print(of_rows(iter_rows(scan.table)))
        return
    terminal.show_rows(scan, as_json=as_json, as_csv=as_csv, explain=explain)
    if not (as_json or as_csv):
        from tpubench.reports.terminal import (
            answers as terminal_answers,
        )  # what it needs takes a second to load

        terminal_answers.show_both_sides(scan, table)


@app.command()
def compare(
    selectors: Annotated[
        list[str],
        typer.Argument(
            metavar="A B...", help="Selectors: the first is what the others stand against."
        ),
    ],
    store: Store = None,
    as_json: Json = False,
    form: Format = None,
    explain: Explain = False,
) -> None:
    """Compare B (and C, …) with A, figure by figure: ratio, interval, and what else differs."""
    from tpubench.reports.terminal import compare as terminal_compare
    from tpubench.results.compare import compare_selected
    from tpubench.results.store import default_store

    as_markdown = markdown_asked(form, as_json=as_json)
    sides, unreadable = compare_selected(store or default_store(), selectors)
    terminal_compare.show(
        sides, unreadable, as_json=as_json, as_markdown=as_markdown, explain=explain
    )


@app.command()
def verify(
    store: Store = None,
    as_json: Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 as well when a file is not covered by a seal.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(metavar="SHA256", help="A head that tpubench seal printed: it must be there."),
    ] = None,
    allowed_signers: Signers = None,
) -> None:
    """Recompute every figure, and compare every file with its seal; exit 1, naming what is off."""
    from tpubench.reports.terminal import seal as terminal_seal
    from tpubench.results.store import default_store
    from tpubench.results.verify import verify_store

    report = verify_store(store or default_store(), allowed=allowed_signers, head=head)
    terminal_seal.show_verification(report, as_json=as_json)
    bad = not report.ok or (strict and report.seals.not_covered)
    raise typer.Exit(1 if bad else 0)


@app.command()
def seal(
    store: Store = None,
    as_json: Json = False,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Sign with this SSH key; a .pub one asks the agent."),
    ] = None,
    allowed_signers: Signers = None,
) -> None:
    """Chain what the runs of a store wrote, so that verify names whatever is altered later."""
    from tpubench.reports.terminal import seal as terminal_seal
    from tpubench.results.sealing import seal_store
    from tpubench.results.store import default_store

    where = store or default_store()
    done = seal_store.seal(where, key, allowed_signers)
    terminal_seal.show_sealed(done, where, as_json=as_json)
    raise typer.Exit(0 if done.ok else 1)


@app.command()
def report(
    selectors: Filters = None,
    store: Store = None,
    out: Annotated[Path, typer.Option(help="Folder to write to.")] = Path("bench-report"),
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN.toml", help="Show a plan instead: docs/money.md."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH[*]=VALUE",
            help="Turn one input: 'price[tpu]*=0.8', readiness=0.7; of a plan, as in allocate."
            " Repeatable.",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="html|md|pdf|csv",
            help="What to write: the page, Markdown, a PDF (needs Chromium), CSV. Repeatable.",
        ),
    ] = None,
    png: Annotated[
        bool, typer.Option("--png", help="Also write a picture of each chart, for slides.")
    ] = False,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page, where there is a screen.")
    ] = False,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Write a self-contained HTML page: TPU, Nvidia or contract, and what it rests on."""
    from tpubench.costs.price_files import all_prices
    from tpubench.reports import terminal
    from tpubench.reports.terminal import report as terminal_report

    asked = terminal_report.ReportOptions(
        selectors=selectors or [],
        table=all_prices(prices or []),
        store=store,
        out=out,
        settings=settings or [],
        formats=formats or ["html"],
        pngs=png,
        as_json=as_json,
    )
    path = terminal_report.facts(asked) if plan is None else terminal_report.plan(plan, asked)
    if open_page:
        terminal.open_page(path)
