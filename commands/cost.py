"""tpubench cost: what a token costs, rented, owned or under contract."""

from __future__ import annotations

from typing import Annotated

import typer

from tpubench.commands._app import App
from tpubench.commands._options import Json, PriceId, Prices, numbers

app = App(
    name="cost",
    help="Cost of a token: rented, owned, under contract; margin and payback.",
    no_args_is_help=True,
)


@app.command("cloud")
def cost_cloud(
    usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Price of one chip for one hour.")
    ] = None,
    price: PriceId = None,
    device: Annotated[
        str | None, typer.Option(help="Device: its list price, or your own where you have one.")
    ] = None,
    prices: Prices = None,
    tok_s: Annotated[
        float | None, typer.Option("--tok-s", help="Tokens/s of all chips, at the SLO.")
    ] = None,
    chips: Annotated[float, typer.Option(help="Chips that give this rate.")] = 1,
    utilisation: Annotated[float, typer.Option(help="Share of paid hours in use.")] = 1.0,
    prefill_tok_s: Annotated[
        float | None, typer.Option("--prefill-tok-s", help="Input tokens/s of the prefill alone.")
    ] = None,
    decode_tok_s: Annotated[
        float | None, typer.Option("--decode-tok-s", help="Output tokens/s of the decode alone.")
    ] = None,
    in_out_ratio: Annotated[
        float | None, typer.Option(help="Input tokens per output token, for a blended price.")
    ] = None,
    cache_hits: Annotated[float, typer.Option(help="Share of the input read from a cache.")] = 0.0,
    cached_usd_per_mtok: Annotated[
        float | None, typer.Option(help="Cost of a million cached input tokens.")
    ] = None,
    traffic: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Tokens/s wanted in each equal part of a day."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Cost of a million tokens on rented chips; input and output apart where timed apart."""
    from tpubench.costs import figures
    from tpubench.costs.price_files import named_price
    from tpubench.reports.terminal import money as terminal_money

    paid = named_price(price, usd_per_chip_hour, device, prices or [])
    costs = figures.cloud(
        usd_per_chip_hour=paid.usd_per_chip_hour,
        tok_s=tok_s,
        chips=chips,
        utilisation=utilisation,
        prefill_tok_s=prefill_tok_s,
        decode_tok_s=decode_tok_s,
        in_out_ratio=in_out_ratio,
        cache_hits=cache_hits,
        cached_usd_per_mtok=cached_usd_per_mtok,
        traffic=numbers("--traffic", traffic),
    )
    terminal_money.show_figures(costs, paid, as_json=as_json)


