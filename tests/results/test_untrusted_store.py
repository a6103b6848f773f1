"""A store that anybody may have written to: what is odd is named, the rest is read."""

from __future__ import annotations

import io
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_rows import make_row

from tpubench import cli
from tpubench.errors import DamagedError, TpubenchError, UsageError
from tpubench.results import listing, parquet_layout, row_check
from tpubench.results import store as facts
from tpubench.results.row import arrow_schema, to_table
from tpubench.results.select import select

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from hostile import stored as hostile  # noqa: E402
from hostile import stored_sizes, stored_structure  # noqa: E402

GOOD, ODD = "20260101T000000-aaaaaa", "20260102T000000-bbbbbb"
BASE = hostile.Base()


def stored(table: pa.Table) -> bytes:
    """A file of these rows whose digest is right."""
    return hostile.stored(table)


def endless(path: Path) -> None:
    """A time that no digest can be computed of."""
    table = to_table([make_row(run_id=ODD)])
    place, kind = table.column_names.index("started_at"), table.schema.field("started_at").type
    time = pa.array([2**62], type=pa.int64()).cast(kind)
    table = table.set_column(place, table.schema.field(place), time)
    pq.write_table(table.replace_schema_metadata({facts.DIGEST_KEY: b"0" * 64}), path)


def changed(name: str, cells: list[Any], kind: pa.DataType | None = None) -> Callable[[Path], None]:
    """A file with one column replaced, its digest right."""

    def write(path: Path) -> None:
        table = to_table([make_row(run_id=ODD)] * len(cells))
        column = pa.array(cells, type=kind or table.schema.field(name).type)
        place = table.column_names.index(name)
        path.write_bytes(stored(table.set_column(place, pa.field(name, column.type), column)))

    return write


def twice(path: Path) -> None:
    table = to_table([make_row(run_id=ODD)])
    path.write_bytes(stored(table.append_column("value", table["value"])))


def unix_socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # its address may have 108 characters
    try:
        server.bind(path.name)
    finally:
        os.chdir(here)
        server.close()


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.write(b"PAR1")
        stream.truncate(1 << 40)


def bomb(path: Path) -> None:
    """A page of a gigabyte in a file of kilobytes."""
    parts = hostile.Parts(BASE.data)
    header, _ = parts.pages[5][0]
    parts.pages[5][0] = (header, hostile.sealed(header, bytes(1 << 30)))
    path.write_bytes(parts.whole())


def long_text(path: Path) -> None:
    """One text of a megabyte that ten thousand rows share."""
    table = to_table([make_row(run_id=ODD)])
    place = table.column_names.index("reason")
    reason = pa.array(["x" * 1_000_000])
    path.write_bytes(
        stored_sizes.equal_rows(
            stored_sizes.Like(table.set_column(place, table.schema.field("reason"), reason)), 10_000
        )
    )


def newer(path: Path) -> None:
    path.write_bytes(stored(to_table([make_row(run_id=ODD, schema_version=2)])))


def newer_with_other_columns(path: Path) -> None:
    table = to_table([make_row(run_id=ODD, schema_version=2)]).drop_columns(["metric"])
    path.write_bytes(stored(table))


ODDITIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a FIFO": (os.mkfifo, "cannot be read: it is a FIFO, not a file"),
    "a socket": (unix_socket, "cannot be read: it is a socket, not a file"),
    "a folder": (Path.mkdir, "cannot be read: it is a folder, not a file"),
    "a device": (lambda p: p.symlink_to("/dev/zero"), "it is a device, not a file"),
    "a dangling link": (lambda p: p.symlink_to("nowhere"), "No such file or directory"),
    "a link to itself": (lambda p: p.symlink_to(p), "Too many levels of symbolic links"),
    "an empty file": (Path.touch, "not a Parquet file"),
    "a terabyte of nothing": (sparse, "it has 1,099,511,627,776 bytes, at most"),
    "a cut file": (lambda p: p.write_bytes(BASE.data[:-9]), "not a Parquet file"),
    "a newer schema": (newer, "has schema version 2, .* upgrade tpubench"),
    "a newer schema with other columns": (newer_with_other_columns, "upgrade tpubench"),
    "a hundred million equal rows": (
        lambda p: p.write_bytes(stored_sizes.equal_rows(BASE, 10**8)),
        "it says that it has 100,000,000 rows",
    ),
    "a gigabyte in a page": (bomb, "unpacks to more than 67,108,864 bytes"),
    "a text said ten thousand times": (long_text, "its rows take more than 67,108,864 bytes"),
    "a column twice": (twice, "two columns 'value'"),
    "a column of another type": (
        changed("chips", ["one"], pa.string()),
        "column chips is 'string', not int64",
    ),
    "a column of structs": (
        lambda p: p.write_bytes(stored(BASE.table.append_column("m", pa.array([{"a": 1}] * 9)))),
        "column b?'m.* nested",
    ),
    "a null in a column that has none": (changed("metric", [None]), "metric lacks a value"),
    "an unknown status": (changed("status", ["fine"]), "status 'fine' is not one of"),
    "an unknown evidence": (changed("evidence", [""]), "evidence '' is not one of"),
    "an unknown direction": (changed("better", ["up"]), "better 'up' is not one of"),
    "NaN": (changed("value", [float("nan")]), "value holds an impossible number"),
    "infinite samples": (changed("samples", [[1.0, float("inf")]]), "samples holds an impossible"),
    "a null among samples": (changed("samples", [[1.0, None]]), "samples holds an impossible"),
    "a number that overflows": (changed("ci_high", [1e308]), "ci_high holds an impossible number"),
    "a negative count": (changed("chips", [-1]), "chips holds an impossible count"),
    "a time beyond the calendar": (endless, "impossible time"),
    "a value of a row that failed": (changed("status", ["failed"]), "not ok has a value"),
    "neither value nor reason": (changed("value", [None]), "neither a value nor a reason"),
    "params that are no JSON": (changed("params", ["{batch"]), "params holds .* no JSON object"),
    "params that are no object": (changed("params", ["[1]"]), "no JSON object: it is something"),
    "params with NaN": (changed("params", ['{"a": NaN}']), "no JSON object: NaN is no number"),
    "params with 1e999": (changed("params", ['{"a": 1e999}']), "beyond reason"),
    "params with 5,000 digits": (changed("params", [f'{{"a": {"9" * 5000}}}']), "beyond reason"),
    "params of half a character": (changed("params", ['{"a": "\\ud800"}']), "no JSON object"),
    "environment 50,000 deep": (changed("environment", ['{"a":' * 50_000]), "no JSON object"),
    "environment 20 deep": (
        changed("environment", ['{"a":' * 20 + "1" + "}" * 20]),
        "nested too deeply",
    ),
    "a text of a megabyte": (changed("reason", ["x" * 10**6]), "a text of 1,000,000 bytes"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    rows = [make_row(name, run_id=GOOD) for name in ("output_tok_s", "ttft_s")]
    facts.write(tmp_path / "store", "case", rows)
    return tmp_path / "store"


def run(*arguments: object) -> int:
    """Exit code of the command line."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["tpubench", *map(str, arguments)])
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("kind", ODDITIES)
def test_what_is_odd_is_named_and_the_rest_is_read(
    store: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, reason = ODDITIES[kind]
    path = store / ODD / "odd.parquet"
    path.parent.mkdir()
    make(path)
    selected = select(store, [])
    assert selected.table.num_rows == 2
    ((odd,),) = (selected.unreadable,)
    assert odd.path == path
    with pytest.raises(TpubenchError, match=reason) as caught:
        facts.load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)

    assert run("show", GOOD, "--store", store) == 0
    capsys.readouterr()
    assert run("show", "metric=ttft_s", "--json", "--store", store) == 0
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)) == 1
    (line,) = shown.err.splitlines()
    assert line.startswith(f"tpubench: warning: left out: {path} ")

    assert run("verify", "--json", "--store", store) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["file"] == str(path)

    for selector in (ODD, "latest") if path.is_dir() else (ODD, "latest", path):
        assert run("show", selector, "--store", store) == 2
        shown = capsys.readouterr()
        warning, error = shown.err.splitlines()
        assert warning.startswith(f"tpubench: warning: left out: {path} ")
        assert error == (
            "tpubench: error: nothing that was selected can be read: the only one left out"
        )
        assert not shown.out


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("show", GOOD), 0),
        (("compare", GOOD, GOOD), 0),
        (("compare", "metric=ttft_s", "metric=output_tok_s"), 2),
        (("report",), 0),
        (("gate", "--baseline", GOOD, "--candidate", GOOD), 2),
        (("gate", "--baseline", "release"), 2),
        (("history",), 0),
        (("history", "--metric", "mfu"), 2),
        (("price", "apply", "--usd-per-chip-hour", "2"), 0),
        (("price", "apply", "--usd-per-chip-hour", "2", "--run", "none"), 2),
        (("show", "colour=red"), 2),
        (("show", "deadbeef"), 2),
    ],
)
def test_every_command_that_reads_a_store_names_what_it_left_out(
    store: Path,
    command: tuple[str, ...],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (store / "elsewhere").symlink_to("/")
    assert run(*command, "--store", store) == code
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    left_out = f"{store / 'elsewhere'} cannot be read: a link to a folder is not followed"
    assert set(warnings) == {f"tpubench: warning: left out: {left_out}"}


def test_python_does_not_leave_an_unlisted_folder_out_silently(store: Path) -> None:
    import tpubench.results

    (store / "elsewhere").symlink_to("/")
    with pytest.raises(DamagedError, match="a link to a folder is not followed"):
        tpubench.results.read(store)


def test_a_folder_without_permission_is_named(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    closed = store / ODD
    facts.write(store, "case", [make_row(run_id=ODD)])
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):  # root may look into anything
            scandir = os.scandir

            def refuse(path: Any) -> Any:
                if Path(path) == closed:
                    raise PermissionError(13, "Permission denied", str(closed))
                return scandir(path)

            monkeypatch.setattr(os, "scandir", refuse)
        assert run("verify", "--store", store) == 1
        assert f"{closed}: cannot be read: Permission denied" in capsys.readouterr().out
        assert run("show", "latest", "--store", store) == 0
        assert f"left out: {closed} cannot be read" in capsys.readouterr().err
    finally:
        closed.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_somebody_else_is_told_which_folders_and_files_are_closed() -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        store = Path(name)
        store.chmod(0o755)
        for run_id in (GOOD, ODD):
            facts.write(store, "case", [make_row(run_id=run_id)])
        (store / ODD).chmod(0o700)
        (store / GOOD / "case.parquet").chmod(0o600)
        done = subprocess.run(
            [sys.executable, "-c", _AS_SOMEBODY_ELSE, str(store)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.splitlines() == [
        f"{store / ODD} cannot be read: Permission denied",
        f"{store / GOOD / 'case.parquet'} cannot be read: Permission denied",
    ]


_AS_SOMEBODY_ELSE = """
import os, sys
from pathlib import Path
from tpubench.results import store
import pyarrow.parquet, pyarrow.compute
os.setgid(65534); os.setuid(65534)
for bad in store.scan(store.files(Path(sys.argv[1]))).unreadable:
    print(bad.error)
"""


def test_a_store_that_is_no_folder_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "store")
    with pytest.raises(UsageError) as caught:
        select(tmp_path / "store", [])
    assert "it is a FIFO" in caught.value.left_out[0]
    assert not listing.files(tmp_path / "nowhere")


def test_the_file_is_not_waited_for_when_it_turns_into_a_fifo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and opening; opening a FIFO to read waits for a writer."""
    path = tmp_path / "odd.parquet"
    path.touch()
    regular = path.stat()
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: regular)
    with pytest.raises(DamagedError, match="it is a FIFO"):
        facts.load(path)


