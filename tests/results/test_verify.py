"""Every stored figure is recomputed from its samples."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_rows import make_row

from tpubench.errors import UsageError
from tpubench.results import store as facts
from tpubench.results.row import Row
from tpubench.results.verify import verify, verify_store


def priced(**changes: object) -> list[Row]:
    run = {"run_id": changes["run_id"]} if "run_id" in changes else {}
    rate = make_row("output_tok_s", [100.0, 200.0], chips=4, **run)
    bill = 1e6 * 4 * 1.5 / 3600
    cost = make_row(
        "usd_per_mtok_out",
        [bill / 100.0, bill / 200.0],
        chips=4,
        usd_per_chip_hour=1.5,
        price_id="given",
        **changes,
    )
    per_chip = make_row("output_tok_s_per_chip", [25.0, 50.0], chips=4, **run)
    return [rate, cost, per_chip]


def test_honest_rows_pass() -> None:
    assert verify([make_row("ttft_s", [1.0, 2.0, 3.0]), *priced()]) == []


@pytest.mark.parametrize("change", [{"value": 10.9}, {"ci_low": 1.0}, {"ci_high": None}])
def test_a_figure_that_does_not_follow_is_found(change: dict[str, float | None]) -> None:
    (mismatch,) = verify([make_row(**change)])
    assert "its samples give" in mismatch.problem


def test_a_price_that_was_swapped_is_found() -> None:
    rate, cost, per_chip = priced()
    other = make_row("output_tok_s", [100.0, 201.0], chips=4)
    problems = [mismatch.problem for mismatch in verify([other, cost, per_chip])]
    assert len(problems) == 2
    assert all("do not follow from output_tok_s" in problem for problem in problems)
    assert [mismatch.problem for mismatch in verify([cost])] == [
        "output_tok_s, which it is derived from, is not stored with it"
    ]
    del rate


def test_a_measurement_needs_samples_and_an_imported_figure_does_not() -> None:
    (mismatch,) = verify([make_row(samples=[], value=3.0)])
    assert "without samples" in mismatch.problem
    assert verify([make_row(samples=[], value=3.0, evidence="published")]) == []


def test_a_unit_that_was_changed_is_found() -> None:
    (mismatch,) = verify([make_row(unit="token/min")])
    assert "unit" in mismatch.problem


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    facts.write(tmp_path, "good", [make_row()])
    bad = facts.write(tmp_path, "bad", [make_row()])
    bad.write_bytes(bad.read_bytes()[:50])
    verification = verify_store(tmp_path)
    assert not verification.ok
    assert [item.path for item in verification.damaged] == [bad]
    assert verification.rows == 1


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        verify_store(tmp_path)


def test_a_repetition_stored_twice_is_found() -> None:
    (mismatch,) = verify([make_row(), make_row()])
    assert "stored twice" in mismatch.problem


def test_many_files_are_checked_by_several_processes_and_nothing_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tpubench.results.shares.FEW", 3)
    runs = [f"20260101T{number:06d}-aaaaaa" for number in range(12)]
    for run_id in runs:
        rate, cost, per_chip = priced(run_id=run_id)
        facts.write(tmp_path, "case", [rate, per_chip])
        facts.write(tmp_path, "priced-later", [cost])  # beside its rate, in a file of its own
    assert verify_store(tmp_path).ok
    facts.write(
        tmp_path, "again", [make_row("output_tok_s", [100.0, 200.0], chips=4, run_id=runs[0])]
    )
    facts.write(tmp_path, "wrong", [make_row("ttft_s", run_id=runs[5], value=9.0)])
    alone = [row for row in priced(run_id="20270101T000000-bbbbbb") if row.usd_per_chip_hour]
    facts.write(tmp_path, "alone", alone)
    bad = tmp_path / runs[9] / "case.parquet"
    bad.write_bytes(bad.read_bytes()[:-1])
    verification = verify_store(tmp_path)
    assert [each.path for each in verification.damaged] == [bad]
    assert verification.rows == 12 * 3 - 2 + 3
    problems = {(each.run_id, each.metric, each.problem) for each in verification.mismatches}
    missing = "output_tok_s, which it is derived from, is not stored with it"
    assert problems == {
        (runs[0], "output_tok_s", "repetition 0 is stored twice"),
        (runs[5], "ttft_s", "value is 9.0, its samples give 11.0"),
        (runs[9], "usd_per_mtok_out", missing),
        ("20270101T000000-bbbbbb", "usd_per_mtok_out", missing),
    }
