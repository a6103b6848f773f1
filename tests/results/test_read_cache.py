"""What was checked once is not checked again, and is never believed against the store."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_rows import make_row

from tpubench.errors import UsageError
from tpubench.results import read_cache, rows, shares
from tpubench.results import store as facts
from tpubench.results.listing import files
from tpubench.results.select import select

FILES = 40
SELECTORS: list[list[str]] = [
    [],
    ["metric=ttft_s"],
    ["metric=ttft_s", "batch=3"],
    ["device=v6e", "repetition=1"],
    ["started_at=2026-01-01 00:00:00+00:00", "batch=2"],
    ["price_id="],
    ["git_sha=0000000", "metric=tpot_s"],
    ["batch=99"],
]


def run_id(number: int) -> str:
    return f"20260101T{number:06d}-aaaaaa"


def write(store: Path, number: int, **changes: object) -> Path:
    cells = {
        "run_id": run_id(number),
        "params": json.dumps({"batch": number % 5}),
        "device": ("tpu-v6e", "cpu")[number % 2],
        "git_sha": f"{number % 3:040x}" if number % 4 else None,
        "environment": json.dumps({"number": number}),
        **changes,
    }
    names = ("ttft_s", "tpot_s", "output_tok_s")
    new_rows = [make_row(name, repetition=r, **cells) for r in range(2) for name in names]
    return facts.write(store, "case", new_rows)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(read_cache, "YOUNG_S", -60.0)
    monkeypatch.setattr(read_cache, "FEW", 2)
    for number in range(FILES):
        write(tmp_path / "store", number)
    return tmp_path / "store"


@pytest.fixture
def read_files(store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files of the store that are read from now on, each with every check."""
    read: list[Path] = []
    load = facts.load

    def counting(path: Path) -> object:
        read.append(path)
        return load(path)

    monkeypatch.setattr(read_cache, "load", counting)
    yield read


def without_cache(store: Path, selectors: list[str]) -> list[dict[str, object]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_cache, "FEW", 10**9)
        return facts.records(select(store, selectors).table)


def with_cache(store: Path, selectors: list[str]) -> list[dict[str, object]]:
    selected = select(store, selectors)
    assert not selected.unreadable
    assert selected.table.schema == facts.arrow_schema()
    return facts.records(selected.table)


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache").rglob("*.*"))


@pytest.mark.parametrize("selectors", SELECTORS, ids=str)
def test_answers_are_the_same_and_no_file_is_read_again(
    store: Path, read_files: list[Path], selectors: list[str]
) -> None:
    expected = without_cache(store, selectors)
    assert with_cache(store, selectors) == expected
    assert len(read_files) == FILES
    assert with_cache(store, selectors) == expected
    assert len(read_files) == FILES


def test_a_file_that_is_new_changed_or_gone_is_noticed(store: Path, read_files: list[Path]) -> None:
    with_cache(store, [])
    read_files.clear()
    new = write(store, FILES, preset="new")
    changed = store / run_id(3) / "case.parquet"
    changed.unlink()
    write(store, 3, preset="changed")
    (store / run_id(5) / "case.parquet").unlink()
    selected = with_cache(store, ["metric=ttft_s"])
    assert selected == without_cache(store, ["metric=ttft_s"])
    assert {row["preset"] for row in selected} == {"tiny", "new", "changed"}
    assert run_id(5) not in {row["run_id"] for row in selected}
    assert set(read_files) == {new, changed}


def test_a_file_that_is_damaged_after_it_was_read_is_named(store: Path) -> None:
    with_cache(store, [])
    path = store / run_id(7) / "case.parquet"
    status, data = path.stat(), bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if nothing had happened
    for selectors in ([], ["metric=ttft_s"]):
        selected = select(store, selectors)
        assert [bad.path for bad in selected.unreadable] == [path]
        assert run_id(7) not in set(selected.table["run_id"].to_pylist())


def test_a_file_that_may_still_change_unseen_is_not_kept(
    store: Path, read_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_cache, "YOUNG_S", 1e6)
    for _ in range(2):
        assert len(with_cache(store, ["metric=ttft_s"])) == 2 * FILES
    assert len(read_files) >= FILES


def test_whatever_happens_to_what_is_kept_answers_stay_right(store: Path, tmp_path: Path) -> None:
    expected = with_cache(store, ["metric=ttft_s"])
    chance = random.Random(3)
    whole = {path: path.read_bytes() for path in kept(tmp_path)}
    assert len(whole) >= 2
    for trial in range(60):
        for path, data in whole.items():
            path.write_bytes(data)
        path = chance.choice(list(whole))
        damaged = bytearray(whole[path])
        place = chance.randrange(len(damaged))
        if trial % 3 == 0:
            damaged = damaged[:place]
        elif trial % 3 == 1:
            damaged[place] ^= 1 << chance.randrange(8)
        else:
            damaged[place : place + 64] = bytes(64)
        path.write_bytes(damaged)
        assert with_cache(store, ["metric=ttft_s"]) == expected
    for path in kept(tmp_path):
        path.unlink()
    assert with_cache(store, ["metric=ttft_s"]) == expected