def test_columns_of_later_versions_that_clash_are_left_out(store: Path) -> None:
    for run_id, mood in ((GOOD, pa.array(["fine"])), (ODD, pa.array([1]))):
        table = to_table([make_row(run_id=run_id)]).append_column("mood", mood)
        (store / run_id).mkdir(exist_ok=True)
        (store / run_id / "later.parquet").write_bytes(stored(table))
    selected = select(store, [])
    assert not selected.unreadable
    assert selected.table.num_rows == 4
    assert "mood" not in selected.table.column_names


@pytest.mark.parametrize("seed", range(40))
def test_a_footer_that_ends_a_process_inside_pyarrow_is_an_error_here(
    tmp_path: Path, seed: int
) -> None:
    """pyarrow 26 aborts when asked for the metadata of about one in thirty of these."""
    rng = random.Random(seed)
    path = tmp_path / "odd.parquet"
    for make in (stored_structure.footer, stored_structure.column_types, stored_structure.offsets):
        path.write_bytes(make(BASE, rng))
        try:
            facts.load(path)
        except TpubenchError as error:
            assert "\n" not in str(error)


def test_nothing_is_stored_that_would_not_be_read(tmp_path: Path) -> None:
    for absurd in (make_row(value=1e200), make_row(reason="x" * 10**6), make_row(chips=-1)):
        with pytest.raises(UsageError, match="cannot store case: column"):
            facts.write(tmp_path, "case", [absurd])
    assert not list(tmp_path.rglob("*.parquet"))


