"""Runs of a store: listed, tagged, noted, deleted and brought back; nothing is lost by accident."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from sample_rows import make_row

from tpubench.errors import UsageError
from tpubench.results import labels, runs
from tpubench.results import store as facts
from tpubench.results.calibration import as_calibration
from tpubench.results.select import select

FIRST, LAST = "20260101T000000-aaaaaa", "20260102T000000-bbbbbb"
EARLY, LATE = (dt.datetime(2026, 1, day, tzinfo=dt.UTC) for day in (1, 2))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    failed = {"status": "failed", "value": None, "samples": None, "ci_low": None, "ci_high": None}
    facts.write(tmp_path, "case-000", [make_row(run_id=LAST, started_at=LATE)])
    facts.write(
        *(tmp_path, "case-000"),
        [
            make_row(run_id=FIRST, started_at=EARLY),
            make_row("ttft_s", run_id=FIRST, started_at=EARLY),
            make_row(run_id=FIRST, started_at=EARLY, repetition=1, reason="oom", **failed),
        ],
    )
    return tmp_path


def listed(store: Path, *selectors: str) -> dict[str, runs.Run]:
    return {run.run_id: run for run in runs.stored_runs(store, selectors)[0]}


def test_runs_are_listed_the_latest_last_with_what_failed(store: Path) -> None:
    runs_listed = listed(store)
    assert list(runs_listed) == [FIRST, LAST]
    assert (
        runs_listed[FIRST].cases,
        runs_listed[FIRST].repetitions,
        runs_listed[FIRST].failed,
    ) == (1, 2, 1)
    facts.write(store, "gemm", [as_calibration(make_row("flop_s", run_id=LAST, workload="gemm"))])
    assert listed(store)[LAST].workloads == ("llama-infer",)  # not what measured the machine
    assert list(listed(store, "latest")) == [LAST]
    imported = "20260103T000000-cccccc"  # of last year, and brought in after the others
    facts.write(store, "0", [make_row(run_id=imported, started_at=EARLY.replace(year=2025))])
    assert list(listed(store))[-1:] == list(listed(store, "latest")) == [imported]


def test_tags_and_notes_add_up_and_writers_need_not_know_of_each_other(store: Path) -> None:
    labels.say(store, FIRST, tags=["baseline", "v1.2"])
    labels.say(store, FIRST, tags=["slow"], note="before the upgrade")
    labels.say(store, FIRST, untags=["slow", "absent"], note="and after")
    labelled = labels.of_run(store, FIRST)
    assert labelled.tags == ("baseline", "v1.2")
    assert [note.text for note in labelled.notes] == ["before the upgrade", "and after"]
    assert labels.of_store(store) == {FIRST: labelled} and listed(store)[LAST].labels.tags == ()
    assert len(list((store / FIRST).glob("*.label.json"))) == 3  # nothing said was overwritten
    assert not list((store / FIRST).glob(".*"))


@pytest.mark.parametrize("tag", ["", "a b", "../x", "-x", "é", "x" * 65, "a\n"])
def test_a_tag_is_a_plain_word(store: Path, tag: str) -> None:
    with pytest.raises(UsageError, match="is no tag"):
        labels.say(store, FIRST, tags=[tag])


@pytest.mark.parametrize("note", ["", " ", "\x1b[2J", "x" * 2001])
def test_a_note_is_a_sentence(store: Path, note: str) -> None:
    with pytest.raises(UsageError, match="a note is"):
        labels.say(store, FIRST, note=note)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"tags": [1], "untags": [], "note": null, "at": ""}', "[" * 9999],
)
def test_a_label_that_is_none_is_named_and_hides_no_other(store: Path, content: str) -> None:
    labels.say(store, FIRST, tags=["kept"])
    odd = store / FIRST / "0.label.json"
    odd.write_text(content)
    os.mkfifo(store / FIRST / "1.label.json")
    runs_listed, left_out = runs.stored_runs(store, [])
    assert runs_listed[0].labels.tags == ("kept",)
    assert left_out[0] == f"{odd} is no label" and len(left_out) == 2


def test_a_deleted_run_is_out_of_sight_and_comes_back_whole(store: Path) -> None:
    labels.say(store, FIRST, tags=["baseline"])
    before = {path.name: path.read_bytes() for path in (store / FIRST).iterdir()}
    kept = runs.delete(store, FIRST)
    assert list(listed(store)) == [LAST] and runs.deleted(store) == [FIRST]
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    # The run was still being written, and is deleted once more.
    facts.write(store, "case-001", [make_row(run_id=FIRST, started_at=EARLY, repetition=2)])
    runs.delete(store, FIRST)
    assert runs.restore(store, FIRST) == 3
    assert {path.name for path in (store / FIRST).iterdir()} == {*before, "case-001.parquet"}
    assert runs.deleted(store) == [] and list(listed(store)) == [FIRST, LAST]


def test_bringing_back_replaces_nothing(store: Path) -> None:
    runs.delete(store, FIRST)
    facts.write(store, "case-000", [make_row(run_id=FIRST, started_at=EARLY, value=9.0)])
    with pytest.raises(UsageError, match="exists"):
        runs.restore(store, FIRST)
    assert select(store, [FIRST]).table["value"].to_pylist() == [9.0]
    assert runs.deleted(store) == [FIRST]


def test_one_run_is_named_and_no_folder_outside(store: Path) -> None:
    assert runs.one(store, "latest") == LAST
    for odd in ("..", ".", "nowhere", "metric=ttft_s", "published"):
        with pytest.raises(UsageError):
            runs.one(store, odd)
    facts.write(store / "inner", "x", [make_row(run_id="20260103T000000-cccccc")])
    with pytest.raises(UsageError, match="do not lie in a folder"):
        runs.one(store, "20260103T000000-cccccc")
    (store / FIRST / "case-000.parquet").write_bytes(b"damaged")
    assert runs.one(store, FIRST) == FIRST  # a damaged run can be deleted too