@app.command("owned")
def cost_owned(
    capex: Annotated[float, typer.Option(help="Chip with its share of server and network, $.")],
    wacc: Annotated[float, typer.Option(help="Cost of capital a year, e.g. 0.087.")],
    years: Annotated[float, typer.Option(help="Useful life.")],
    kw: Annotated[float, typer.Option(help="kW per chip, its share of the server included.")],
    pue: Annotated[float, typer.Option(help="Power usage effectiveness of the building.")],
    usd_per_kwh: Annotated[float, typer.Option(help="Price of electricity.")],
    colo_usd_per_kw_month: Annotated[float, typer.Option(help="Colocation fee.")] = 0.0,
    facility_capex: Annotated[
        float, typer.Option(help="Building per chip, $, in place of colocation.")
    ] = 0.0,
    residual: Annotated[float, typer.Option(help="Resale value at the end of life, $.")] = 0.0,
    opex_rate: Annotated[float, typer.Option(help="Upkeep a year, share of capex.")] = 0.0,
    idle_power_share: Annotated[float, typer.Option(help="Share of power drawn when idle.")] = 0.0,
    availability: Annotated[float, typer.Option(help="Share of hours the chip works.")] = 1.0,
    tok_s: Annotated[
        float | None, typer.Option("--tok-s", help="Tokens/s of one chip, at the SLO.")
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of hours in use.")] = 1.0,
    cloud_usd_per_chip_hour: Annotated[
        float | None, typer.Option(help="Rent to hold it against, for the break-even.")
    ] = None,
    price: PriceId = None,
    prices: Prices = None,
    as_json: Json = False,
) -> None:
    """Cost of an owned chip-hour and of a million tokens on it."""
    from tpubench.costs import figures
    from tpubench.costs.owned import Owned
    from tpubench.costs.price_files import chosen_price
    from tpubench.reports.terminal import money as terminal_money

    rent = chosen_price(price, cloud_usd_per_chip_hour, prices or [])
    chip = Owned(
        capex_usd=capex,
        wacc=wacc,
        years=years,
        kw=kw,
        pue=pue,
        usd_per_kwh=usd_per_kwh,
        colo_usd_per_kw_month=colo_usd_per_kw_month,
        facility_capex_usd=facility_capex,
        residual_usd=residual,
        opex_rate=opex_rate,
        idle_power_share=idle_power_share,
        availability=availability,
    )
    costs = figures.own(
        chip,
        tok_s=tok_s,
        utilisation=utilisation,
        cloud_usd_per_chip_hour=None if rent is None else rent.usd_per_chip_hour,
    )
    terminal_money.show_figures(costs, rent, as_json=as_json)


@app.command("margin")
def cost_margin(
    usd_per_mtok: Annotated[
        float, typer.Option(help="Cost of a million tokens; with --capex the cash cost only.")
    ],
    price_per_mtok: Annotated[float, typer.Option(help="Price of a million tokens.")],
    capex: Annotated[float | None, typer.Option(help="Spent at the start, $.")] = None,
    mtok_per_year: Annotated[float | None, typer.Option(help="Million tokens sold a year.")] = None,
    years: Annotated[float | None, typer.Option(help="Years of selling.")] = None,
    wacc: Annotated[float | None, typer.Option(help="Cost of capital a year.")] = None,
    tax: Annotated[float, typer.Option(help="Tax on profit.")] = 0.0,
    residual: Annotated[float, typer.Option(help="Resale value at the end, $.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Gross margin at a price per million tokens; with capex also payback, NPV and IRR."""
    from tpubench.costs import figures
    from tpubench.reports.terminal import money as terminal_money

    costs = figures.margin(
        usd_per_mtok=usd_per_mtok,
        price_per_mtok=price_per_mtok,
        capex=capex,
        mtok_per_year=mtok_per_year,
        years=years,
        wacc=wacc,
        tax=tax,
        residual=residual,
    )
    terminal_money.show_figures(costs, as_json=as_json)


@app.command("contract")
def cost_contract(
    minimum: Annotated[float, typer.Option(help="Paid in any case, $.")],
    rate: Annotated[float, typer.Option(help="$/chip-hour up to the cap.")],
    cap: Annotated[float, typer.Option(help="Chip-hours at that rate.")],
    use: Annotated[float, typer.Option(help="Chip-hours used.")],
    on_demand: Annotated[float | None, typer.Option(help="$/chip-hour beyond the cap.")] = None,
    price: PriceId = None,
    prices: Prices = None,
    demand: Annotated[
        str | None,
        typer.Option(
            metavar="HOURS,…", help="Equally likely uses: also says how much to commit to."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Bill of a take-or-pay contract, against paying on demand (--on-demand or --price)."""
    from tpubench.costs import figures
    from tpubench.costs.price_files import asked_price
    from tpubench.reports.terminal import money as terminal_money

    beyond = asked_price(price, on_demand, prices or [], option="--on-demand")
    costs = figures.contract(
        minimum=minimum,
        rate=rate,
        cap=cap,
        on_demand=beyond.usd_per_chip_hour,
        use=use,
        demand=numbers("--demand", demand),
    )
    terminal_money.show_figures(costs, beyond, as_json=as_json)
