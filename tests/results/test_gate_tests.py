"""The exact tests: against scipy, against brute force, and where they must be cautious."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tpubench.results.gate.tests import (
    holm,
    paired_estimate,
    paired_p,
    shift_estimate,
    shift_p,
    smallest_p,
)

CHANCE = random.Random(5)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 15, 40])
def test_signed_rank_agrees_with_scipy(n: int) -> None:
    values = [CHANCE.gauss(0.3, 1) for _ in range(n)]
    expected = stats.wilcoxon(values, alternative="greater", method="exact").pvalue
    assert paired_p(values, 0.0, "signed-rank") == pytest.approx(expected)


def test_sign_test_is_the_binomial_tail() -> None:
    values = [1.0, 2.0, -0.5, 3.0, 4.0, 0.2, 1.0]
    expected = stats.binomtest(6, 7, alternative="greater").pvalue
    assert paired_p(values, 0.0, "sign") == pytest.approx(expected)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 3), (5, 8), (12, 9)])
def test_shift_agrees_with_scipy(m: int, n: int) -> None:
    upper = [CHANCE.gauss(0.5, 1) for _ in range(m)]
    lower = [CHANCE.gauss(0, 1) for _ in range(n)]
    expected = stats.mannwhitneyu(upper, lower, alternative="greater", method="exact").pvalue
    assert shift_p(upper, lower, 0.0) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_ties_count_as_the_worst_order_they_could_hide(
    values: list[int], chance: random.Random
) -> None:
    """Rounding ties values that were apart: no order behind it has a larger p-value."""
    ours = paired_p([float(v) for v in values], 0.0, "signed-rank")
    for _ in range(20):
        apart = [v + chance.uniform(-1e-6, 1e-6) for v in values]
        assert paired_p(apart, 0.0, "signed-rank") <= ours + 1e-12


def test_values_on_the_bound_prove_nothing() -> None:
    assert paired_p([0.01] * 20, 0.01, "signed-rank") == 1.0
    assert paired_p([0.01] * 20, 0.01, "sign") == 1.0
    assert shift_p([1.0] * 5, [1.0] * 5, 0.0) == 1.0
    assert paired_p([], 0.0, "sign") == shift_p([], [1.0], 0.0) == 1.0


def test_estimates_and_their_intervals() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    estimate = paired_estimate(values, "signed-rank")
    assert estimate.point == pytest.approx(0.45)
    # Hollander & Wolfe, table A.4: n = 8, 96 % signed-rank interval from the 4th Walsh average.
    walsh = sorted((a + b) / 2 for i, a in enumerate(values) for b in values[i:])
    assert (estimate.low, estimate.high) == (walsh[3], walsh[-4])
    sign = paired_estimate(values, "sign")
    assert (sign.low, sign.high) == (values[0], values[-1])
    assert paired_estimate(values[:3], "signed-rank").low is None
    shift = shift_estimate([2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0])
    assert shift.point == 1.0 and shift.low is not None
    for empty in (lambda: paired_estimate([], "sign"), lambda: shift_estimate([], [1.0])):
        with pytest.raises(ValueError, match="no values"):
            empty()


def test_interval_of_the_shift_covers_as_often_as_it_says() -> None:
    chance, covered, rounds = random.Random(7), 0, 400
    for _ in range(rounds):
        estimate = shift_estimate(
            [chance.gauss(0.5, 1) for _ in range(6)], [chance.gauss(0, 1) for _ in range(7)]
        )
        assert estimate.low is not None and estimate.high is not None
        covered += estimate.low <= 0.5 <= estimate.high
    assert covered / rounds >= 0.93


def test_holm_gives_up_at_the_first_claim_that_fails() -> None:
    assert holm([0.001, 0.04, 0.006], 0.02) == [True, False, True]
    assert holm([0.008, 0.001], 0.01) == [True, True]
    assert holm([0.02], 0.01) == [False]
    assert holm([], 0.01) == []


def test_the_least_p_value_of_a_size() -> None:
    assert smallest_p(5, 5) == shift_p([2.0] * 5, [1.0] * 5, 0.0) == 1 / 252
    assert smallest_p(0, 5) == 1.0
