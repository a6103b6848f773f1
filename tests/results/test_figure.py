"""Every kind of row is put together in one place, and what follows from a rate follows once."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpubench.costs.token_cost import usd_per_items
from tpubench.devices.prices import given as at
from tpubench.errors import UsageError
from tpubench.results.figure import SampledValue, Shared, following
from tpubench.results.metrics import METRICS

ROOT = Path(__file__).parents[2]
RATES = st.floats(min_value=1e-3, max_value=1e9)
PER_CHIP, USD = METRICS["output_tok_s_per_chip"], METRICS["usd_per_mtok_out"]


def shared() -> Shared:
    return Shared(
        run_id="20260101T000000-abcdef", started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        evidence="measured", workload="llama-infer", preset="tiny", params={"batch": 1},
        backend="cpu", device="cpu", chips=4, hosts=1, parallelism="tp=4", dtype="bfloat16",
        source="here", environment="{}",
    )  # fmt: skip


def test_a_row_is_constructed_in_one_place() -> None:
    homes = {
        str(path.relative_to(ROOT))
        for room in ("suite", "workloads", "results", "costs", "estimates", "reports", "commands")
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"(?<![\w.])Row\($", path.read_text(encoding="utf-8"), re.M)
    }
    assert homes == {"results/figure.py"}


def test_an_hour_of_four_chips_at_two_dollars() -> None:
    rate = SampledValue(value=1000.0, low=800.0, high=1250.0)
    cost = rate.derived(USD, 4, at(2.0))
    # 4 × $2 buy 3.6 M tokens.
    assert cost.value == pytest.approx(8 / 3.6)
    assert (cost.low, cost.high) == (pytest.approx(8 / 4.5), pytest.approx(8 / 2.88))
    assert rate.derived(PER_CHIP, 4).value == 250


@given(st.lists(RATES, min_size=1, max_size=8), st.integers(1, 4096))
def test_samples_are_divided_and_priced_one_by_one(samples: list[float], chips: int) -> None:
    rate = SampledValue.of(METRICS["output_tok_s"], samples)
    each, cost = rate.derived(PER_CHIP, chips), rate.derived(USD, chips, at(3.0))
    assert each.samples == [sample / chips for sample in samples]
    assert cost.samples == [usd_per_items(3.0, chips, sample, 1e6) for sample in samples]
    # The mean cost of equal work is the cost at the harmonic mean of the rates.
    assert cost.value == pytest.approx(usd_per_items(3.0, chips, rate.value or 0, 1e6))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_no_price_of_a_rate_that_is_none(rate: float) -> None:
    with pytest.raises(UsageError, match="a price figure of a output_tok_s of"):
        SampledValue(value=rate).derived(USD, 1, at(1.0))


def test_no_figure_of_no_chips_and_no_price() -> None:
    with pytest.raises(UsageError, match="no chips"):
        SampledValue(value=1.0).derived(PER_CHIP, 0)
    with pytest.raises(UsageError, match="without its price"):
        SampledValue(value=1.0).derived(USD, 1)


def test_a_price_stands_with_a_dollar_figure_alone() -> None:
    rate = SampledValue.of(METRICS["output_tok_s"], [10.0, 12.0])
    assert shared().row(METRICS["output_tok_s"], rate, price=at(2.0)).usd_per_chip_hour is None
    assert shared().row(USD, rate.derived(USD, 4, at(2.0)), price=at(2.0)).usd_per_chip_hour == 2


def test_what_follows_from_a_rate() -> None:
    names = {metric.name for metric in following("output_tok_s")}
    assert {"output_tok_s_per_chip", "usd_per_mtok_out"} <= names
    assert not following("ttft_s")
