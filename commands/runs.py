"""tpubench runs and merge: look after what is stored."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Filters, Json, Store, store_of
from tpubench.errors import UsageError

app = App()
group = App(name="runs", help="Runs of a store: list, tag, note, delete.", no_args_is_help=True)
app.add_typer(group)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run id, or latest.")]


@group.command("list")
def runs_list(
    selectors: Filters = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that were deleted and are kept.")
    ] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """List the runs of a store, the latest last, with their tags and notes."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results import runs
    from tpubench.results.store import default_store

    where = store or default_store()
    if deleted:
        if selectors:
            raise UsageError("--deleted lists all: drop the selectors")
        terminal_runs.show_deleted(runs.deleted(where), where, as_json=as_json)
        return
    listed, left_out = runs.stored_runs(where, selectors or [])
    terminal_runs.show(listed, left_out, as_json=as_json)


@group.command("tag")
def runs_tag(
    run: RunId,
    tags: Annotated[list[str] | None, typer.Argument(metavar="TAG...", help="Tags to put.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Tag to take away. Repeatable.")
    ] = None,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Put tags on a run, or take them away; the selector tag=NAME finds it."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results import labels, runs
    from tpubench.results.store import default_store

    if not tags and not remove:
        raise UsageError("name a tag to put, or --remove TAG")
    where = store or default_store()
    run_id = runs.one(where, run)
    labels.say(where, run_id, tags=tags or [], untags=remove or [])
    terminal_runs.show_labels(run_id, labels.of_run(where, run_id), as_json=as_json)


@group.command("note")
def runs_note(
    run: RunId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A sentence about it.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Add a note to a run; notes are kept, the earlier ones too."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results import labels, runs
    from tpubench.results.store import default_store

    where = store or default_store()
    run_id = runs.one(where, run)
    labels.say(where, run_id, note=text)
    terminal_runs.show_labels(run_id, labels.of_run(where, run_id), as_json=as_json)


@group.command("delete")
def runs_delete(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run ids, or latest.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Take runs out of a store; they are kept aside, and runs restore brings them back."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results import runs
    from tpubench.results.store import default_store

    where = store or default_store()
    ids = list(dict.fromkeys(runs.one(where, each) for each in run))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"this would delete {', '.join(ids)}: say --yes")
        listed, _ = runs.stored_runs(where, ids)
        terminal_runs.show(listed, [], as_json=False, to_stderr=True)
        if not typer.confirm(f"Delete {len(ids)} run{'s' * (len(ids) > 1)}?", err=True):
            print("nothing was deleted", file=sys.stderr)
            raise typer.Exit(1)
    kept = {run_id: runs.delete(where, run_id) for run_id in ids}
    terminal_runs.show_kept(kept, where, as_json=as_json)


@group.command("restore")
def runs_restore(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids of deleted runs.")],
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Bring deleted runs back."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results import runs
    from tpubench.results.store import default_store

    where = store or default_store()
    back = {each: runs.restore(where, each) for each in dict.fromkeys(run)}
    terminal_runs.show_restored(back, as_json=as_json)


@app.command()
def merge(
    stores: Annotated[
        list[Path], typer.Argument(parser=store_of, metavar="STORE...", help="Stores to read.")
    ],
    into: Annotated[
        Path, typer.Option(parser=store_of, metavar="STORE", help="Store to bring them into.")
    ],
    as_json: Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would come, and write nothing.")
    ] = False,
) -> None:
    """Bring stores together: every row once, none lost; exit 1, naming it, where two disagree."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results.merge import merge as bring_together

    done = bring_together(stores, into, dry_run=dry_run)
    terminal_runs.show_merged(done, into, as_json=as_json, dry_run=dry_run)
    raise typer.Exit(0 if done.ok else 1)


@app.command()
def compact(
    store: Store = None,
    as_json: Json = False,
    quiet: Annotated[
        float, typer.Option(metavar="SECONDS", help="Leave runs alone that changed since.")
    ] = 3600.0,
) -> None:
    """Merge the many files of each run into few; no row is lost, whenever it is stopped."""
    from tpubench.reports.terminal import runs as terminal_runs
    from tpubench.results.compact import compact as merge_files
    from tpubench.results.store import default_store

    done = merge_files(store or default_store(), quiet_s=quiet)
    terminal_runs.show_compacted(done, as_json=as_json)
