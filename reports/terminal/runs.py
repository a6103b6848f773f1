"""Runs of a store on a terminal; one JSON document with ``--json``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from tpubench.reports.tables import FoldingTable
from tpubench.reports.terminal import console, print_json
from tpubench.results.compact import Compacted
from tpubench.results.labels import Labels
from tpubench.results.merge import Merged
from tpubench.results.runs import Run


def show(
    runs: Sequence[Run], left_out: Sequence[str], *, as_json: bool, to_stderr: bool = False
) -> None:
    """A line for each run, its notes under the table; what could not be read on stderr."""
    for text in left_out:
        print(f"tpubench: warning: left out: {_plain(text)}", file=sys.stderr)
    if as_json:
        print_json([_record(run) for run in runs])
        return
    out = Console(stderr=True, emoji=False, highlight=False) if to_stderr else console()
    if not runs:
        out.print("no runs match")
        return
    table = FoldingTable()
    table.add_column("run", no_wrap=True)
    for heading in ("workload", "device", "tags"):
        table.add_column(heading)
    for heading in ("cases", "failed"):
        table.add_column(heading, justify="right")
    for run in runs:
        what = "\n".join(run.workloads[:4] + ("…",) * (len(run.workloads) > 4))
        on = "\n".join(run.devices[:4] + ("…",) * (len(run.devices) > 4))
        table.add_row(
            escape(_plain(run.run_id)),
            escape(what),
            escape(on),
            escape(" ".join(run.labels.tags)),
            str(run.cases),
            str(run.failed or ""),
        )
    out.print(table)
    for run in runs:
        _notes(out, run.run_id, run.labels)


def _notes(out: Console, run_id: str, labels: Labels) -> None:
    for note in labels.notes:
        out.print(f"{run_id}: {note.text} ({note.at[:10]})", markup=False, soft_wrap=True)


def _record(run: Run) -> dict[str, Any]:
    record = asdict(run)
    labels = record.pop("labels")
    return {**record, "tags": labels["tags"], "notes": labels["notes"]}


def show_labels(run_id: str, labels: Labels, *, as_json: bool) -> None:
    """What is said of one run now."""
    if as_json:
        notes = [asdict(note) for note in labels.notes]
        print_json({"run_id": run_id, "tags": labels.tags, "notes": notes})
        return
    out = console()
    tags = " ".join(labels.tags) or "none"
    out.print(f"{run_id}: tags: {tags}", markup=False, soft_wrap=True)
    _notes(out, run_id, labels)


def show_deleted(run_ids: Sequence[str], store: Path, *, as_json: bool) -> None:
    """Runs that were deleted and are kept."""
    if as_json:
        print_json(list(run_ids))
        return
    out = console()
    for run_id in run_ids:
        out.print(_plain(run_id), markup=False)
    if not run_ids:
        out.print(f"nothing was deleted in {store}", markup=False, soft_wrap=True)


def show_kept(kept: Mapping[str, Path], store: Path, *, as_json: bool) -> None:
    """Which runs are out of sight now, and how to undo or finish that."""
    if as_json:
        print_json({"deleted": {run_id: str(path) for run_id, path in kept.items()}})
        return
    out = console()
    for run_id, path in kept.items():
        out.print(f"deleted {run_id}, kept in {path}", markup=False, soft_wrap=True)
    out.print(
        f"undo: tpubench runs restore {' '.join(kept)} --store {store}; to free the disk, remove"
        f" {next(iter(kept.values())).parent}",
        markup=False,
        soft_wrap=True,
        style="dim",
    )


def show_restored(back: Mapping[str, int], *, as_json: bool) -> None:
    """Which runs are back, with how many files."""
    if as_json:
        print_json({"restored": dict(back)})
        return
    for run_id, files in back.items():
        console().print(f"restored {run_id}: {files} files", markup=False)


def show_merged(done: Merged, into: Path, *, as_json: bool, dry_run: bool) -> None:
    """What came, what was there, and what contradicts itself."""
    if as_json:
        print_json({**asdict(done), "runs": sorted(done.runs), "into": str(into)})
        return
    out = console()
    for what, sentences in (("conflict", done.conflicts), ("left out", done.left_out)):
        for sentence in sentences:
            out.print(f"{what}: {_plain(sentence)}", markup=False, soft_wrap=True)
    would = "would bring" if dry_run else "brought"
    out.print(
        f"{would} {done.rows} rows of {len(done.runs)} runs and {done.labels} labels into {into};"
        f" {done.there_already} rows were there already",
        markup=False,
        soft_wrap=True,
    )


def _plain(text: str) -> str:
    """One line without characters that a terminal would act on."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def show_compacted(done: Compacted, *, as_json: bool) -> None:
    """How many files became how few, and which runs were left as they are."""
    if as_json:
        print_json(asdict(done))
        return
    out = console()
    for sentence in done.left_out:
        out.print(f"left out: {_plain(sentence)}", markup=False, soft_wrap=True)
    out.print(
        f"{done.runs} runs compacted: {done.rows} rows of {done.files_before} files are in"
        f" {done.files_after}"
    )