def test_what_another_store_left_is_not_taken_for_this_ones(store: Path, tmp_path: Path) -> None:
    with_cache(store, [])
    (mine,) = (tmp_path / "cache" / "tpubench" / "stores").iterdir()
    other = tmp_path / "other"
    for number in range(FILES):
        write(other, number, preset="other")
    with_cache(other, [])
    (theirs,) = set(mine.parent.iterdir()) - {mine}
    for path in theirs.iterdir():
        path.rename(mine / path.name)
    (mine / "nonsense.json").write_text("{}")
    (mine / "folder.json").mkdir()
    assert {row["preset"] for row in with_cache(store, [])} == {"tiny"}


def test_where_nothing_can_be_kept_files_are_read_as_ever(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = without_cache(store, ["metric=ttft_s"])
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/none"), Path("relative")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        assert with_cache(store, ["metric=ttft_s"]) == expected
    assert not Path("relative").exists()


def test_rows_of_many_small_reads_are_gathered(
    store: Path, tmp_path: Path, read_files: list[Path]
) -> None:
    for number in range(FILES, FILES + 20 * 3):
        write(store, number)
        if number % 3 == 0:
            assert len(with_cache(store, ["metric=ttft_s"])) == 2 * (number + 1)
    gathered = len(read_files)
    assert len(with_cache(store, [])) == 6 * (FILES + 60)
    assert len(read_files) <= gathered + 2


def test_columns_of_later_versions_are_read_beside_what_is_kept(store: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tpubench.results.row import to_table
    from tpubench.results.seal import columns_sha256

    table = to_table([make_row(run_id=run_id(90))]).append_column("mood", pa.array(["fine"]))
    table = table.replace_schema_metadata({facts.COLUMNS_KEY: columns_sha256(table)})
    (store / run_id(90)).mkdir()
    pq.write_table(table, store / run_id(90) / "later.parquet")
    for _ in range(2):
        selected = select(store, [])
        assert selected.table.num_rows == 6 * FILES + 1
        assert selected.table["mood"].to_pylist() == [None] * 6 * FILES + ["fine"]
        assert select(store, ["mood=fine"]).table.num_rows == 1
        assert select(store, ["mood="]).table.num_rows == 6 * FILES


def test_more_values_than_a_query_holds(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "_IN_SQL", 1)
    for selectors in SELECTORS:
        assert with_cache(store, selectors) == without_cache(store, selectors)


_READ = """
import sys
from pathlib import Path
from tpubench.results import read_cache
from tpubench.results.listing import files
from tpubench.results.select import select
read_cache.YOUNG_S, read_cache.FEW = -60.0, 2
selected = select(Path(sys.argv[1]), ["metric=ttft_s"])
assert not selected.unreadable
print(selected.table.num_rows)
"""


def test_many_files_are_read_in_shares_and_the_answers_are_the_same(
    store: Path, read_files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "FEW", 3)
    expected = without_cache(store, [])
    with monkeypatch.context() as patch:
        patch.setattr(shares, "spread", lambda work, parts: [work(part) for part in parts])
        patch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
        assert with_cache(store, []) == expected
    assert len(read_files) == FILES
    assert with_cache(store, []) == expected
    assert len(read_files) == FILES


def test_whatever_its_processes_keep_the_answers_are_the_same(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To processes of their own some of these files are too young to be kept."""
    monkeypatch.setattr(shares, "FEW", 3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    expected = without_cache(store, [])
    assert with_cache(store, []) == expected
    assert with_cache(store, []) == expected


def test_several_processes_may_read_at_once(store: Path) -> None:
    readers = [
        subprocess.Popen([sys.executable, "-c", _READ, str(store)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [int(reader.communicate()[0]) for reader in readers] == [2 * FILES] * 4
    assert not list(store.parent.rglob("*.tmp"))


def test_a_cache_that_goes_away_while_it_is_read_is_one_line(store: Path, tmp_path: Path) -> None:
    select(store, [])
    selected = rows.rows_of(store, files(store))
    assert selected.kept is not None
    for segment in (tmp_path / "cache").rglob("*.parquet"):
        segment.unlink()
    with pytest.raises(UsageError, match="run the command again"):
        selected.read()
    with pytest.raises(UsageError, match="run the command again"):
        len(selected)
