"""tpubench plan: from stored facts to a plan that allocate solves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Filters, Json, Prices, Store
from tpubench.errors import UsageError

if TYPE_CHECKING:
    from tpubench.costs.drafts.questions import Question
    from tpubench.results.row import Row

app = App(name="plan", help="Plans: write one from stored facts.", no_args_is_help=True)


@app.callback()
def _plans() -> None:
    """Plans: write one from stored facts."""


@app.command("init")
def init(
    selectors: Filters = None,
    out: Annotated[Path, typer.Option(metavar="PLAN.toml", help="File to write.")] = Path(
        "plan.toml"
    ),
    published: Annotated[
        bool, typer.Option("--published", help="Also the published results that are shipped.")
    ] = False,
    metric: Annotated[
        str, typer.Option(help="The rate per chip to plan with.")
    ] = "output_tok_s_per_chip",
    max_ttft_s: Annotated[
        float | None, typer.Option(help="Leave out cases with a later first token.")
    ] = None,
    max_tpot_s: Annotated[
        float | None, typer.Option(help="Leave out cases with slower tokens.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Answer one question. Repeatable."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: placeholders, marked, for what is missing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a file.")] = False,
    prices: Prices = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Write a commented plan from stored facts, asking only for what nobody knows."""
    from tpubench.costs.allocation.inputs import parse
    from tpubench.costs.drafts import init as drafts
    from tpubench.costs.price_files import all_prices, owned_figures
    from tpubench.devices.prices import today
    from tpubench.reports.terminal import draft as terminal_draft
    from tpubench.reports.terminal import warn_unreadable
    from tpubench.results import published as shipped
    from tpubench.results.listing import files
    from tpubench.results.select import select, select_newest
    from tpubench.results.store import default_store, iter_rows

    if out.exists() and not force:
        raise UsageError(f"{out} exists already: name another file with --out, or --force")
    answers = {}
    for text in settings or []:
        setting = parse(text)
        if setting.times:
            raise UsageError(f"--set {text}: write PATH=VALUE, there is nothing to multiply yet")
        answers[setting.path] = str(setting.value)
    folder = store or default_store()
    wanted = list(selectors or [])
    there = files(folder)
    rows: list[Row] = []
    if wanted or there or not published:
        scan = select_newest(folder, wanted)
        warn_unreadable(scan.unreadable)
        rows += iter_rows(scan.table)
    if published:
        narrow = [text for text in wanted if "=" in text]
        rows += iter_rows(select(folder, [shipped.SELECTOR, *narrow]).table)
    asking = not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
    done = drafts.init(
        drafts.DraftOptions(
            rows=rows,
            stored={path.parent.name for path in there.files},
            metric=metric,
            max_ttft_s=max_ttft_s,
            max_tpot_s=max_tpot_s,
            prices=all_prices(prices or []),
            owned=owned_figures(prices or []),
            answers=answers,
            ask=_ask if asking else None,
            placeholders=yes,
            today=today(),
        ),
        out,
    )
    terminal_draft.show(done, folder, as_json=as_json)


def _ask(question: Question, complaint: str) -> str:
    """One question on the terminal; enter alone leaves the placeholder, or the figure out."""
    if complaint:
        typer.echo(complaint)
    if question.placeholder is None:
        otherwise = "enter: leave it out"
    else:
        why = f", {question.why}" if question.why else ""
        otherwise = f"enter: placeholder {question.placeholder:g}{why}"
    name = question.path.rpartition(".")[0]
    return str(
        typer.prompt(f"{name}: {question.asks} [{otherwise}]", default="", show_default=False)
    )
