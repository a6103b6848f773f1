"""Compaction merges the files of a run; no row is lost or doubled, wherever it is stopped."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sample_rows import make_row

from tpubench.errors import UsageError
from tpubench.results import compact as module
from tpubench.results import labels, parquet_layout, runs
from tpubench.results import store as facts
from tpubench.results.compact import compact
from tpubench.results.select import select
from tpubench.results.verify import verify_store

HERE = Path(__file__).parent
RUN, OTHER = "20260101T000000-aaaaaa", "20260102T000000-bbbbbb"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for run_id in (RUN, OTHER):
        for number in range(5):
            facts.write(tmp_path, f"case-{number}", [make_row(run_id=run_id, repetition=number)])
    labels.say(tmp_path, RUN, tags=["baseline"])
    return tmp_path


def rows(store: Path) -> list[str]:
    return sorted(map(repr, facts.iter_rows(facts.scan(facts.files(store)).table)))


def test_runs_keep_their_rows_names_and_labels_in_one_file_each(store: Path) -> None:
    before = rows(store)
    done = compact(store, quiet_s=-60)
    assert (done.runs, done.files_before, done.files_after, done.rows) == (2, 10, 2, 10)
    assert rows(store) == before and verify_store(store).ok
    assert len(facts.files(store)) == 2 and not list(store.glob(".*"))
    assert select(store, [RUN]).table.num_rows == select(store, ["latest"]).table.num_rows == 5
    assert select(store, ["tag=baseline", "repetition=3"]).table.num_rows == 1
    assert runs.delete(store, RUN) and runs.restore(store, RUN)
    assert rows(store) == before
    assert compact(store, quiet_s=-60).runs == 0
    facts.write(store, "case-7", [make_row(run_id=RUN, repetition=7)])
    assert compact(store, quiet_s=-60).runs == 1
    assert len(rows(store)) == len(before) + 1


def test_kill_minus_nine_at_every_point_loses_and_doubles_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "crash_compact.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["points"] > 40
    assert answer["wrong"] == 0


def test_a_run_that_may_not_have_ended_is_left_alone_and_named(store: Path) -> None:
    done = compact(store)
    assert done.runs == 0 and len(facts.files(store)) == 10
    assert any(RUN in sentence and "may not have ended" in sentence for sentence in done.left_out)


def test_what_cannot_be_read_stays_as_it_is_and_is_named(store: Path) -> None:
    bad = store / RUN / "case-1.parquet"
    bad.write_bytes(bad.read_bytes()[:-5])
    damaged = bad.read_bytes()
    done = compact(store, quiet_s=-60)
    assert bad.read_bytes() == damaged
    assert any(str(bad) in sentence for sentence in done.left_out)
    assert select(store, [RUN]).table.num_rows == 4
    os.mkfifo(store / OTHER / "odd")
    facts.write(store, "case-8", [make_row(run_id=OTHER, repetition=8)])
    assert any("'odd', which is no file" in each for each in compact(store, quiet_s=-60).left_out)


def test_more_rows_than_a_reader_takes_go_into_several_files(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(store)
    monkeypatch.setattr(parquet_layout, "FREE_ROWS", 2)
    assert compact(store, quiet_s=-60).files_after == 6
    assert rows(store) == before


def test_a_file_written_while_its_run_is_merged_is_moved_over(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange = module._exchange

    def late(run: Path, aside: Path) -> None:
        facts.write(store, "late", [make_row(run_id=run.name, repetition=99)])
        exchange(run, aside)

    monkeypatch.setattr(module, "_exchange", late)
    compact(store, quiet_s=-60)
    assert len(rows(store)) == 12
    assert (store / RUN / "late.parquet").exists()


def test_a_file_system_that_cannot_exchange_folders_is_one_clear_error(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(store)
    monkeypatch.setattr(module, "_EXCHANGE", 1 << 20)  # flags that no kernel knows
    with pytest.raises(UsageError, match="nothing changed"):
        compact(store, quiet_s=-60)
    assert rows(store) == before and not list(store.glob(".*"))
    with pytest.raises(UsageError, match="no results"):
        compact(store / "none")


def test_a_file_system_without_hard_links_is_compacted_by_copies(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows(store)

    def refuse(path: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert compact(store, quiet_s=-60).files_after == 2
    assert rows(store) == before and verify_store(store).ok
    assert labels.of_run(store, RUN).tags == ("baseline",)
