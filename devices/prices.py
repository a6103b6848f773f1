"""What a chip-hour costs: the list prices shipped with tpubench, each with source and date.

Three layers that are never mixed: ``list`` (a provider's catalogue), ``negotiated`` (the user's
own rate) and ``owned`` (derived from capex). One line of ``prices.csv`` is one list price. A
source dated only to a month or a span of years is entered under the earliest day it can have, but
never before its chip was sold, so that a price never looks fresher than it is. Figures that
contradicted themselves in their source (spot above on-demand, a flex rate in the on-demand column)
are not shipped; one that is probably another thing than it says is flagged
(:mod:`tpubench.devices.price_checks`).
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from tpubench.errors import UsageError

Layer = Literal["list", "negotiated", "owned"]
Term = Literal["on_demand", "spot", "flex", "reserved", "1y", "3y", "take_or_pay", "given"]
"""``flex`` is Google's Flex-start, ``reserved`` a short capacity block paid ahead."""

STALE_AFTER_DAYS = 90
GIVEN = "given"
"""Id of a price typed on the command line."""

SMALLEST, LARGEST = 1e-30, 1e30
"""Range of any sum that comes in: wide of anything real, and far from under- and overflow."""

_TABLE = Path(__file__).with_name("prices.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedPart:
    """What an owned price was made of and a reader may turn."""

    capex_usd: float
    """Of one chip with its share of server, network and building."""
    kwh: float
    """Taken at the meter by an hour of one chip's work, idle hours included."""
    usd_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price. ValueError when a field is outside its range; a price without a date is none."""

    id: str
    provider: str
    region: str
    accelerator: str
    """Canonical device name; ``any`` for a figure given on the command line."""
    term: str
    usd_per_chip_hour: float
    """US dollars for one physical chip for one hour."""
    includes_host: bool
    """Whether CPU and memory of the host are in the figure or billed beside it."""
    source: str
    as_of: dt.date
    layer: str
    note: str = ""
    owned: OwnedPart | None = None
    """Of an owned price that was derived here; no part of its record."""

    def __post_init__(self) -> None:
        for name in ("id", "provider", "region", "accelerator", "source"):
            if not getattr(self, name):
                raise ValueError(f"price {self.id!r}: {name} is empty")
        if self.layer not in get_args(Layer):
            raise ValueError(f"price {self.id!r}: layer {self.layer!r} not in {get_args(Layer)}")
        if self.term not in get_args(Term):
            raise ValueError(f"price {self.id!r}: term {self.term!r} not in {get_args(Term)}")
        if not SMALLEST <= self.usd_per_chip_hour <= LARGEST:
            raise ValueError(
                f"price {self.id!r}: usd_per_chip_hour {self.usd_per_chip_hour} is not a"
                f" positive number between {SMALLEST:g} and {LARGEST:g}"
            )

    @property
    def power_usd(self) -> float:
        """What of the hour is electricity, where it is known: of an owned price."""
        return 0.0 if self.owned is None else self.owned.kwh * self.owned.usd_per_kwh

    @property
    def sha256(self) -> str:
        """Hash of the whole entry, stored with every figure made from it."""
        text = json.dumps(self.record(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> dict[str, str | float | bool]:
        """The entry as plain JSON values, dates in ISO form."""
        fields = dataclasses.asdict(dataclasses.replace(self, owned=None))
        del fields["owned"]
        return {**fields, "as_of": self.as_of.isoformat()}

    def dated(self, day: dt.date) -> dict[str, str | float | bool]:
        """The record as a reader sees it on ``day``: with its age and whether it is stale."""
        return {**self.record(), "age_days": self.age_days(day), "stale": self.stale(day)}

    def age_days(self, today: dt.date) -> int:
        """Days since the price was true."""
        return (today - self.as_of).days

    @property
    def suspect(self) -> bool:
        """Whether its source contradicts itself; such a price is shown so and never a default."""
        return self.note.startswith("SUSPECT")

    def stale(self, today: dt.date) -> bool:
        """Older than :data:`STALE_AFTER_DAYS`; shown beside the price wherever it is shown."""
        return self.age_days(today) > STALE_AFTER_DAYS


def stale_on(as_of: str | None, day: dt.date) -> bool:
    """Whether a stored price of that ISO date is stale on ``day``; False for no readable date."""
    try:
        return (day - dt.date.fromisoformat(as_of or "")).days > STALE_AFTER_DAYS
    except ValueError:
        return False


def today() -> dt.date:
    """The day against which prices are stale, in UTC."""
    return dt.datetime.now(dt.UTC).date()


@functools.cache
def _table() -> Mapping[str, Price]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        entries = [_price(record) for record in csv.DictReader(stream)]
    return MappingProxyType({entry.id: entry for entry in entries})


def prices() -> dict[str, Price]:
    """Every shipped price by id."""
    return dict(_table())


def price(price_id: str) -> Price:
    """The shipped price of that id; UsageError with the nearest ids otherwise."""
    import difflib

    try:
        return _table()[price_id]
    except KeyError:
        near = difflib.get_close_matches(price_id, list(_table()), n=3, cutoff=0.4)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise UsageError(f"unknown price {price_id!r}{hint}; see 'tpubench price list'") from None


def given(usd_per_chip_hour: float, option: str = "--usd-per-chip-hour") -> Price:
    """A price from the command line, as of today and taken as the whole bill of a chip.

    UsageError unless it is a positive finite number.
    """
    try:
        return Price(
            id=GIVEN,
            provider=GIVEN,
            region="any",
            accelerator="any",
            term="given",
            usd_per_chip_hour=float(usd_per_chip_hour),
            includes_host=True,
            source="command line",
            as_of=today(),
            layer="negotiated",
        )
    except ValueError:
        raise UsageError(
            f"{option} {usd_per_chip_hour} is not a positive number:"
            " $/chip-hour must be a number above 0"
        ) from None


def _price(record: dict[str, str]) -> Price:
    return Price(
        id=record["id"],
        provider=record["provider"],
        region=record["region"],
        accelerator=record["accelerator"],
        term=record["term"],
        usd_per_chip_hour=float(record["usd_per_chip_hour"]),
        includes_host={"yes": True, "no": False}[record["includes_host"]],
        source=record["source"],
        as_of=dt.date.fromisoformat(record["as_of"]),
        layer=record["layer"],
        note=record["note"],
    )