def test_more_rows_than_a_reader_takes_in_a_file_go_into_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_layout, "FREE_ROWS", 20)
    rows = [make_row(repetition=number) for number in range(45)]
    first = facts.write(tmp_path, "case", rows)
    assert sorted(path.name for path in first.parent.iterdir()) == [
        "case-2.parquet",
        "case-3.parquet",
        "case.parquet",
    ]
    scanned = facts.scan(facts.files(tmp_path))
    assert not scanned.unreadable
    assert sorted(row.repetition for row in facts.iter_rows(scanned.table)) == list(range(45))


def test_a_check_of_rows_finds_no_fault_in_honest_ones() -> None:
    honest = [
        make_row(reason="because"),
        make_row(value=None, ci_low=None, ci_high=None, samples=[], reason="no device"),
        make_row(value=0.0, ci_low=-1e-90, ci_high=1e90),
        make_row(environment='{"check": NaN}', params="{}"),
    ]
    assert row_check.problem(to_table(honest)) is None
    assert row_check.problem(arrow_schema().empty_table()) is None


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "snappy"},
        {"compression": "none"},
        {"data_page_version": "2.0"},
        {"row_group_size": 1},
        {"use_dictionary": False},
        {"write_page_index": True},
        {"use_compliant_nested_type": False},
    ],
    ids=str,
)
def test_other_writers_ways_of_laying_rows_out_are_read(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(hostile.stored(BASE.table, **options))
    assert facts.load(path).equals(BASE.table)
    ours = facts.write(tmp_path, "case", [make_row()])
    assert facts.scan([path, ours]).table.num_rows == BASE.table.num_rows + 1


def test_pandas_and_pyarrow_defaults_are_read(tmp_path: Path) -> None:
    """What a user gets who loads a store, changes nothing, and writes it again."""
    path = tmp_path / "x.parquet"
    table = BASE.table.replace_schema_metadata({facts.DIGEST_KEY: facts.digest(BASE.table)})
    pq.write_table(table, path)
    assert facts.load(path).num_rows == BASE.table.num_rows
    out = io.BytesIO()
    pq.write_table(pa.concat_tables([table] * 3000), out)  # more than the free rows
    path.write_bytes(out.getvalue())
    with pytest.raises(DamagedError, match="it says that it has 27,000 rows"):
        facts.load(path)


@pytest.mark.parametrize("count", [120, pytest.param(2000, marks=pytest.mark.nightly)])
def test_mutated_files_are_refused_in_a_line_or_read_right(count: int, tmp_path: Path) -> None:
    """Every command that reads a store, in child processes; see benchmarks/fuzz_reader.py."""
    script = str(BENCHMARKS / "fuzz_reader.py")
    done = subprocess.run(
        [sys.executable, script, "store", "--count", str(count), "--seed", "10000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, total, _ = done.stdout.splitlines()
    assert total.split()[:2] == ["all", str(count)]
