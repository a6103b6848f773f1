"""Every way to pay for a chip: on demand by kind of provider, by contract, at one's own price.

Of one way the prices of several providers are one figure, the middle one, with the cheapest and
the dearest as its range; the rule is that of :mod:`tpubench.devices.list_price`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tpubench.costs.price_files import published_owned
from tpubench.devices.list_price import middle, newest_of_each_provider
from tpubench.devices.prices import Price
from tpubench.results.row import Row

HYPERSCALERS = frozenset({"aws", "azure", "gcp", "oci"})
"""Clouds that sell everything; who else rents chips is called a neocloud."""

CONTRACTS = ("1y", "3y", "take_or_pay")
"""Terms that are paid for every hour, used or not."""
INTERRUPTIBLE = ("spot",)
"""Terms whose chips can be taken away at any time."""

_TERMS = {
    "on_demand": "on demand",
    "spot": "spot",
    "flex": "flex start",
    "reserved": "capacity block",
    "1y": "1-year contract",
    "3y": "3-year contract",
    "take_or_pay": "take or pay",
    "given": "given",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to pay for one device, US dollars per chip-hour."""

    device: str
    label: str
    term: str
    layer: str
    usd_per_chip_hour: float
    low: float
    high: float
    """Cheapest and dearest that providers ask this way."""
    price_id: str
    as_of: dt.date
    providers: int
    every_hour: bool
    """Paid for every hour, used or not."""
    aside: bool = False
    """Shown, never the answer: spot chips can be taken away at any time, and nobody was quoted what
    owning costs at published figures."""
    power_usd: float = 0.0
    """Part of the price that is electricity, where the chip is owned."""
    default: bool = False
    """The way that a comparison starts from: on demand, or the reader's own price."""


def ways_of(device: str, table: Mapping[str, Price]) -> list[Way]:
    """Every way that ``table`` has a price for, host included, the default first."""
    entries = [
        price
        for price in table.values()
        if price.accelerator == device and price.includes_host and not price.suspect
    ]
    listed = [price for price in entries if price.layer == "list"]
    own = [price for price in entries if price.layer != "list"]
    ways = [_own(device, price) for price in own]
    for term in _TERMS:
        offers = newest_of_each_provider(p for p in listed if p.term == term)
        if not offers:
            continue
        ways.append(_way(device, _TERMS[term], term, offers))
        groups = [
            (name, [price for price in offers if (price.provider in HYPERSCALERS) is large])
            for name, large in (("neocloud", False), ("hyperscaler", True))
        ]
        if term == "on_demand" and all(group for _, group in groups):
            ways += [_way(device, name, term, group) for name, group in groups]
    published = published_owned().get(device)
    if published is not None and not any(price.layer == "owned" for price in own):
        ways.append(_own(device, published, published=True))
    return ways


def as_run(row: Row) -> Way | None:
    """The price that a stored figure carries; None where it has none."""
    if row.usd_per_chip_hour is None or row.usd_per_chip_hour <= 0:
        return None
    try:
        as_of = dt.date.fromisoformat(row.price_as_of or "")
    except ValueError:
        as_of = row.started_at.date()
    usd = row.usd_per_chip_hour
    return Way(
        device=row.device,
        label="as stored with the run",
        term="given",
        layer="negotiated",
        usd_per_chip_hour=usd,
        low=usd,
        high=usd,
        price_id=row.price_id or "given",
        as_of=as_of,
        providers=1,
        every_hour=False,
    )


def _own(device: str, price: Price, *, published: bool = False) -> Way:
    usd = price.usd_per_chip_hour
    whose = "owned" if price.layer == "owned" else f"yours, {_TERMS[price.term]}"
    whose = "owned at published figures" if published else whose
    return Way(
        device=device,
        label=whose,
        term=price.term,
        layer=price.layer,
        usd_per_chip_hour=usd,
        low=usd,
        high=usd,
        price_id=price.id,
        as_of=price.as_of,
        providers=1,
        every_hour=price.layer == "owned" or price.term in CONTRACTS,
        aside=published or price.term in INTERRUPTIBLE,
        power_usd=price.power_usd,
    )


def _way(device: str, label: str, term: str, offers: Iterable[Price]) -> Way:
    cheapest = sorted(offers, key=lambda price: (price.usd_per_chip_hour, price.id))
    chosen = middle(cheapest)
    return Way(
        device=device,
        label=label,
        term=term,
        layer="list",
        usd_per_chip_hour=chosen.usd_per_chip_hour,
        low=cheapest[0].usd_per_chip_hour,
        high=cheapest[-1].usd_per_chip_hour,
        price_id=chosen.id,
        as_of=chosen.as_of,
        providers=len(cheapest),
        every_hour=term in CONTRACTS,
        aside=term in INTERRUPTIBLE,
    )
