"""The list price of a device: one price, chosen by one rule, wherever one is needed.

Which list price a device is shown at decides the answer, so the rule is fixed: on-demand prices
that include the host; of each provider the newest date and there the cheapest region; of the
providers the middle one (the lower of two). A device that one provider alone sells gets that
provider's price. The lowest of all is not taken: it is one small provider's, and not for the size
of a purchase that is decided here (docs/adr/0007-published-results.md).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from tpubench.devices.prices import Price, prices

RULE = (
    "list price: on demand, host included; of each provider the newest, cheapest region; of the"
    " providers the middle one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPrices:
    """The price that a device's figures are shown at, and the ends of what providers ask."""

    middle: Price
    cheapest: Price
    dearest: Price


@functools.cache
def list_prices(device: str) -> ListPrices | None:
    """The on-demand list prices of a device; None when the table has none with the host."""
    newest: dict[str, Price] = {}
    for price in prices().values():
        usable = price.layer == "list" and price.term == "on_demand" and price.includes_host
        if price.accelerator != device or not usable or price.suspect:
            continue
        held = newest.get(price.provider)
        if held is None or _better(price, held):
            newest[price.provider] = price
    if not newest:
        return None
    ordered = sorted(newest.values(), key=lambda price: (price.usd_per_chip_hour, price.id))
    return ListPrices(
        middle=ordered[(len(ordered) - 1) // 2], cheapest=ordered[0], dearest=ordered[-1]
    )


def _better(price: Price, held: Price) -> bool:
    if price.as_of != held.as_of:
        return price.as_of > held.as_of
    return _rank(price) < _rank(held)


def _rank(price: Price) -> tuple[float, bool, str]:
    """Cheapest first; of regions at the same price one in the United States, then by name."""
    return price.usd_per_chip_hour, not price.region.startswith("us"), price.id
