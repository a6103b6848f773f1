"""Selectors: which stored rows a command is about.

A selector is a run id, ``latest``, ``published`` (the published results that ship with tpubench),
a path to a Parquet file, a git revision, or ``column=value`` (a column of the row, or a parameter
of the case). Several ``column=value`` must all hold; several
runs or files add up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.errors import UsageError
from tpubench.results import published
from tpubench.results.metrics import metric
from tpubench.results.row import COLUMNS, to_table
from tpubench.results.store import Scan, files, scan

if TYPE_CHECKING:
    import pyarrow as pa


def select(store: Path, selectors: Sequence[str]) -> Scan:
    """Rows that match, and files that could not be read.

    UsageError for a selector that names nothing there is; no match of ``column=value`` pairs is
    an empty table.
    """
    pairs = [_pair(text) for text in selectors if "=" in text]
    sources = [text for text in selectors if "=" not in text]
    everything = files(store)
    shipped = published.SELECTOR in sources
    sources = [text for text in sources if text != published.SELECTOR]
    if not everything and not shipped and not any(Path(text).is_file() for text in sources):
        raise UsageError(
            f"there are no results in {store}: run a workload first, name --store, or look at"
            f" '{published.SELECTOR}' ones"
        )
    paths = everything
    revisions: list[str] = []
    if sources or shipped:
        paths = []
        for text in sources:
            found = _files_of(store, everything, text)
            if found:
                paths += found
            else:
                revisions.append(text)
    if revisions:
        paths = paths or everything
    result = scan(paths)
    table = result.table
    for revision in revisions:
        matching = [str(sha) for sha in set(table["git_sha"].to_pylist()) if _is(sha, revision)]
        if not matching:
            raise UsageError(f"{revision!r} is no run id, file or commit among the results")
        table = _keep(table, [sha in matching for sha in table["git_sha"].to_pylist()])
    if shipped:
        table = _with_published(table)
    for column, value in pairs:
        table = _where(table, column, value)
    return Scan(table=table, unreadable=result.unreadable)


def select_for_report(store: Path, selectors: Sequence[str]) -> tuple[Scan, str | None]:
    """As :func:`select`; of an empty store, the published results, and a sentence that says so."""
    if files(store) or any("=" not in text for text in selectors):
        return select(store, selectors), None
    note = (
        f"there are no results in {store}: this is from the published results that ship with"
        " tpubench, none of them measured here"
    )
    return select(store, [published.SELECTOR, *selectors]), note


def _with_published(table: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([table, to_table(list(published.rows()))], promote_options="default")


_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
"""Folders that are runs: a start time, so that the last in order is the latest."""


def _pair(text: str) -> tuple[str, str]:
    column, _, value = text.partition("=")
    return column.strip(), value.strip()


def _files_of(store: Path, everything: Sequence[Path], text: str) -> list[Path]:
    if Path(text).is_file():
        return [Path(text)]
    if text == "latest":
        return _latest(
            [p for p in everything if p.parent.parent == store and _RUN_ID.fullmatch(p.parent.name)]
        )
    return [path for path in everything if path.parent.name == text]


def _latest(files: Sequence[Path]) -> list[Path]:
    """Those of the run that started last; of several in that second, the last written to."""
    started = max((path.parent.name.split("-")[0] for path in files), default="")
    last = [path for path in files if path.parent.name.startswith(started)]
    names = {path.parent.name for path in last}
    if len(names) > 1:
        names = {max(last, key=lambda path: (path.stat().st_mtime_ns, path)).parent.name}
    return [path for path in last if path.parent.name in names]


def _is(sha: str | None, revision: str) -> bool:
    return sha is not None and len(revision) >= 7 and sha.startswith(revision)


def _where(table: pa.Table, column: str, value: str) -> pa.Table:
    if column in table.column_names and column not in {"samples", "environment", "params"}:
        found = [_text(cell) for cell in table[column].to_pylist()]
        if column == "metric" and value not in found:
            metric(value)  # a name that is no metric at all is a slip, not an empty answer
        return _keep(table, [cell == value for cell in found])
    params = [json.loads(text) for text in table["params"].to_pylist()]
    if table.num_rows and not any(column in case for case in params):
        raise UsageError(
            f"{column!r} is neither a column nor a parameter of these results;"
            f" columns: {', '.join(COLUMNS)}"
        )
    return _keep(table, [_text(case.get(column)) == value for case in params])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def _keep(table: pa.Table, mask: list[bool]) -> pa.Table:
    import pyarrow as pa

    return table.filter(pa.array(mask, type=pa.bool_()))
