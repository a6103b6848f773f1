"""Ownership, contracts, splits and investment, against numpy-financial and by hand."""

from __future__ import annotations

import math

import numpy_financial as npf
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tpubench.costs.contracts import (
    TakeOrPay,
    break_even_units,
    commit_quantity,
    take_or_pay_usd,
)
from tpubench.costs.investment import (
    Flow,
    Venture,
    flows,
    gross_margin,
    irr,
    npv,
    payback_years,
    payback_years_linear,
)
from tpubench.costs.owned import (
    Owned,
    break_even_utilisation,
    capital_recovery_factor,
    hourly,
    owned_usd_per_mtok,
)
from tpubench.costs.split import blended_usd_per_mtok, fit, from_rates, token_price
from tpubench.costs.token_cost import usd_per_mtok
from tpubench.errors import UsageError

RATE = st.floats(0.0001, 0.5)
YEARS = st.integers(1, 30)
USD = st.floats(1, 1e9)


def chip(**changes: float) -> Owned:
    figures = {"capex_usd": 40_000, "wacc": 0.09, "years": 5, "kw": 1.5, "pue": 1.1}
    return Owned(**{**figures, "usd_per_kwh": 0.08, **changes})


@given(RATE, st.floats(0.5, 30))
def test_annuity_is_numpy_financials_pmt(rate: float, years: float) -> None:
    assert capital_recovery_factor(rate, years) == pytest.approx(-npf.pmt(rate, years, 1))


@given(RATE, YEARS, USD, st.floats(0, 1))
def test_capital_with_resale_is_pmt_with_future_value(
    rate: float, years: int, capex: float, resale: float
) -> None:
    owned = chip(capex_usd=capex, wacc=rate, years=years, residual_usd=resale * capex)
    expected = -npf.pmt(rate, years, capex, -resale * capex) / 8760
    assert hourly(owned).capital == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_annuity_without_interest_is_straight_line() -> None:
    assert capital_recovery_factor(0, 5) == 0.2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), st.floats(-0.5, 2))
def test_npv_is_numpy_financials(cash: list[float], rate: float) -> None:
    ours = npv([Flow(years=t, usd=usd) for t, usd in enumerate(cash)], rate)
    assert ours == pytest.approx(npf.npv(rate, cash), rel=1e-9, abs=1e-3)


@given(USD, st.lists(st.floats(1, 1e8), min_size=1, max_size=15))
def test_irr_is_numpy_financials_and_makes_npv_zero(capex: float, income: list[float]) -> None:
    cash = [-capex, *income]
    rate = irr([Flow(years=t, usd=usd) for t, usd in enumerate(cash)])
    assert rate.rate is not None
    assume(rate.rate > -0.99)  # nearer to -1, 1 + rate has no digits left to compare
    timed = [Flow(years=t, usd=usd) for t, usd in enumerate(cash)]
    scale = sum(abs(f.usd) / (1 + rate.rate) ** f.years for f in timed)
    assert abs(npv(timed, rate.rate)) <= 1e-9 * scale
    theirs = npf.irr(cash)
    assume(not math.isnan(theirs) and -0.9 < theirs < 10)
    assert rate.rate == pytest.approx(theirs, rel=1e-6, abs=1e-8)


def test_irr_says_none_or_multiple() -> None:
    assert irr([Flow(years=0, usd=-1), Flow(years=1, usd=-1)]).reason == (
        "none: cash never changes sign"
    )
    twice = [Flow(years=0, usd=-100), Flow(years=1, usd=230), Flow(years=2, usd=-132)]
    assert irr(twice).rate is None
    assert "multiple" in (irr(twice).reason or "")


def test_a_venture_by_hand() -> None:
    venture = Venture(
        capex_usd=1000,
        mtok_per_year=100,
        price_usd_per_mtok=6,
        cash_usd_per_mtok=1,
        years=4,
        wacc=0.1,
        tax=0.25,
        residual_usd=200,
    )
    cash = flows(venture)
    # 100 · 5 · 0.75 + 0.25 · (800/4) = 425 a year, and the resale at the end.
    assert [f.usd for f in cash] == [-1000, 425, 425, 425, 625]
    assert npv(cash, 0.1) == pytest.approx(npf.npv(0.1, [-1000, 425, 425, 425, 625]))
    assert payback_years(cash) == 3
    assert payback_years_linear(cash) == pytest.approx(2 + 150 / 425)
    assert irr(cash).rate == pytest.approx(npf.irr([-1000, 425, 425, 425, 625]))
    assert gross_margin(1.0, 6.0) == pytest.approx(5 / 6)


