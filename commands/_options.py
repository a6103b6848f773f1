"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.errors import UsageError


def store_of(text: str | Path) -> Path:
    """A store by its name: a folder, or the mirror of a bucket."""
    from tpubench.results.object_storage import is_url, located

    return located(str(text)) if is_url(str(text)) else Path(text)


Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        parser=store_of,
        metavar="STORE",
        help="Folder of stored facts, or s3://… or gs://…. [default: $TPUBENCH_STORE or"
        " ./bench-results]",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Explain = Annotated[bool, typer.Option("--explain", help="Also say how each figure is defined.")]
Prices = Annotated[
    list[Path] | None,
    typer.Option(
        "--prices", metavar="FILE", help="More prices: your TOML, or an imported CSV. Repeatable."
    ),
]
PriceId = Annotated[
    str | None, typer.Option("--price", metavar="ID", help="Price by its id: tpubench price list.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="md", help="Print Markdown, for a pull request or a mail."),
]
Filters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SELECTOR]...",
        help="A run id, 'latest', 'published', a Parquet file, a commit, or column=value pairs.",
    ),
]


def markdown_asked(form: str | None, *, as_json: bool) -> bool:
    """Whether ``--format`` asks for Markdown; UsageError for any other, or with another output."""
    if form is None:
        return False
    if form != "md":
        raise UsageError(f"--format {form}: there is md; --json prints JSON")
    if as_json:
        raise UsageError("--format md, --json and --csv are three outputs: give one")
    return True


def numbers(option: str, text: str | None) -> tuple[float, ...]:
    """The numbers of an option such as ``--demand 100,200``; UsageError for anything else."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"{option} {text!r}: write numbers, e.g. 100,200") from None
