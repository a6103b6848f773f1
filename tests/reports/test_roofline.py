"""The roofline: intensity and attained FLOP/s from stored facts, or the reason why not."""

from __future__ import annotations

import datetime as dt

import pytest
from page_rows import PEAKS, WORK, environment, inference, limits, scan

from tpubench.reports.findings import find
from tpubench.reports.roofline import Roof, RooflinePoint, Unplaced, place
from tpubench.results.row import Row


def placed(rows: list[Row]) -> tuple[list[RooflinePoint], list[Unplaced]]:
    return place(find(scan(rows), dt.datetime(2026, 1, 2, tzinfo=dt.UTC)).summaries)


def test_each_phase_is_placed_by_its_own_work_and_rate() -> None:
    placements, missing = placed(inference(repetitions=1))
    by_phase = {placement.phase: placement for placement in placements}
    assert not missing
    assert by_phase["prefill"].flops_per_byte == 100
    assert by_phase["prefill"].flop_s.point == pytest.approx(2000 / 64 * 1e9)
    assert by_phase["decode"].flops_per_byte == 1
    assert by_phase["decode"].flop_s.point == pytest.approx(400 / 28 * 1e8)


def test_the_interval_between_repetitions_comes_along() -> None:
    decode = next(p for p in placed(inference())[0] if p.phase == "decode")
    low, high = decode.flop_s.low, decode.flop_s.high
    assert low is not None and high is not None
    assert low < decode.flop_s.point < high
    assert decode.flop_s.n == 3


def test_what_limits_a_phase_follows_from_the_ridge() -> None:
    limit = {p.phase: p.limit() for p in placed(inference())[0]}
    assert limit == {"prefill": "arithmetic", "decode": "memory"}  # the ridge is at 10 FLOP a byte


def test_the_roof_is_that_of_all_chips_together() -> None:
    (first, *_) = placed(inference(chips=4))[0]
    assert first.roof is not None
    assert (first.roof.flop_s, first.roof.bytes_s) == (4e12, 4e11)
    assert first.roof.at(1.0) == 4e11
    assert first.roof.at(1000.0) == 4e12


def test_a_published_roof_holds_for_every_run_and_a_measured_one_for_its_own() -> None:
    def roofs(**peaks: object) -> set[Roof | None]:
        text = environment(peaks={**PEAKS, **peaks})
        runs = ("20260101T000000-aaaaaa", "20260102T000000-bbbbbb")
        rows = [row for run in runs for row in inference(run_id=run, environment=text)]
        return {placement.roof for placement in placed(rows)[0]}

    assert len(roofs(measured=False)) == 1
    assert len(roofs(measured=True)) == 2


def test_workloads_without_phases_are_placed_by_their_own_rate() -> None:
    placements = {p.summary.first.workload: p for p in placed(limits())[0]}
    assert placements["gemm"].flop_s.point == pytest.approx(1e11)
    intensity = 2 * 512**3 / (3 * 512**2)
    assert placements["hbm"].flop_s.point == pytest.approx(1e10 * intensity)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"work": None}, "not stored with it"),
        ({"work": {"pass": {"flops": 0, "bytes": 1, "items": 1}}}, "no arithmetic"),
        ({"work": {"pass": {"flops": 1, "items": 1}}}, "bytes it moves"),
        ({"work": {"pass": {"flops": 1, "bytes": 1, "items": 1}}}, "none of flop_s"),
        ({"work": {"decode": 3, "prefill": WORK["prefill"]}}, "no arithmetic"),
    ],
)
def test_what_cannot_be_placed_says_why(changed: dict[str, object], reason: str) -> None:
    _, missing = placed(inference(environment=environment(**changed)))
    assert [reason in unplaced.reason for unplaced in missing] == [True]


@pytest.mark.parametrize(
    ("peaks", "reason"),
    [
        (None, "no peak of this device"),
        ({"bytes_s": 1e9}, "no peak FLOP/s of cpu is known for bfloat16"),
        ({"flop_s": 1e9}, "no peak memory bandwidth of cpu"),
    ],
)
def test_without_peaks_there_are_points_and_no_roof(peaks: object, reason: str) -> None:
    placements, _ = placed(inference(environment=environment(peaks=peaks)))
    assert len(placements) == 2
    for placement in placements:
        assert placement.roof is None
        assert placement.share() is None
        assert reason in placement.no_roof


def test_the_roof_is_named_by_the_precision_that_it_is_the_peak_of() -> None:
    """Weights held in int8 are multiplied in bfloat16, and the stored peak is bfloat16's."""
    text = environment(peaks={**PEAKS, "dtype": "bfloat16"})
    (first, *_) = placed(inference(dtype="int8", environment=text))[0]
    assert first.roof is not None and first.roof.dtype == "bfloat16"
    (first, *_) = placed(inference(dtype="int8"))[0]
    assert first.roof is not None and first.roof.dtype == "int8", "of rows that do not say"
