"""Dollars per million tokens (or per thousand samples) from a chip-hour price and a rate.

Every figure here carries the whole bill of the chips: the costs per output token and per input
token of one run are two views of one bill and must not be added. For a split that does add up,
see :mod:`tpubench.costs.split`.
"""

from __future__ import annotations

import math

from tpubench.devices.prices import LARGEST, SMALLEST
from tpubench.errors import UsageError

SECONDS_PER_HOUR = 3600


def usd_per_mtok(
    usd_per_chip_hour: float, chips: float, tok_s: float, utilisation: float = 1.0
) -> float:
    """US dollars per million tokens: 10⁶ · chips · $/chip-hour ÷ (3600 · tok/s · utilisation).

    ``tok_s`` is the rate of all ``chips`` together (at the SLO, where one is set);
    ``utilisation`` is the share of the paid hours that do this work, 0 < u ≤ 1.
    UsageError naming the argument when one is not a positive finite number.
    """
    return usd_per_items(usd_per_chip_hour, chips, tok_s, 1e6, utilisation)


def usd_per_items(
    usd_per_chip_hour: float,
    chips: float,
    items_s: float,
    items: float,
    utilisation: float = 1.0,
) -> float:
    """US dollars per ``items`` things made at ``items_s`` per second by ``chips`` chips."""
    positive("$/chip-hour", usd_per_chip_hour)
    positive("chips", chips)
    positive("rate per second", items_s)
    positive("items", items)
    share("utilisation", utilisation)
    return finite(
        "cost per item",
        items * chips * usd_per_chip_hour / (SECONDS_PER_HOUR * items_s * utilisation),
    )


def positive(name: str, value: float) -> float:
    """``value`` if it is a usable number above zero; UsageError naming it otherwise."""
    if not SMALLEST <= value <= LARGEST:
        raise UsageError(f"{name} must be a number above 0, not {value}")
    return value


def not_negative(name: str, value: float) -> float:
    """``value`` if it is a usable number of at least zero; UsageError naming it otherwise."""
    if not 0 <= value <= LARGEST:
        raise UsageError(f"{name} must be 0 or more, not {value}")
    return value


def share(name: str, value: float) -> float:
    """``value`` if it is above 0 and at most 1; UsageError naming it otherwise."""
    if not SMALLEST <= value <= 1:
        raise UsageError(f"{name} must be above 0 and at most 1, not {value}")
    return value


def finite(name: str, value: float) -> float:
    """``value`` if it is finite; UsageError when the inputs overflow the range of a double."""
    if not math.isfinite(value):
        raise UsageError(f"{name} is out of range: {value}")
    return value
