"""Repetitions become one estimate; failures are counted, never averaged away."""

from __future__ import annotations

import pytest
from sample_rows import make_row

from tpubench.results.summary import summarise


def test_repetitions_of_a_case_are_one_estimate() -> None:
    rows = [make_row(repetition=n, samples=[rate]) for n, rate in enumerate((10.0, 20.0, 40.0))]
    (summary,) = summarise(rows)
    assert summary.estimate is not None
    assert summary.estimate.point == pytest.approx(20.0)
    assert summary.estimate.n == 3
    assert summary.failed == 0


def test_runs_metrics_and_prices_stay_apart() -> None:
    rows = [
        make_row(),
        make_row("ttft_s"),
        make_row(run_id="20260102T000000-bbbbbb"),
        make_row(price_id="given", usd_per_chip_hour=1.0),
    ]
    assert len(summarise(rows)) == 4


def test_a_failed_repetition_is_counted_in_every_metric_of_its_case() -> None:
    failed = make_row(status="failed", reason="timed out", value=None, samples=[], repetition=1)
    summaries = summarise([make_row(), make_row("ttft_s"), failed])
    assert [summary.failed for summary in summaries] == [1, 1]
    assert all(summary.estimate is not None for summary in summaries)


def test_a_case_that_only_failed_says_why() -> None:
    failed = make_row(status="failed", reason="timed out", value=None, samples=[])
    (summary,) = summarise([failed])
    assert summary.estimate is None
    assert (summary.reason, summary.failed) == ("timed out", 1)


def test_a_copied_file_is_no_further_repetition() -> None:
    (summary,) = summarise([make_row(), make_row()])
    assert summary.estimate is not None
    assert summary.estimate.n == 1
