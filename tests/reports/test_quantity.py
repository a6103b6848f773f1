"""Numbers as people read them."""

from __future__ import annotations

import pytest

from tpubench.reports import quantity
from tpubench.results.statistics import Estimate


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1.0, "1.00"),
        (12.345, "12.3"),
        (99.96, "100"),
        (99.9999999, "100"),
        (1234.5, "1,230"),
        (0.00012345, "0.000123"),
        (1.5e-7, "1.50e-07"),
        (2e15, "2.00e+15"),
        (-3.14159, "-3.14"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert quantity.number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "—"),
        (0.0142, "s", "14.2 ms"),
        (3e-7, "s", "300 ns"),
        (90.0, "s", "90.0 s"),
        (2**30, "byte", "1.00 GiB"),
        (0.613, "fraction", "61.3 %"),
        (33.4e9, "byte/s", "33.4 GB/s"),
        (1.2e12, "FLOP/s", "1.20 TFLOP/s"),
        (1240.0, "token/s", "1,240 tok/s"),
        (0.915, "USD/Mtoken", "0.915 $/Mtok"),
    ],
)
def test_units_of_a_sensible_size(value: float | None, unit: str, text: str) -> None:
    assert quantity.quantity(value, unit) == text


def test_an_interval_shares_the_unit_of_its_point() -> None:
    estimate = Estimate(point=0.0142, low=0.0139, high=0.0146, n=5)
    assert quantity.estimate(estimate, "s") == "14.2 ms [13.9, 14.6]"
    alone = Estimate(point=0.0142, low=None, high=None, n=1)
    assert quantity.estimate(alone, "s") == "14.2 ms"
    assert quantity.estimate(None, "s") == "—"


def test_an_interval_beyond_a_factor_of_ten_is_called_unusable_on_either_side() -> None:
    for low, high in ((1.03e-7, 7.9e9), (28.0, 285.0), (2.8, 29.0)):
        wide = Estimate(point=28.4, low=low, high=high, n=2)
        assert quantity.estimate(wide, "token/s") == "28.4 tok/s [unusable]"
    near = Estimate(point=28.4, low=2.85, high=283.0, n=2)
    assert quantity.estimate(near, "token/s") == "28.4 tok/s [2.85, 283]"
