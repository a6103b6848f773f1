"""A cost, a comparison and a crossover: closed forms, checked against independent arithmetic."""

from __future__ import annotations

import math
import statistics

import pytest

from tpubench.reports.answers import money


def test_known_answers_of_published_rates_and_prices() -> None:
    """TPU v7 at $12.00 and 518.86 tok/s a chip: $6.42 a million; at $5.40, $2.89."""
    hours = 1e6 / (3600 * 518.86)
    for price, usd in ((12.0, 6.42), (5.4, 2.89)):
        work_cost = money.cost(price, (price, price), hours, 0.0, 1.0)
        assert work_cost.point == pytest.approx(usd, abs=0.005)


def test_half_the_share_costs_twice_as_much() -> None:
    whole = money.cost(2.0, (1.0, 3.0), 0.5, 0.1, 1.0)
    half = money.cost(2.0, (1.0, 3.0), 0.5, 0.1, 0.5)
    assert half.point == 2 * whole.point
    assert (half.price_low, half.price_high) == (2 * whole.price_low, 2 * whole.price_high)


def test_a_cost_carries_the_interval_that_its_spread_came_from() -> None:
    deviation = money.spread(0.8, 1.2)
    work_cost = money.cost(1.0, (1.0, 1.0), math.sqrt(0.8 * 1.2), deviation, 1.0)
    assert (work_cost.low, work_cost.high) == (pytest.approx(0.8), pytest.approx(1.2))


def cost(point: float, low: float, high: float) -> money.Cost:
    spread = money.spread(low, high)
    return money.Cost(
        point=point, low=low, high=high, price_low=point, price_high=point, spread=spread
    )


@pytest.mark.parametrize(
    ("gpu", "word"),
    [((2.0, 1.8, 2.2222), "tpu"), ((0.5, 0.45, 0.5556), "gpu"), ((1.03, 0.93, 1.14), "close")],
)
def test_overlapping_intervals_are_too_close_to_call(
    gpu: tuple[float, float, float], word: str
) -> None:
    ratio = money.compare(cost(1.0, 0.9, 1.1111), cost(*gpu))
    assert ratio.word == word
    # The three ways to say it agree: overlap, an interval of the ratio that holds 1, and P.
    assert (ratio.low < 1 < ratio.high) is (word == "close")
    assert (0.025 < ratio.p_tpu_cheaper < 0.975) is (word == "close")


def test_the_probability_is_the_normal_one() -> None:
    tpu, gpu = cost(1.0, 0.9, 1 / 0.9), cost(1.2, 1.0, 1.44)
    both = tpu.spread + gpu.spread
    expected = statistics.NormalDist(mu=math.log(1.2), sigma=both).cdf(0)
    assert money.compare(tpu, gpu).p_tpu_cheaper == pytest.approx(1 - expected, abs=1e-12)


def test_without_any_spread_the_cheaper_one_is_certain() -> None:
    exact = cost(1.0, 1.0, 1.0)
    assert money.compare(exact, cost(2.0, 2.0, 2.0)).p_tpu_cheaper == 1.0
    assert money.compare(exact, exact).word == "close"
