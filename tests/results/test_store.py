"""The store loses nothing that was acknowledged and never reads damage as data."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sample_rows import make_row

from tpubench.errors import DamagedError, TpubenchError, UsageError
from tpubench.results import store as facts
from tpubench.results.row import to_table

HERE = Path(__file__).parent


def test_what_storing_imports_is_there_once_it_is_ready(tmp_path: Path) -> None:
    """Or a parent imports for a second beside a child that measures."""
    program = (
        "import sys; from pathlib import Path; from tpubench.results import store, statistics\n"
        "store.get_ready(); ready = set(sys.modules)\n"
        "from sample_rows import make_row\n"
        "statistics.within('median', [1.0, 2.0, 4.0])\n"
        f"store.write(Path({str(tmp_path)!r}), 'gemm', [make_row()])\n"
        "late = {name.split('.')[0] for name in set(sys.modules) - ready}\n"
        "print(sorted(late & {'pandas', 'scipy', 'numpy', 'pyarrow', 'pydantic'}))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent.parent), *filter(None, sys.path)])
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "[]\n"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    row = make_row()
    path = facts.write(tmp_path, "case-000", [row])
    assert path == tmp_path / row.run_id / "case-000.parquet"
    assert list(facts.iter_rows(facts.load(path))) == [row]
    assert [p.name for p in path.parent.iterdir()] == ["case-000.parquet"]


def test_facts_are_never_overwritten(tmp_path: Path) -> None:
    path = facts.write(tmp_path, "case", [make_row()])
    before = path.read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        facts.write(tmp_path, "case", [make_row(samples=[99.0, 98.0])])
    assert path.read_bytes() == before


def test_files_are_compressed_and_checksummed(tmp_path: Path) -> None:
    path = facts.write(tmp_path, "case", [make_row()])
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"


@pytest.mark.parametrize("kills", [200, pytest.param(1000, marks=pytest.mark.nightly)])
def test_kill_minus_nine_loses_nothing_acknowledged(tmp_path: Path, kills: int) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "crash_writer.py", tmp_path, str(kills), "7"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["acknowledged"] > kills / 2
    assert answer["lost"] == 0


def test_sixteen_writers_keep_every_row_once(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        for repetition in range(100):
            row = make_row(run_id=f"run-{writer % 4}", repetition=repetition)
            facts.write(tmp_path, f"writer-{writer}-{repetition}", [row])

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(write, range(16)))
    scanned = facts.scan(facts.files(tmp_path))
    assert scanned.table.num_rows == 1600
    assert not scanned.unreadable


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "link", "open", "close"])
def test_a_disk_that_refuses_is_reported_and_leaves_a_valid_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    facts.write(tmp_path, "before", [make_row()])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", refuse)
        elif call == "link":
            patch.setattr(Path, "hardlink_to", refuse)
        elif call == "open":
            patch.setattr(Path, "open", refuse)
        else:
            patch.setattr(pq, "write_table", refuse)
        with pytest.raises(facts.NotStoredError, match=os.strerror(code)):
            facts.write(tmp_path, "during", [make_row()])
    scanned = facts.scan(facts.files(tmp_path))
    assert not scanned.unreadable
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_file_system_without_hard_links_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    path = facts.write(tmp_path, "case", [make_row()])
    assert facts.load(path).num_rows == 1
    with pytest.raises(UsageError, match="never overwritten"):
        facts.write(tmp_path, "case", [make_row()])


@pytest.mark.parametrize("kind", ["flip", "zero", "truncate"])
def test_damage_is_never_read_as_data(tmp_path: Path, kind: str) -> None:
    rows = [make_row(metric, [1.0, 2.0, 3.0]) for metric in ("ttft_s", "tpot_s", "output_tok_s")]
    path = facts.write(tmp_path, "case", rows)
    whole, good = path.read_bytes(), facts.load(path).to_pylist()
    chance = random.Random(kind)
    silent = 0
    for _ in range(1000):
        damaged = bytearray(whole)
        if kind == "flip":
            damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        elif kind == "zero":
            start = chance.randrange(len(whole))
            damaged[start : start + 64] = bytes(len(damaged[start : start + 64]))
        else:
            del damaged[chance.randrange(len(whole)) :]
        path.write_bytes(damaged)
        try:
            silent += facts.load(path).to_pylist() != good
        except TpubenchError as error:
            assert str(path) in str(error)
    assert silent == 0


def test_one_damaged_file_does_not_hide_the_others(tmp_path: Path) -> None:
    facts.write(tmp_path, "good", [make_row()])
    bad = facts.write(tmp_path, "bad", [make_row()])
    bad.write_bytes(bad.read_bytes()[:-10])
    scanned = facts.scan(facts.files(tmp_path))
    assert scanned.table.num_rows == 1
    assert [item.path for item in scanned.unreadable] == [bad]


def _write_table(path: Path, table: pa.Table) -> Path:
    table = table.replace_schema_metadata({facts.DIGEST_KEY: facts.digest(table).encode()})
    pq.write_table(table, path)
    return path


def test_columns_from_a_later_minor_version_are_kept(tmp_path: Path) -> None:
    table = to_table([make_row()]).append_column("mood", pa.array(["fine"]))
    path = _write_table(tmp_path / "new.parquet", table)
    assert facts.load(path)["mood"].to_pylist() == ["fine"]


def test_a_newer_schema_is_refused_by_name(tmp_path: Path) -> None:
    path = _write_table(tmp_path / "new.parquet", to_table([make_row(schema_version=2)]))
    with pytest.raises(facts.NewerSchemaError, match="upgrade tpubench"):
        facts.load(path)


def test_a_foreign_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(DamagedError, match="not a tpubench file"):
        facts.load(path)


def test_the_first_released_layout_still_loads() -> None:
    path = HERE / "fixtures" / "schema-1.parquet"
    (row,) = facts.iter_rows(facts.load(path))
    assert row == make_row(reason="a fixture of schema version 1")


def test_a_folder_that_nobody_may_write_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        facts.prepare(Path("/proc/store"))


def test_a_store_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        facts.prepare(tmp_path / "store")
