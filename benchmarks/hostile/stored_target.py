"""What a hostile stored file is put through: every command that reads a store."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import typer

from hostile import stored, stored_files
from tpubench import cli
from tpubench.errors import TpubenchError
from tpubench.results import store as facts

CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")
GOOD_RUN = "20260101T000000-00d000"
GOOD_METRICS = ("output_tok_s", "ttft_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """An input that lies in its store."""

    kind: str
    store: Path
    path: Path
    expected: list[dict[str, object]] | None
    seed: int


class StoreTarget:
    """A store with one good file; each input is put beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = stored.Base()
        self.originals = stored.plain(self.base.table)
        self.good = [
            stored.row(metric, run_id=GOOD_RUN, repetition=repetition)
            for metric in GOOD_METRICS
            for repetition in (0, 1)
        ]

    def prepare(self, seed: int) -> Prepared:
        store = self.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        facts.write(store, "good", self.good)
        mutant = stored_files.mutant(self.base, seed)
        path = store / "20260102T000000-abcdef" / "odd.parquet"
        path.parent.mkdir()
        mutant.write(path)
        return Prepared(
            kind=mutant.kind, store=store, path=path, expected=mutant.expected, seed=seed
        )

    def attempt(self, given: Prepared) -> tuple[str, str]:
        """(outcome, detail) of one input."""
        readable, problem = self._read(given)
        if problem:
            return problem
        commands = [["verify", "--json"], ["show"], ["show", str(given.path)]]
        if readable:
            run = given.path.parent.name
            commands += [
                ["show", "metric=output_tok_s"],
                ["show", "--csv"],
                ["show", "--json"],
                ["compare", GOOD_RUN, run],
                ["compare", run, GOOD_RUN, "--json"],
                ["gate", "--baseline", GOOD_RUN, "--candidate", run],
                ["gate", "--baseline", run, "--candidate", GOOD_RUN, "--json"],
                ["history"],
                ["history", "--json"],
            ]
            if given.seed % 5 == 0:
                commands.append(["report", "--out", str(self.folder / "report")])
            commands.append(["price", "apply", "--usd-per-chip-hour", "2"])
        for command in commands:
            problem = self._command(command, given, readable=readable)
            if problem:
                return problem
        return ("answered", "") if readable else ("refused", "")

    def _read(self, given: Prepared) -> tuple[bool, tuple[str, str] | None]:
        """Whether the file is readable, and what went wrong when it was tried."""
        try:
            scan = facts.scan(facts.files(given.store))
            rows = list(facts.iter_rows(scan.table))
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            return False, ("traceback", f"scan: {_last()}")
        kept = [row for row in rows if row.run_id == GOOD_RUN and row.samples == [10.0, 11.0, 12.0]]
        if len(kept) < len(self.good):
            return False, ("wrong", "the good file's rows are missing")
        if scan.unreadable:
            return False, None
        if len(rows) == len(self.good):
            return False, None  # it is not listed at all
        mine = stored.plain(facts.load(given.path).select(self.base.table.column_names))
        expected = self.originals if given.expected is None else given.expected
        free = given.kind.startswith(("values: columns", "values: versions", "size: equal"))
        if not free and not _same(mine, expected):
            return True, ("wrong", "rows differ from those that were stored")
        return True, None

    def _command(
        self, command: list[str], given: Prepared, *, readable: bool
    ) -> tuple[str, str] | None:
        out, err = io.StringIO(), io.StringIO()
        name = " ".join(command[:2])
        code: object = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    words = [*command, "--store", str(given.store)]
                    code = cli.program()(words, standalone_mode=False)
                except TpubenchError as error:
                    code = error.exit_code
                    with contextlib.suppress(SystemExit):
                        cli._fail(str(error), error.exit_code)
        except (SystemExit, typer.Exit):
            pass
        except Exception:  # noqa: BLE001 - the very thing that is looked for
            return "traceback", f"{name}: {_last()}"
        hit = CONTROLS.search(out.getvalue().replace("\r\n", "\n") + err.getvalue())
        if hit:
            return "escape", f"{name}: {hit[0]!r}"
        if command[0] == "verify":
            document = json.loads(out.getvalue())
            named = any(str(given.path) in str(problem["file"]) for problem in document["problems"])
            if not readable and not (named and code == 1):
                return "wrong", f"verify: exit {code}, file named: {named}"
            if document["rows"] < len(self.good):
                return "wrong", "verify: the good file's rows are missing"
        return None


def _same(a: list[dict[str, object]], b: list[dict[str, object]]) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _last() -> str:
    kind, error, trace = sys.exc_info()
    frames = traceback.extract_tb(trace)
    ours = [frame for frame in frames if "site-packages" not in frame.filename] or frames
    where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return f"{kind.__name__ if kind else ''} at {where}: {str(error)[:200]}"
