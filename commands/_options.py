"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tpubench.errors import UsageError

Store = Annotated[
    Path | None,
    typer.Option(
        "--store", help="Folder of stored facts. [default: $TPUBENCH_STORE or ./bench-results]"
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
Filters = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SELECTOR]...",
        help="A run id, 'latest', 'published', a Parquet file, a commit, or column=value pairs.",
    ),
]


def numbers(option: str, text: str | None) -> tuple[float, ...]:
    """The numbers of an option such as ``--demand 100,200``; UsageError for anything else."""
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"{option} {text!r}: write numbers, e.g. 100,200") from None