def test_a_half_year_earns_half() -> None:
    venture = Venture(
        capex_usd=1000, mtok_per_year=100, price_usd_per_mtok=3, cash_usd_per_mtok=1, years=2.5,
        wacc=0.0,
    )  # fmt: skip
    assert [(f.years, f.usd) for f in flows(venture)] == [
        (0, -1000),
        (1, 200),
        (2, 200),
        (2.5, 100),
    ]
    assert payback_years(flows(venture)) is None


@given(st.floats(0.2, 1), st.floats(1.5, 30))
def test_break_even_is_where_owning_and_renting_cost_the_same(idle: float, rent: float) -> None:
    owned = chip(idle_power_share=idle, availability=0.97)
    utilisation = break_even_utilisation(owned, rent)
    if utilisation is None:
        assert owned_usd_per_mtok(owned, 100, 1.0) > usd_per_mtok(rent, 1, 100)
    else:
        owning = owned_usd_per_mtok(owned, 100, utilisation)
        assert owning == pytest.approx(usd_per_mtok(rent, 1, 100))


def test_break_even_is_the_ratio_when_power_is_constant() -> None:
    owned = chip(idle_power_share=1)
    assert break_even_utilisation(owned, 10) == pytest.approx(hourly(owned).total / 10)


@pytest.mark.parametrize(
    ("minimum", "rate", "cap", "on_demand", "share"),
    [
        (1.0e6, 2.0, 500_000, 3.0, 2 / 3),  # every hour paid for, used or not: rate ÷ on-demand
        (1.5e6, 2.0, 500_000, 3.0, 1.0),  # the minimum is what the cap's hours cost on demand
        (0.5e6, 2.0, 500_000, 3.0, 1 / 3),  # less is promised than the cap's hours cost
        (0.0, 2.0, 500_000, 3.0, 0.0),  # nothing promised: cheaper from the first hour
        (1.0e6, 2.0, 500_000, 2.0, 1.0),  # the same price: never cheaper, never dearer from there
        (1.6e6, 2.0, 500_000, 3.0, None),  # the minimum buys more than the cap's hours on demand
        (0.0, 3.5, 500_000, 3.0, None),  # a rate above on-demand
        (5.4, 5.4, 1, 12.0, 0.45),
    ],
)
def test_break_even_of_a_contract(
    minimum: float, rate: float, cap: float, on_demand: float, share: float | None
) -> None:
    terms = TakeOrPay(minimum_usd=minimum, rate_usd=rate, cap_units=cap, on_demand_usd=on_demand)
    even = break_even_units(terms)
    assert even == (None if share is None else pytest.approx(share * cap))


SUM = st.floats(0, 1e6).map(lambda value: round(value, 2))
RATES = st.floats(0.01, 100).map(lambda value: round(value, 2))


@given(SUM, RATES, SUM, RATES, st.lists(st.floats(0, 3), min_size=1, max_size=50))
def test_a_contract_saves_from_its_break_even_on_and_never_before(
    minimum: float, rate: float, cap: float, on_demand: float, shares: list[float]
) -> None:
    """Against brute force: bills at uses all over the three regimes and around every corner."""
    terms = TakeOrPay(minimum_usd=minimum, rate_usd=rate, cap_units=cap, on_demand_usd=on_demand)
    even = break_even_units(terms)
    corners = [cap, minimum / rate, minimum / on_demand]
    uses = [share * corner for share in shares for corner in corners]
    uses += [share * (even or 0.0) for share in (0.5, 0.999, 1.001, 2.0)]
    for use in uses:
        saved = on_demand * use - take_or_pay_usd(terms, use)
        slack = 1e-9 * (minimum + on_demand * use + rate * cap)
        if even is None:
            assert saved <= slack
        elif use >= even:
            assert saved >= -slack
        else:
            assert saved <= slack


