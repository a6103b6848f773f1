"""Published figures that the formulas must reproduce, each with where it was published."""

from __future__ import annotations

import pytest

from tpubench.costs.investment import cost_profit_margin
from tpubench.costs.owned import HourlyCost, Owned, capital_recovery_factor, hourly
from tpubench.costs.split import blended_usd_per_mtok
from tpubench.costs.token_cost import usd_per_mtok
from tpubench.devices.prices import price


def test_ironwood_on_demand_and_three_year() -> None:
    on_demand = price("gcp-us-central1-tpu-v7-on_demand-2026-07-01").usd_per_chip_hour
    three_year = price("gcp-us-central1-tpu-v7-3y-2026-07-01").usd_per_chip_hour
    assert (on_demand, three_year) == (12.0, 5.4)
    assert usd_per_mtok(on_demand, 1, 518.86) == pytest.approx(6.42, abs=0.005)
    assert usd_per_mtok(three_year, 1, 518.86) == pytest.approx(2.89, abs=0.005)


def test_eight_b300() -> None:
    assert usd_per_mtok(7.85, 8, 60_413) == pytest.approx(0.289, abs=0.0005)


def test_gb200_rack_at_public_costs_is_a_dollar_eighty_four() -> None:
    """GB200 NVL72 at Bernstein's $3.4 M, Meta's PUE and life, EIA power, CBRE colocation."""
    rack = Owned(
        capex_usd=3.4e6 / 72,
        wacc=0.087,
        years=5.5,
        kw=1.667,
        pue=1.08,
        usd_per_kwh=0.0821,
        colo_usd_per_kw_month=184.06,
    )
    cost = hourly(rack)
    assert cost.total == pytest.approx(1.84, abs=0.005)
    assert cost == HourlyCost(
        capital=pytest.approx(3.4e6 / 72 * capital_recovery_factor(0.087, 5.5) / 8760),
        upkeep=0.0,
        power=pytest.approx(1.667 * 1.08 * 0.0821),
        building=pytest.approx(12 * 1.667 * 184.06 / 8760),
    )


def test_deepseek_published_day() -> None:
    """deepseek-ai/open-infra-index, day 6 (2025-02-28); its token counts are rounded to 1 B."""
    cost = 226.75 * 8 * 2.0 * 24
    assert cost == pytest.approx(87_072)
    hit, miss, out = 342e3, 266e3, 168e3  # million tokens
    revenue = hit * 0.14 + miss * 0.55 + out * 2.19
    assert revenue == pytest.approx(562_027, rel=2e-4)
    assert round(100 * cost_profit_margin(cost, 562_027)) == 545

    blended = blended_usd_per_mtok(
        0.55, 2.19, (hit + miss) / out, cached_usd_per_mtok=0.14, cache_hits=hit / (hit + miss)
    )
    assert blended * (hit + miss + out) == pytest.approx(revenue)
