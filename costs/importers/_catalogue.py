"""What every catalogue reader needs: rows in, dated prices out, and a reason for what is left."""

from __future__ import annotations

import csv
import datetime as dt
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tpubench.costs.price_files import MAX_TABLE_BYTES
from tpubench.costs.userfile import read_text
from tpubench.devices.names import in_machine
from tpubench.devices.price_checks import flagged
from tpubench.devices.prices import Price
from tpubench.errors import UsageError

FLEX_RATIO = 0.75
"""On-demand rows under this share of the provider's median look like the flex-start SKU."""
FLEX_START = {"gcp", "google", "google-cloud"}
"""Who sells flex-start (cloud.google.com/compute/docs/instances/provisioning-models, read
2026-11-28): elsewhere a cheap row is a small machine or a cheap region."""
MIN_REGIONS_FOR_MEDIAN = 3
FORMULA = "=+-@\t\r"
"""What a spreadsheet takes for the start of a formula; no region starts so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedOffer:
    """A row that gives no price, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedPrices:
    """What a catalogue gave. Suspicious prices are kept with a note that starts SUSPECT."""

    prices: list[Price]
    rejected: list[RejectedOffer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One row, understood: what a set of chips costs in a region for an hour."""

    where: str
    provider: str
    region: str
    accelerator: str
    chips: int
    instance: str
    on_demand_usd: float | None
    spot_usd: float | None
    includes_host: bool
    zone: str = ""
    rate_card: bool = False
    """From a list that Google publishes by chip: its on-demand rate stands without the spot one."""
    note: str = ""


class RejectedRowError(Exception):
    """Raised by a reader for one row; the import goes on without it."""


def records(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column name. UsageError when a needed column is missing."""
    reader = csv.DictReader(read_text(path, MAX_TABLE_BYTES).splitlines())
    try:
        missing = [name for name in needed if name not in (reader.fieldnames or [])]
        if missing:
            raise UsageError(f"{path}: no column {', '.join(missing)}; is it a catalogue?")
        for record in reader:
            cells = {str(k): v.strip() if isinstance(v, str) else "" for k, v in record.items()}
            yield reader.line_num, cells
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: {error}") from None


def amount(name: str, text: str) -> float | None:
    """A cell as a price; None when it is empty, which means: not sold. RejectedRowError for
    anything else that is no number above 0."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise RejectedRowError(f"{name} {text!r} is not a number") from None
    if not math.isfinite(value) or value <= 0:
        raise RejectedRowError(f"{name} {text} is not above 0")
    return value


def count(name: str, text: str) -> int:
    """A cell as a whole number of devices, 1 to 100,000. RejectedRowError when it is none."""
    try:
        value = float(text)
    except ValueError:
        raise RejectedRowError(f"{name} {text!r} is not a number") from None
    if not 1 <= value <= 100_000 or value != int(value):
        raise RejectedRowError(f"{name} {text} is not a whole number of devices")
    return int(value)


def gpu(name: str, instance: str) -> str:
    """Canonical device of a catalogue's GPU name, with the machine type to settle the variant.

    RejectedRowError when neither says which of SXM, PCIe and NVL it is.
    """
    device = in_machine(name, instance)
    if device is None:
        raise RejectedRowError(
            f"{name!r} on {instance or 'no instance type'}: unknown, or SXM, PCIe or NVL not said"
        )
    return device


def as_prices(
    offers: Sequence[Offer], rejected: list[RejectedOffer], as_of: dt.date, source: str
) -> ImportedPrices:
    """Offers as prices per chip-hour, after the checks that need the whole catalogue."""
    entries: list[tuple[Offer, Price]] = []
    for offer in offers:
        on_demand, spot = offer.on_demand_usd, offer.spot_usd
        if not offer.region or offer.region[0] in FORMULA or not offer.region.isprintable():
            rejected.append(RejectedOffer(where=offer.where, reason="no usable region"))
            continue
        if on_demand is None and spot is None:
            rejected.append(RejectedOffer(where=offer.where, reason="no price: not sold"))
            continue
        if on_demand is not None and spot is not None:
            if spot > on_demand:
                reason = f"spot {spot:g} above on-demand {on_demand:g}"
                kept = ": the spot price alone is left out" if offer.rate_card else ""
                rejected.append(RejectedOffer(where=offer.where, reason=reason + kept))
                if not offer.rate_card:
                    continue
                spot, offer = None, replace(offer, note=f"left out: {reason}")
            elif spot == on_demand:
                spot = None
        for term, usd in (("on_demand", on_demand), ("spot", spot)):
            if usd is not None:
                entries.append((offer, _price(offer, term, usd / offer.chips, as_of, source)))
    return ImportedPrices(prices=flagged(flag_flex(_named(entries, rejected))), rejected=rejected)


def line_ranges(lines: Iterable[int]) -> str:
    """``lines 2-6, 9``: where rows stand, in few words."""
    ranges: list[list[int]] = []
    for line in sorted(lines):
        if ranges and line == ranges[-1][1] + 1:
            ranges[-1][1] = line
        else:
            ranges.append([line, line])
    words = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    plural = "" if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else "s"
    return f"line{plural} {', '.join(words)}"


def conflicting(values: Iterable[float | None]) -> list[float]:
    """The different values that one thing is given, if it is given several; empty otherwise."""
    stated = sorted({value for value in values if value is not None})
    return stated if len(stated) > 1 else []


def different(texts: Iterable[str]) -> list[str]:
    """The cells that say different things, one of each, if they do; ``7.5`` and ``7.50`` agree."""
    stated: dict[float | str, str] = {}
    for text in texts:
        try:
            stated.setdefault(float(text), text)
        except ValueError:
            stated.setdefault(text, text)
    return list(stated.values()) if len(stated) > 1 else []


def _named(entries: Sequence[tuple[Offer, Price]], rejected: list[RejectedOffer]) -> list[Price]:
    """Prices with their ids, in the order of their rows; what id each gets hangs on no order.

    Equal prices of several sizes and zones are one entry; different ones carry the instance type,
    and the zone where that does not tell them apart. One offer at several prices is none.
    """
    alone = _without_conflicts(entries, rejected)
    places: dict[str, int] = {}
    for place, (_, entry) in enumerate(entries):
        places.setdefault(entry.id, place)
    by_id: dict[str, tuple[int, Price]] = {}
    for offer, entry in sorted(alone, key=lambda one: (one[0].chips, one[0].instance, one[0].zone)):
        size = f"{entry.id}-{_slug(offer.instance)}-x{offer.chips}"
        for name in (entry.id, size, f"{size}-{_slug(offer.zone)}"):
            _, held = by_id.setdefault(name, (places[entry.id], replace(entry, id=name)))
            if math.isclose(held.usd_per_chip_hour, entry.usd_per_chip_hour, rel_tol=1e-3):
                break
        else:
            reason = "its name is that of another offer at another price"
            rejected.append(RejectedOffer(where=offer.where, reason=reason))
    return [price for _, price in sorted(by_id.values(), key=lambda one: one[0])]


def _without_conflicts(
    entries: Sequence[tuple[Offer, Price]], rejected: list[RejectedOffer]
) -> list[tuple[Offer, Price]]:
    """One entry for each offer and term; an offer that is given several prices is left out."""
    same: dict[tuple[str, str, int, str], list[tuple[Offer, Price]]] = defaultdict(list)
    for offer, entry in entries:
        same[entry.id, offer.instance, offer.chips, offer.zone].append((offer, entry))
    alone = []
    for group in same.values():
        offer, entry = group[0]
        rates = conflicting(price.usd_per_chip_hour for _, price in group)
        if not rates:
            alone.append((offer, entry))
            continue
        where = ", ".join(other.where for other, _ in group)
        prices = " and ".join(f"{rate * offer.chips:g}" for rate in rates)
        reason = f"conflicting prices for one offer, {entry.term} of {offer.instance}: {prices}"
        rejected.append(RejectedOffer(where=where, reason=reason))
    return alone


def flag_flex(entries: Sequence[Price]) -> list[Price]:
    """On-demand prices far under the provider's median for the same chip get a SUSPECT note."""
    by_chip: dict[tuple[str, str, bool], list[float]] = defaultdict(list)
    for entry in entries:
        if entry.term == "on_demand":
            by_chip[_chip(entry)].append(entry.usd_per_chip_hour)
    flagged = []
    for entry in entries:
        rates = by_chip.get(_chip(entry), [])
        sold = _slug(entry.provider) in FLEX_START
        if sold and entry.term == "on_demand" and len(rates) >= MIN_REGIONS_FOR_MEDIAN:
            ratio = entry.usd_per_chip_hour / statistics.median(rates)
            if ratio < FLEX_RATIO:
                why = f"SUSPECT {ratio:.2f}x the provider's median: looks like the flex-start rate"
                entry = replace(entry, note=f"{why}; {entry.note}".rstrip("; "))
        flagged.append(entry)
    return flagged


def _chip(entry: Price) -> tuple[str, str, bool]:
    return entry.provider, entry.accelerator, entry.includes_host


def _price(offer: Offer, term: str, usd: float, as_of: dt.date, source: str) -> Price:
    name = "-".join((_slug(offer.provider), _slug(offer.region), offer.accelerator, term))
    return Price(
        id=f"{name}-{as_of.isoformat()}",
        provider=offer.provider,
        region=offer.region,
        accelerator=offer.accelerator,
        term=term,
        usd_per_chip_hour=usd,
        includes_host=offer.includes_host,
        source=source,
        as_of=as_of,
        layer="list",
        note=offer.note,
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "any"
