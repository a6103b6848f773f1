"""The figures of ``tpubench cost``: results by name, and a reason for each that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpubench.costs import contracts, investment, owned, split
from tpubench.costs.token_cost import usd_per_mtok
from tpubench.costs.traffic import of_day
from tpubench.errors import UsageError

Figures = dict[str, Any]
"""Result name to number or None; ``reasons`` says why one is None."""


def cloud(
    *,
    usd_per_chip_hour: float,
    tok_s: float | None,
    chips: float = 1,
    utilisation: float = 1.0,
    prefill_tok_s: float | None = None,
    decode_tok_s: float | None = None,
    in_out_ratio: float | None = None,
    cache_hits: float = 0.0,
    cached_usd_per_mtok: float | None = None,
    traffic: Sequence[float] = (),
) -> Figures:
    """$/M tokens of rented chips; with prefill and decode rates also input and output apart.

    With the ``traffic`` of a day (tokens a second in each part of it) at the utilisation that it
    leaves: of replicas for its peak, and of as many as each part needs. UsageError for rates that
    are missing, given by halves or not above 0.
    """
    if tok_s is None and (prefill_tok_s is None or decode_tok_s is None):
        raise UsageError("give --tok-s, or --prefill-tok-s and --decode-tok-s")
    if (prefill_tok_s is None) != (decode_tok_s is None):
        raise UsageError("--prefill-tok-s and --decode-tok-s go together")
    figures: Figures = {"usd_per_mtok": None, "reasons": {}}
    if tok_s is None:
        figures["reasons"]["usd_per_mtok"] = "no --tok-s given"
    else:
        figures["usd_per_mtok"] = usd_per_mtok(usd_per_chip_hour, chips, tok_s, utilisation)
    if traffic:
        _add_traffic(figures, usd_per_chip_hour, chips, tok_s, utilisation, traffic)
    if prefill_tok_s is not None and decode_tok_s is not None:
        time = split.from_rates(prefill_tok_s, decode_tok_s)
        price = split.token_price(time, usd_per_chip_hour, chips, utilisation)
        figures["input_usd_per_mtok"] = price.input_usd_per_mtok
        figures["output_usd_per_mtok"] = price.output_usd_per_mtok
        if in_out_ratio is not None:
            figures["blended_usd_per_mtok"] = split.blended_usd_per_mtok(
                price.input_usd_per_mtok,
                price.output_usd_per_mtok,
                in_out_ratio,
                cached_usd_per_mtok,
                cache_hits,
            )
    elif in_out_ratio is not None:
        raise UsageError("--in-out-ratio needs --prefill-tok-s and --decode-tok-s")
    return figures


def _add_traffic(
    figures: Figures,
    usd_per_chip_hour: float,
    chips: float,
    tok_s: float | None,
    utilisation: float,
    traffic: Sequence[float],
) -> None:
    if tok_s is None or utilisation != 1.0:
        raise UsageError("--traffic needs --tok-s, and says the utilisation itself")
    day = of_day(traffic, tok_s)
    at_peak = usd_per_mtok(usd_per_chip_hour, chips, tok_s, day.utilisation)
    scaled = usd_per_mtok(usd_per_chip_hour, chips, tok_s, day.scaled_utilisation)
    figures |= {
        "usd_per_mtok": at_peak,
        "replicas": day.replicas,
        "utilisation": day.utilisation,
        "usd_per_mtok_scaled": scaled,
        "replicas_scaled": day.scaled_replicas,
        "utilisation_scaled": day.scaled_utilisation,
    }


def own(
    chip: owned.Owned,
    *,
    tok_s: float | None,
    utilisation: float = 1.0,
    cloud_usd_per_chip_hour: float | None = None,
) -> Figures:
    """An owned chip-hour, what it is made of, and $/M tokens and break-even where asked."""
    cost = owned.hourly(chip, utilisation)
    figures: Figures = {
        "usd_per_chip_hour": cost.total,
        "capital_usd_per_chip_hour": cost.capital,
        "upkeep_usd_per_chip_hour": cost.upkeep,
        "power_usd_per_chip_hour": cost.power,
        "building_usd_per_chip_hour": cost.building,
        "usd_per_mtok": None,
        "reasons": {},
    }
    if tok_s is None:
        figures["reasons"]["usd_per_mtok"] = "no --tok-s given"
    else:
        figures["usd_per_mtok"] = owned.owned_usd_per_mtok(chip, tok_s, utilisation)
    if cloud_usd_per_chip_hour is not None:
        even = owned.break_even_utilisation(chip, cloud_usd_per_chip_hour)
        figures["break_even_utilisation"] = even
        if even is None:
            figures["reasons"]["break_even_utilisation"] = (
                f"renting at {cloud_usd_per_chip_hour:g} $/chip-hour is cheaper at any utilisation"
            )
    return figures


def margin(
    *,
    usd_per_mtok: float,
    price_per_mtok: float,
    capex: float | None = None,
    mtok_per_year: float | None = None,
    years: float | None = None,
    wacc: float | None = None,
    tax: float = 0.0,
    residual: float = 0.0,
) -> Figures:
    """Gross margin; with capex, volume, years and wacc also payback, NPV and IRR.

    With ``capex`` the cost per Mtoken is the cash cost only: capex must not be in it as well.
    Prices are US dollars a million tokens, ``capex`` and ``residual`` dollars, the others shares.
    UsageError for ``capex`` without what else it needs, or a number out of range.
    """
    figures: Figures = {
        "gross_margin": investment.gross_margin(usd_per_mtok, price_per_mtok),
        "cost_profit_margin": None,
        "payback_years": None,
        "payback_years_linear": None,
        "npv": None,
        "irr": None,
        "reasons": {},
    }
    if usd_per_mtok > 0:
        figures["cost_profit_margin"] = investment.cost_profit_margin(usd_per_mtok, price_per_mtok)
    else:
        figures["reasons"]["cost_profit_margin"] = "no cost to hold the profit against"
    rest = {"mtok-per-year": mtok_per_year, "years": years, "wacc": wacc}
    if capex is None:
        if any(value is not None for value in rest.values()):
            raise UsageError("--mtok-per-year, --years and --wacc need --capex")
        figures["reasons"] |= dict.fromkeys(("payback_years", "npv", "irr"), "no --capex given")
        return figures
    if mtok_per_year is None or years is None or wacc is None:
        missing = ", ".join(f"--{name}" for name, value in rest.items() if value is None)
        raise UsageError(f"--capex needs {missing} as well")
    cash = investment.flows(
        investment.Venture(
            capex_usd=capex,
            mtok_per_year=mtok_per_year,
            price_usd_per_mtok=price_per_mtok,
            cash_usd_per_mtok=usd_per_mtok,
            years=years,
            wacc=wacc,
            tax=tax,
            residual_usd=residual,
        )
    )
    figures["npv"] = investment.npv(cash, wacc)
    figures["payback_years"] = investment.payback_years(cash)
    figures["payback_years_linear"] = investment.payback_years_linear(cash)
    if figures["payback_years"] is None:
        figures["reasons"]["payback_years"] = f"not paid back within {years:g} years"
    rate = investment.irr(cash)
    figures["irr"] = rate.rate
    if rate.reason:
        figures["reasons"]["irr"] = rate.reason
    return figures


def contract(
    *,
    minimum: float,
    rate: float,
    cap: float,
    on_demand: float,
    use: float,
    demand: Sequence[float] = (),
) -> Figures:
    """The bill of a take-or-pay contract, and what the use would have cost without one.

    ``break_even_use`` is the share of the cap from which on the contract costs no more than paying
    on demand. With equally likely values of ``demand`` also how many chip-hours to commit to.
    """
    terms = contracts.TakeOrPay(
        minimum_usd=minimum, rate_usd=rate, cap_units=cap, on_demand_usd=on_demand
    )
    bill = contracts.take_or_pay_usd(terms, use)
    plain = on_demand * use
    even = contracts.break_even_units(terms)
    reasons = {} if use > 0 else {"usd_per_chip_hour": "nothing used"}
    if even is None:
        why = "its rate is above" if rate > on_demand else "its minimum is more than its cap at"
        reasons["break_even_use"] = reasons["break_even_chip_hours"] = (
            f"the contract never costs less: {why} the on-demand price"
        )
    elif cap == 0:
        reasons["break_even_use"] = "the contract has no hours at its own rate"
    figures: Figures = {
        "usd": bill,
        "usd_per_chip_hour": bill / use if use > 0 else None,
        "on_demand_usd": plain,
        "saved_usd": plain - bill,
        "break_even_use": None if even is None or cap == 0 else even / cap,
        "break_even_chip_hours": even,
    }
    if demand:
        figures["commit_chip_hours"] = contracts.commit_quantity(demand, rate, on_demand)
    return figures | {"reasons": reasons}