def test_owned_token_cost_falls_with_use_and_rises_with_outages() -> None:
    assert owned_usd_per_mtok(chip(), 1000, 0.9) < owned_usd_per_mtok(chip(), 1000, 0.5)
    outages = owned_usd_per_mtok(chip(availability=0.9), 1000)
    assert outages == pytest.approx(owned_usd_per_mtok(chip(), 1000) / 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capex_usd": 0}, "capex must be a number above 0"),
        ({"wacc": math.nan}, "wacc must be 0 or more"),
        ({"pue": 0.9}, "pue must be 1 or more"),
        ({"residual_usd": 50_000}, "residual 50000 is above the capex"),
        ({"colo_usd_per_kw_month": 1, "facility_capex_usd": 1}, "both pay for the building"),
        ({"availability": 0}, "availability must be above 0"),
    ],
)
def test_an_owned_chip_out_of_range_is_named(change: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chip(**change)


@pytest.mark.parametrize(("use", "paid"), [(0, 100), (50, 100), (80, 160), (100, 200), (130, 290)])
def test_take_or_pay(use: float, paid: float) -> None:
    contract = TakeOrPay(minimum_usd=100, rate_usd=2, cap_units=100, on_demand_usd=3)
    assert take_or_pay_usd(contract, use) == paid


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=30), st.floats(0.05, 0.99))
def test_commit_quantity_is_the_cheapest_level(demand: list[float], ratio: float) -> None:
    def bill(quantity: float) -> float:
        return ratio * quantity + sum(max(0, d - quantity) for d in demand) / len(demand)

    best = min(bill(level) for level in [0.0, *demand])
    chosen = commit_quantity(demand, ratio, 1.0)
    assert bill(chosen) == pytest.approx(best, abs=1e-6)


@settings(max_examples=50)
@given(st.floats(1e-6, 1e-3), st.floats(1e-6, 1e-2))
def test_the_fit_finds_the_times_and_they_add_up_to_the_bill(alpha: float, beta: float) -> None:
    tokens_in, tokens_out = [1000, 4000, 500], [100, 100, 800]
    busy = [alpha * i + beta * o for i, o in zip(tokens_in, tokens_out, strict=True)]
    time = fit(tokens_in, tokens_out, busy)
    assert (time.input_s, time.output_s) == pytest.approx((alpha, beta), rel=1e-6)
    price = token_price(time, 3.6, chips=2)
    bill = (
        tokens_in[0] * price.input_usd_per_mtok + tokens_out[0] * price.output_usd_per_mtok
    ) / 1e6
    assert bill == pytest.approx(2 * 3.6 * busy[0] / 3600, rel=1e-6)


def test_one_mix_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="one mix"):
        fit([100, 200], [10, 20], [1, 2])


def test_split_from_rates_and_blend() -> None:
    price = token_price(from_rates(10_000, 500), 2.0)
    assert price.input_usd_per_mtok == pytest.approx(2e6 / 3600 / 10_000)
    assert price.output_usd_per_mtok == pytest.approx(2e6 / 3600 / 500)
    assert blended_usd_per_mtok(1, 4, 3) == pytest.approx(7 / 4)
    with pytest.raises(UsageError, match="price of a cached"):
        blended_usd_per_mtok(1, 4, 3, cache_hits=0.5)


ANY = st.floats(allow_nan=True, allow_infinity=True)


@given(ANY, ANY, ANY, ANY)
def test_no_number_brings_anything_but_a_number_or_a_usage_error(
    a: float, b: float, c: float, d: float
) -> None:
    for call in (
        lambda: usd_per_mtok(a, b, c, d),
        lambda: hourly(chip(capex_usd=a, wacc=b, years=c), d).total,
        lambda: owned_usd_per_mtok(chip(kw=a, usd_per_kwh=b), c, d),
        lambda: gross_margin(a, b),
        lambda: take_or_pay_usd(
            TakeOrPay(minimum_usd=a, rate_usd=b, cap_units=c, on_demand_usd=d), 5
        ),
        lambda: blended_usd_per_mtok(a, b, c, d),
    ):
        try:
            value = call()
        except UsageError:
            continue
        assert math.isfinite(value)
