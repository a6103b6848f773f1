"""The price of a device where none was named: one price, chosen by one rule.

Which price a device is shown at decides the answer, so the rule is fixed. A list price: on-demand
prices that include the host; of each provider the newest date and there the cheapest region; of the
providers the middle one (the lower of two). A device that one provider alone sells gets that
provider's price. The lowest of all is not taken: it is one small provider's, and not for the size
of a purchase that is decided here (docs/adr/0007-published-results.md).

A user's own price, negotiated or owned, goes before every list price, and says so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tpubench.devices.prices import Price, prices

RULE = (
    "list price: on demand, host included; of each provider the newest, cheapest region; of the"
    " providers the middle one"
)
NO_PRICE = "no list price of {} includes the host: give --price ID or --usd-per-chip-hour X"
OWN_RULE = "own price: the newest of your table, and of that day the cheapest"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicePrice:
    """The price that a device's figures are shown at, and the ends of what others ask."""

    price: Price
    cheapest: Price
    dearest: Price
    rule: str
    """By which rule it was chosen, for the reader."""


def device_prices(table: Mapping[str, Price] | None = None) -> Mapping[str, DevicePrice]:
    """The price of every device that has one in ``table``, the shipped one by default."""
    return _shipped() if table is None else _choose(table.values())


def device_price(device: str, table: Mapping[str, Price] | None = None) -> DevicePrice | None:
    """The price of one device; None where no price of it includes the host."""
    return device_prices(table).get(device)


@functools.cache
def _shipped() -> Mapping[str, DevicePrice]:
    return MappingProxyType(_choose(prices().values()))


def newest_of_each_provider(entries: Iterable[Price]) -> list[Price]:
    """One price a provider: the newest, and of that day the cheapest."""
    offers: dict[str, Price] = {}
    for entry in entries:
        offers[entry.provider] = _better(entry, offers.get(entry.provider))
    return list(offers.values())


def middle(offers: Iterable[Price]) -> Price:
    """The middle one of several providers' prices, the lower of two. ValueError for none."""
    ordered = sorted(offers, key=lambda price: (price.usd_per_chip_hour, price.id))
    if not ordered:
        raise ValueError("no offers")
    return ordered[(len(ordered) - 1) // 2]


def _choose(entries: Iterable[Price]) -> dict[str, DevicePrice]:
    own: dict[str, Price] = {}
    listed: dict[str, list[Price]] = {}
    for entry in entries:
        if not entry.includes_host or entry.suspect:
            continue
        if entry.layer != "list":
            own[entry.accelerator] = _better(entry, own.get(entry.accelerator))
        elif entry.term == "on_demand":
            listed.setdefault(entry.accelerator, []).append(entry)
    chosen = {device: _listed(newest_of_each_provider(all_)) for device, all_ in listed.items()}
    return chosen | {
        device: DevicePrice(price=entry, cheapest=entry, dearest=entry, rule=OWN_RULE)
        for device, entry in own.items()
    }


def _listed(offers: list[Price]) -> DevicePrice:
    ordered = sorted(offers, key=lambda price: (price.usd_per_chip_hour, price.id))
    return DevicePrice(price=middle(ordered), cheapest=ordered[0], dearest=ordered[-1], rule=RULE)


def _better(price: Price, held: Price | None) -> Price:
    """The newer one; of one day the cheaper."""
    if held is None or price.as_of > held.as_of:
        return price
    if price.as_of < held.as_of:
        return held
    return min(price, held, key=_rank)


def _rank(price: Price) -> tuple[float, bool, str]:
    """Cheapest first; of regions at the same price one in the United States, then by name."""
    return price.usd_per_chip_hour, not price.region.startswith("us"), price.id
