"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
        help="A run id, 'latest', 'published', a Parquet file, a commit, or column=value pairs.",
    ),
]
