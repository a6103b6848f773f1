"""The price of a device where none was named: one rule, and the user's own before it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from tpubench.devices.list_price import OWN_RULE, RULE, device_price, device_prices
from tpubench.devices.prices import Price

DAY = dt.date(2026, 6, 1)


def price(provider: str, usd: float, **changes: object) -> Price:
    facts: dict[str, object] = {
        "id": f"{provider}-{usd}", "provider": provider, "region": "us-1",
        "accelerator": "tpu-v6e", "term": "on_demand", "usd_per_chip_hour": usd,
        "includes_host": True, "source": "page", "as_of": DAY, "layer": "list",
    }  # fmt: skip
    return Price(**{**facts, **changes})  # type: ignore[arg-type]


def table(*entries: Price) -> Mapping[str, Price]:
    return {entry.id: entry for entry in entries}


def test_the_middle_provider_decides_not_the_lowest() -> None:
    chosen = device_price("tpu-v6e", table(price("a", 1), price("b", 3), price("c", 9)))
    assert chosen is not None
    assert (chosen.cheapest.usd_per_chip_hour, chosen.price.usd_per_chip_hour) == (1, 3)
    assert (chosen.dearest.usd_per_chip_hour, chosen.rule) == (9, RULE)


def test_of_two_providers_the_lower() -> None:
    chosen = device_price("tpu-v6e", table(price("a", 1), price("b", 3)))
    assert chosen is not None and chosen.price.usd_per_chip_hour == 1


def test_of_a_provider_the_newest_day_and_there_the_cheapest_region() -> None:
    old = price("a", 0.5, as_of=DAY - dt.timedelta(days=1))
    chosen = device_price("tpu-v6e", table(price("a", 2), price("a", 4, region="eu"), old))
    assert chosen is not None and chosen.price.usd_per_chip_hour == 2


def test_what_is_no_on_demand_price_of_the_whole_machine_does_not_count() -> None:
    assert not device_prices(
        table(
            price("a", 1, term="spot"),
            price("b", 1, term="3y"),
            price("c", 1, includes_host=False),
            price("d", 1, note="SUSPECT Windows"),
        )
    )


def test_a_users_own_price_goes_before_every_list_price() -> None:
    own = [
        price("deal", 5.0, layer="negotiated", term="3y"),
        price("older", 1.0, layer="owned", term="given", as_of=DAY - dt.timedelta(days=9)),
    ]
    chosen = device_price("tpu-v6e", table(price("a", 1), price("b", 3), *own))
    assert chosen is not None
    assert (chosen.price.provider, chosen.rule) == ("deal", OWN_RULE)


def test_every_use_of_the_shipped_table_gives_the_same_price() -> None:
    from tpubench.devices.prices import prices
    from tpubench.estimates.request import parse

    for name, chosen in device_prices().items():
        asked = parse(
            workload="llama-infer", preset="llama-3.1-8b", device=name, chips=1, settings=[],
            price=None, table=prices(),
        )  # fmt: skip
        assert asked.price == chosen.price
