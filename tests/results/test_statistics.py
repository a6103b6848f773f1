"""Points and intervals: exact on small cases, honest in coverage, refusing when n is too small."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from tpubench.results import statistics
from tpubench.results.statistics import Estimate, aggregate, between, percentile, within

POSITIVE = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40)


def test_aggregates_of_a_small_sample() -> None:
    samples = [1.0, 2.0, 4.0]
    assert aggregate("median", samples) == 2.0
    assert aggregate("median", [1.0, 2.0, 4.0, 5.0]) == 3.0
    assert aggregate("mean", samples) == pytest.approx(7 / 3)
    assert aggregate("harmonic_mean", samples) == pytest.approx(3 / (1 + 0.5 + 0.25))
    assert aggregate("max", samples) == 4.0
    assert aggregate("total", samples) == 7.0


def test_the_harmonic_mean_of_rates_is_all_work_over_all_time() -> None:
    times = [0.5, 1.0, 2.5]
    assert aggregate("harmonic_mean", [10 / t for t in times]) == pytest.approx(30 / sum(times))


@pytest.mark.parametrize("how", ["median", "mean", "harmonic_mean", "max", "total"])
def test_no_samples_is_an_error(how: statistics.Aggregate) -> None:
    with pytest.raises(ValueError, match="no samples"):
        aggregate(how, [])


def test_a_rate_of_zero_is_an_error() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        aggregate("harmonic_mean", [1.0, 0.0])


def test_the_mean_interval_is_students_t() -> None:
    samples = [3.0, 4.0, 8.0, 9.0]
    low, high = scipy.stats.t.interval(
        0.95, 3, loc=np.mean(samples), scale=scipy.stats.sem(samples)
    )
    estimate = within("mean", samples)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_the_median_interval_is_the_binomial_one() -> None:
    # n = 6: the extremes cover 1 - 2/2**6 = 96.9 %; n = 5 covers 93.75 %, which is too little.
    assert within("median", [1, 2, 3, 4, 5, 6]) == Estimate(point=3.5, low=1, high=6, n=6)
    assert within("median", [1, 2, 3, 4, 5]) == Estimate(point=3, low=None, high=None, n=5)


def test_the_median_interval_covers_at_least_95_percent() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        estimate = within("median", list(generator.exponential(size=31)))
        assert estimate.low is not None and estimate.high is not None
        hits += estimate.low <= math.log(2) <= estimate.high
    assert hits >= 940


def test_repetitions_are_combined_as_ratios() -> None:
    estimate = between([1.0, 4.0])
    assert estimate.point == pytest.approx(2.0)
    assert estimate.low is not None and estimate.high is not None
    assert estimate.low * estimate.high == pytest.approx(4.0)
    assert between([5.0]) == Estimate(point=pytest.approx(5.0), low=None, high=None, n=1)


@given(POSITIVE)
def test_intervals_contain_their_point(samples: list[float]) -> None:
    for estimate in (within("median", samples), within("mean", samples), between(samples)):
        if estimate.low is not None and estimate.high is not None:
            slack = 1e-9 * abs(estimate.point)
            assert estimate.low - slack <= estimate.point <= estimate.high + slack


@pytest.mark.parametrize(("q", "fewest"), [(0.9, 64), (0.99, 662), (0.5, 10)])
def test_percentiles_need_enough_samples(q: float, fewest: int) -> None:
    assert statistics.percentile_minimum(q) == fewest
    assert percentile([1.0] * (fewest - 1), q) is None
    assert percentile([1.0] * fewest, q) is not None


def test_a_percentile_is_a_sample_with_order_statistics_around_it() -> None:
    p99 = percentile([float(n) for n in range(1, 1001)], 0.99)
    assert p99 is not None
    assert p99.point == 990.0
    assert p99.low is not None and 980 <= p99.low < 990
    assert p99.high is not None and 990 < p99.high <= 1000


@pytest.mark.parametrize("q", [0.0, 1.0, -1.0, 2.0])
def test_a_quantile_outside_zero_and_one_is_an_error(q: float) -> None:
    with pytest.raises(ValueError, match="not between"):
        percentile([1.0], q)
