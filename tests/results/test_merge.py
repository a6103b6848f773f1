"""Stores brought together: every row once, none lost, contradictions named."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_rows import make_row

from tpubench.errors import UsageError
from tpubench.results import labels, runs
from tpubench.results import store as facts
from tpubench.results.merge import merge
from tpubench.results.row import Row
from tpubench.results.verify import verify_store

RUN, OTHER = "20260101T000000-aaaaaa", "20260102T000000-bbbbbb"


def rows(store: Path) -> list[Row]:
    return list(facts.iter_rows(facts.scan(facts.files(store)).table))


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Path, Path, Path]:
    a, b, into = (tmp_path / name for name in ("a", "b", "into"))
    facts.write(a, "case-000", [make_row(run_id=RUN), make_row("ttft_s", run_id=RUN)])
    facts.write(b, "case-000", [make_row(run_id=OTHER)])
    facts.write(b, "case-001", [make_row(run_id=RUN, repetition=1)])
    labels.say(a, RUN, tags=["baseline"])
    return a, b, into


def test_every_row_comes_once_with_its_labels(stores: tuple[Path, Path, Path]) -> None:
    a, b, into = stores
    done = merge([a, b], into)
    assert (done.rows, done.runs, done.labels, done.ok) == (4, {RUN, OTHER}, 1, True)
    assert sorted(map(repr, rows(into))) == sorted(map(repr, rows(a) + rows(b)))
    copied = (into / RUN / "case-000.parquet").read_bytes()
    assert copied == (a / RUN / "case-000.parquet").read_bytes()
    assert labels.of_run(into, RUN).tags == ("baseline",)
    again = merge([a, b, a], into)
    assert (again.rows, again.labels, again.there_already, again.ok) == (0, 0, 6, True)
    assert verify_store(into).ok and len(rows(into)) == 4


def test_only_the_rows_that_are_missing_come(stores: tuple[Path, Path, Path]) -> None:
    a, _, into = stores
    facts.write(into, "case-000", [make_row(run_id=RUN)])
    done = merge([a], into)
    assert (done.rows, done.there_already, done.ok) == (1, 1, True)
    assert sorted(row.metric for row in rows(into)) == ["output_tok_s", "ttft_s"]
    assert verify_store(into).ok


def test_what_contradicts_itself_is_named_and_what_is_in_place_stays(
    stores: tuple[Path, Path, Path],
) -> None:
    a, _, into = stores
    facts.write(into, "case-000", [make_row(run_id=RUN, reason="another")])
    done = merge([a], into)
    (conflict,) = done.conflicts
    assert RUN in conflict and "output_tok_s" in conflict and str(a) in conflict
    assert not done.ok and done.rows == 1
    assert {row.metric: row.reason for row in rows(into)}["output_tok_s"] == "another"


def test_a_damaged_file_is_named_and_the_others_come(stores: tuple[Path, Path, Path]) -> None:
    a, b, into = stores
    bad = b / RUN / "case-001.parquet"
    bad.write_bytes(bad.read_bytes()[:-20])
    done = merge([a, b], into)
    assert done.rows == 3 and not done.ok
    (sentence,) = done.left_out
    assert str(bad) in sentence


def test_a_run_that_was_deleted_does_not_come_back_unasked(
    stores: tuple[Path, Path, Path],
) -> None:
    a, b, into = stores
    merge([a, b], into)
    runs.delete(into, RUN)
    done = merge([a, b], into)
    assert done.rows == 0 and any("restore it first" in each for each in done.left_out)
    assert not (into / RUN).exists()


def test_a_run_id_from_anybody_leads_nowhere_outside(stores: tuple[Path, Path, Path]) -> None:
    a, _, into = stores
    written = facts.write(a, "x", [make_row(run_id="x/../../../escaped")])
    done = merge([written], into)
    assert done.rows == 0 and "is no run id" in done.left_out[0]
    assert {path.name for path in into.iterdir()} == set()


def test_a_dry_run_writes_nothing_and_nonsense_is_refused(
    stores: tuple[Path, Path, Path],
) -> None:
    a, b, into = stores
    assert merge([a, b], into, dry_run=True).rows == 4
    assert not into.exists()
    with pytest.raises(UsageError, match="no results in"):
        merge([a, into / "nowhere"], into)
    with pytest.raises(UsageError, match="the store to merge into"):
        merge([a, b], a)
    assert not into.exists()
