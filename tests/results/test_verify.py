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
    rate = make_row("output_tok_s", [100.0, 200.0], chips=4)
    bill = 1e6 * 4 * 1.5 / 3600
    cost = make_row(
        "usd_per_mtok_out",
        [bill / 100.0, bill / 200.0],
        chips=4,
        usd_per_chip_hour=1.5,
        price_id="given",
        **changes,
    )
    per_chip = make_row("output_tok_s_per_chip", [25.0, 50.0], chips=4)
    return [rate, cost, per_chip]


def test_honest_rows_pass() -> None:
    assert verify([make_row("ttft_s", [1.0, 2.0, 3.0]), *priced()]) == []


@pytest.mark.parametrize("change", [{"value": 10.9}, {"ci_low": 1.0}, {"ci_high": None}])
def test_a_figure_that_does_not_follow_is_found(change: dict[str, float | None]) -> None:
    (found,) = verify([make_row(**change)])
    assert "its samples give" in found.problem


def test_a_price_that_was_swapped_is_found() -> None:
    rate, cost, per_chip = priced()
    other = make_row("output_tok_s", [100.0, 201.0], chips=4)
    problems = [found.problem for found in verify([other, cost, per_chip])]
    assert len(problems) == 2
    assert all("do not follow from output_tok_s" in problem for problem in problems)
    assert [found.problem for found in verify([cost])] == [
        "output_tok_s, which it is derived from, is not stored with it"
    ]
    del rate


def test_a_measurement_needs_samples_and_an_imported_figure_does_not() -> None:
    (found,) = verify([make_row(samples=[], value=3.0)])
    assert "without samples" in found.problem
    assert verify([make_row(samples=[], value=3.0, evidence="published")]) == []


def test_a_unit_that_was_changed_is_found() -> None:
    (found,) = verify([make_row(unit="token/min")])
    assert "unit" in found.problem


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    facts.write(tmp_path, "good", [make_row()])
    bad = facts.write(tmp_path, "bad", [make_row()])
    bad.write_bytes(bad.read_bytes()[:50])
    found = verify_store(tmp_path)
    assert not found.ok
    assert [item.path for item in found.damaged] == [bad]
    assert found.rows == 1


def test_nothing_to_verify_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no results"):
        verify_store(tmp_path)


def test_a_repetition_stored_twice_is_found() -> None:
    (found,) = verify([make_row(), make_row()])
    assert "stored twice" in found.problem
