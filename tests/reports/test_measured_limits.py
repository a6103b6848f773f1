"""Programs against what gemm and hbm reached on the same device."""

from __future__ import annotations

import datetime as dt

import pytest
from page_rows import inference, limits, scan
from pytest import approx

from tpubench.reports.findings import find
from tpubench.reports.measured_limits import Against, against
from tpubench.reports.roofline import place
from tpubench.results.row import Row


def held(rows: list[Row]) -> dict[str, Against]:
    summaries = find(scan(rows), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)).summaries
    return {one.placement.phase: one for one in against(place(summaries)[0], summaries)}


def test_the_lesser_limit_counts_and_says_which_it_is() -> None:
    # gemm reached 1e11 FLOP/s and hbm 1e10 byte/s; a prefill does 100 FLOPs a byte, a decode one.
    limit_by_phase = held([*inference(repetitions=1), *limits()])
    assert (limit_by_phase["prefill"].bound, limit_by_phase["prefill"].possible_flop_s) == (
        "gemm",
        approx(1e11),
    )
    assert (limit_by_phase["decode"].bound, limit_by_phase["decode"].possible_flop_s) == (
        "hbm",
        approx(1e10),
    )
    attained = 400 / 28 * 1e8
    assert limit_by_phase["decode"].share == approx(attained / 1e10)


def test_several_chips_have_the_limits_of_as_many() -> None:
    limit_by_phase = held([*inference(chips=4), *limits()])
    assert limit_by_phase["prefill"].possible_flop_s == approx(4e11)


@pytest.mark.parametrize("changes", [{"device": "tpu-v6e"}, {"dtype": "int8"}, {"chips": 8}])
def test_another_device_precision_or_number_of_chips_is_no_limit(changes: dict[str, str]) -> None:
    assert held([*inference(repetitions=1), *limits(**changes)]) == {}


def test_a_made_up_clock_is_no_limit_of_a_real_device() -> None:
    assert held([*inference(repetitions=1), *limits(backend="fake")]) == {}


def test_without_limits_there_is_nothing_to_hold_against() -> None:
    assert held(inference(repetitions=1)) == {}
