"""Selectors: which stored rows a command is about.

A selector is a run id, ``latest``, ``published`` (the published results that ship with tpubench),
a path to a Parquet file, a git revision, or ``column=value`` (a column of the row, or a parameter
of the case). ``tag=NAME`` is what ``tpubench runs tag`` put. Devices and precisions may be written
as people write them (``device=v6e``, ``dtype=bf16``). Several values of one column add up, as
several runs or files do; different columns, and different tags, must all hold.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results import labels, published, spelling
from tpubench.results.listing import Listing, Unreadable, files, naming
from tpubench.results.metrics import metric
from tpubench.results.newest import newest
from tpubench.results.row import COLUMNS, to_table
from tpubench.results.rows import Rows, rows_of
from tpubench.results.store import Scan, default_store, is_named_by_environment

CLOCKS_DIFFER = dt.timedelta(minutes=5)
"""What the clocks of two machines that share a store may be apart."""


def select(store: Path, selectors: Sequence[str]) -> Scan:
    """Rows that match, and what could not be read: :func:`narrowed`, read."""
    rows = narrowed(store, selectors)
    return Scan(table=rows.read(), unreadable=rows.unreadable)


def narrowed(store: Path, selectors: Sequence[str]) -> Rows:
    """Rows that match, not read yet, and what could not be read.

    UsageError for a selector that names nothing there is, or nothing that can be read; no match of
    ``column=value`` pairs is an empty table.
    """
    asked: dict[str, list[str]] = {}
    for column, value in (_pair(text) for text in selectors if "=" in text):
        asked.setdefault(column, []).append(value)
    sources = [text for text in selectors if "=" not in text]
    everything = files(store)
    shipped = published.SELECTOR in sources
    sources = [text for text in sources if text != published.SELECTOR]
    if not everything and not shipped and not any(map(_is_file, sources)):
        raise UsageError(
            f"there are no results in {store}: run a workload first, name --store, or look at"
            f" '{published.SELECTOR}' ones",
            left_out=[str(bad.error) for bad in everything.unreadable],
        )
    paths = everything.files
    revisions: list[str] = []
    if sources or shipped:
        paths = ()
        for text in sources:
            matching = _files_of(store, everything.files, text)
            paths += matching
            if not matching:
                revisions.append(text)
    if revisions:
        paths = paths or everything.files
    # A folder that cannot be looked into may hold what was asked for, unless files were named.
    named = sources and all(map(_is_file, sources))
    rows = rows_of(store, Listing(files=paths, unreadable=() if named else everything.unreadable))
    with naming(rows.unreadable):
        if rows.unreadable and not shipped and not len(rows):
            count = len(rows.unreadable)
            which = "the only one" if count == 1 else f"all {count}"
            raise UsageError(f"nothing that was selected can be read: {which} left out")
        _of_revisions(rows, revisions)
        if shipped:
            rows = _with_published(rows)
        for column, values in asked.items():
            if column == "tag":
                for tag in values:
                    _tagged(rows, store, tag)
            else:
                _where(rows, column, values)
    if "latest" in sources:
        rows.unreadable += _hiding(store, everything.files)
    return rows


def select_newest(store: Path, selectors: Sequence[str]) -> Scan:
    """As :func:`select`, of many rows those of the newest run of each case that gave a figure; that
    it is so is told with what could not be read.
    """
    scan = newest(narrowed(store, selectors), valued=True)
    left_out = [] if scan.drawn is None else [Unreadable(path=store, error=UsageError(scan.drawn))]
    return Scan(table=scan.table, unreadable=[*scan.unreadable, *left_out])


def select_for_report(named: Path | None, selectors: Sequence[str]) -> tuple[Scan, str | None]:
    """As :func:`select`, of many rows the newest run of each case alone (:mod:`.newest`); of an
    empty store that nobody named, the published results, and a sentence that says so.

    named: the store that the user asked for; without one, that of the environment or the default.
    """
    store = named or default_store()
    asked = named is not None or is_named_by_environment()
    listing = files(store)
    if asked or listing or listing.unreadable or any("=" not in text for text in selectors):
        return newest(narrowed(store, selectors)), None
    note = (
        f"there are no results in {store}: this is from the published results that ship with"
        " tpubench, none of them measured here"
    )
    return select(store, [published.SELECTOR, *selectors]), note


def _of_revisions(rows: Rows, revisions: Sequence[str]) -> None:
    for revision in revisions:
        shas = [sha for sha in rows.distinct("git_sha") if _is(sha, revision)]
        if not shas:
            raise UsageError(f"{revision!r} is no run id, file or commit among the results")
        rows.keep("git_sha", shas)


def _with_published(rows: Rows) -> Rows:
    import pyarrow as pa

    shipped = to_table(list(published.rows()))
    table = pa.concat_tables([rows.read(), shipped], promote_options="default")
    return Rows(table=table, unreadable=rows.unreadable)


_RUN_ID = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
"""Folders that are runs: a start time, so that the last in order is the latest."""


def _pair(text: str) -> tuple[str, str]:
    column, _, value = text.partition("=")
    return column.strip(), value.strip()


def _files_of(store: Path, everything: Sequence[Path], text: str) -> tuple[Path, ...]:
    if text == "latest":
        return _latest(
            [p for p in everything if p.parent.parent == store and _RUN_ID.fullmatch(p.parent.name)]
        )
    if _is_file(text):
        return (Path(text),)
    return tuple(path for path in everything if path.parent.name == text)


def _is_file(text: str) -> bool:
    """Whether it names anything that is no folder; what cannot be read is said when it is read."""
    return os.path.lexists(text) and not Path(text).is_dir()


def _latest(files: Sequence[Path]) -> tuple[Path, ...]:
    """Those of the run that started last; of several in that second, the last written to."""
    started = max((path.parent.name.split("-")[0] for path in files), default="")
    last = [path for path in files if path.parent.name.startswith(started)]
    names = {path.parent.name for path in last}
    if len(names) > 1:
        names = {max(last, key=lambda path: (path.lstat().st_mtime_ns, path)).parent.name}
    return tuple(path for path in last if path.parent.name in names)


def _hiding(store: Path, everything: Sequence[Path]) -> list[Unreadable]:
    """That ``latest`` took a run that starts in the future, and left others out by it."""
    ids = sorted(
        {p.parent.name for p in everything if p.parent.parent == store and _is_run(p.parent.name)}
    )
    limit = f"{dt.datetime.now(dt.UTC) + CLOCKS_DIFFER:%Y%m%dT%H%M%S}"
    if len(ids) < 2 or ids[-1] <= limit:
        return []
    present = [run_id for run_id in ids if run_id <= limit] or ids[:-1]
    why = (
        f"{present[-1]}, the last run before now: 'latest' is {ids[-1]}, which says that it starts"
        " in the future; name the run you mean, or take that one away with tpubench runs delete"
    )
    return [Unreadable(path=store / present[-1], error=UsageError(why))]


def _is_run(name: str) -> bool:
    return _RUN_ID.fullmatch(name) is not None


def _tagged(rows: Rows, store: Path, tag: str) -> None:
    ids = [run_id for run_id, said in labels.of_store(store).items() if tag in said.tags]
    if not ids:
        raise UsageError(f"no run in {store} has the tag {tag!r}: tpubench runs list shows tags")
    rows.keep("run_id", ids)


def _is(sha: str | None, revision: str) -> bool:
    return sha is not None and len(revision) >= 7 and sha.startswith(revision)


def _where(rows: Rows, column: str, values: Sequence[str]) -> None:
    if column in rows.columns and column not in {"samples", "environment", "params"}:
        texts = [(cell, _text(cell)) for cell in rows.distinct(column)]
        present = {text for _, text in texts}
        chips = {
            spelling.chips(column, value) if value not in present else None for value in values
        }
        if len(chips) > 1:
            raise UsageError(
                f"{' and '.join(values)} differ in how many chips they ask for: name the devices"
                " alone, and chips=N beside them"
            )
        if chips != {None}:
            _where(rows, "chips", [count for count in chips if count is not None])
        meant = {spelling.meant(column, value, present) for value in values}
        for value in meant - present if column == "metric" else ():
            metric(value)  # a name that is no metric at all is a slip, not an empty answer
        rows.keep(column, [cell for cell, text in texts if text in meant])
        return
    params = [(text, json.loads(text)) for text in rows.distinct("params")]
    if params and not any(column in case for _, case in params):
        raise UsageError(
            f"{column!r} is neither a column nor a parameter of these results;"
            f" columns: {', '.join(COLUMNS)}"
        )
    cells = [(text, _text(case.get(column))) for text, case in params]
    stored = {text for _, text in cells}
    meant = {spelling.meant(column, value, stored) for value in values}
    rows.keep("params", [text for text, cell in cells if cell in meant])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
