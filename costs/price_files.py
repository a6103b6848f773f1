"""The user's own prices: negotiated and owned ones in TOML, imported catalogues in CSV.

[[negotiated]]
id = "gcp-v7-2027"          provider = "gcp"       region = "us-central1"
accelerator = "tpu-v7"      term = "3y"            usd_per_chip_hour = 5.10
includes_host = true        source = "order form"  as_of = 2026-10-01

[[owned]]                   # the rate is derived: see tpubench.costs.owned
id = "own-gb200"            accelerator = "nvidia-gb200"
source = "quote 17"         as_of = 2026-10-01
capex_usd = 47000           wacc = 0.087           years = 5.5
kw = 1.667                  pue = 1.08             usd_per_kwh = 0.0821
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import Field, field_validator, model_validator

from tpubench.costs.owned import Owned, hourly
from tpubench.costs.userfile import Checked, read_text, read_toml
from tpubench.devices.list_price import NO_PRICE, device_price
from tpubench.devices.names import canonical
from tpubench.devices.prices import OwnedPart, Price, Term, given, price, prices
from tpubench.devices.sheets import device, devices
from tpubench.errors import UsageError

MAX_TABLE_BYTES = 64 << 20
PRICES_VARIABLE = "TPUBENCH_PRICES"
_PUBLISHED_OWNED = Path(__file__).with_name("published_owned.toml")
COLUMNS = (
    "id",
    "provider",
    "region",
    "accelerator",
    "term",
    "usd_per_chip_hour",
    "includes_host",
    "source",
    "as_of",
    "layer",
    "note",
)


class _Entry(Checked):
    id: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][\w.:/+-]*$")
    region: str = Field(default="any", min_length=1, max_length=100)
    accelerator: str
    source: str = Field(min_length=1, max_length=500)
    as_of: dt.date
    note: str = Field(default="", max_length=500)

    @field_validator("accelerator")
    @classmethod
    def _known(cls, value: str) -> str:
        name = canonical(value)
        if name is None:
            raise ValueError(f"unknown accelerator {value[:60]!r}; known: {', '.join(devices())}")
        return name


class _Negotiated(_Entry):
    provider: str = Field(min_length=1, max_length=100)
    term: Term
    usd_per_chip_hour: float = Field(gt=0)
    includes_host: bool = True

    def price(self) -> Price:
        return Price(layer="negotiated", **self.model_dump())


class _Owned(_Entry):
    provider: str = Field(default="own", min_length=1, max_length=100)
    capex_usd: float
    wacc: float
    years: float
    kw: float
    pue: float
    usd_per_kwh: float
    colo_usd_per_kw_month: float = 0.0
    facility_capex_usd: float = 0.0
    residual_usd: float = 0.0
    opex_rate: float = 0.0
    idle_power_share: float = 0.0
    availability: float = 1.0
    utilisation: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _in_range(self) -> _Owned:
        try:
            self.usd_per_chip_hour()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def figures(self) -> Owned:
        return Owned(**self.model_dump(include=set(Owned.__dataclass_fields__)))

    def usd_per_chip_hour(self) -> float:
        """h/(u·A), the cost of an hour of work, as list prices are for hours that are rented."""
        per_hour = hourly(self.figures(), self.utilisation).total
        return per_hour / (self.utilisation * self.availability)

    def part(self) -> OwnedPart:
        load = self.idle_power_share + (1 - self.idle_power_share) * self.utilisation
        return OwnedPart(
            capex_usd=self.capex_usd + self.facility_capex_usd,
            kwh=self.kw * load * self.pue / (self.utilisation * self.availability),
            usd_per_kwh=self.usd_per_kwh,
        )

    def price(self) -> Price:
        return Price(
            id=self.id,
            provider=self.provider,
            region=self.region,
            accelerator=self.accelerator,
            term="given",
            usd_per_chip_hour=self.usd_per_chip_hour(),
            includes_host=True,
            source=self.source,
            as_of=self.as_of,
            layer="owned",
            note=self.note,
            owned=self.part(),
        )


class _PriceFile(Checked):
    negotiated: list[_Negotiated] = Field(default_factory=list)
    owned: list[_Owned] = Field(default_factory=list)


def read_prices(path: Path) -> list[Price]:
    """Prices of a user's TOML, or of a CSV written by :func:`write_prices`.

    UsageError naming file, key (or line) and reason.
    """
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    content = read_toml(path, _PriceFile)
    entries: list[_Negotiated | _Owned] = [*content.negotiated, *content.owned]
    listed = [entry.price() for entry in entries]
    _refuse_duplicates(path, listed)
    return listed


def owned_figures(extra: Iterable[Path] = ()) -> dict[str, tuple[Price, Owned]]:
    """The newest owned price of each accelerator in the user's own files, and its figures."""
    newest: dict[str, tuple[Price, Owned]] = {}
    for path in (*_named(), *extra):
        if path.suffix.lower() == ".csv":
            continue
        for entry in read_toml(path, _PriceFile).owned:
            price_ = entry.price()
            held = newest.get(entry.accelerator)
            if held is None or price_.as_of >= held[0].as_of:
                newest[entry.accelerator] = price_, entry.figures()
    return newest


@functools.cache
def published_owned() -> Mapping[str, Price]:
    """What owning a chip costs at published figures, by accelerator: shown, never a default."""
    entries = read_toml(_PUBLISHED_OWNED, _PriceFile).owned
    return MappingProxyType({entry.accelerator: entry.price() for entry in entries})


def _named() -> list[Path]:
    """The files of ``$TPUBENCH_PRICES``."""
    return [Path(p) for p in os.environ.get(PRICES_VARIABLE, "").split(os.pathsep) if p]


def write_prices(path: Path, entries: Sequence[Price]) -> None:
    """One CSV table of prices. UsageError when the file exists: a snapshot is never replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for entry in entries:
                included = "yes" if entry.includes_host else "no"
                writer.writerow({**entry.record(), "includes_host": included})
    except FileExistsError:
        raise UsageError(f"{path} exists already: price snapshots are never overwritten") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None


def all_prices(extra: Iterable[Path] = ()) -> dict[str, Price]:
    """The shipped table, the files of ``$TPUBENCH_PRICES``, and ``extra``, by id.

    UsageError when two of them give different prices under one id.
    """
    by_id = prices()
    for path in (*_named(), *extra):
        for entry in read_prices(path):
            if by_id.setdefault(entry.id, entry) != entry:
                raise UsageError(f"{path}: price id {entry.id!r} is taken by another price")
    return by_id


def pick(
    table: dict[str, Price],
    accelerators: Sequence[str] = (),
    providers: Sequence[str] = (),
    terms: Sequence[str] = (),
) -> list[Price]:
    """Prices of any of these, by accelerator, cheapest first; an empty list leaves all in.

    UsageError for an unknown accelerator.
    """
    named = [canonical(each) or device(each).name for each in accelerators]
    picked = [
        entry
        for entry in table.values()
        if (not named or entry.accelerator in named)
        and (not providers or entry.provider in providers)
        and (not terms or entry.term in terms)
    ]
    return sorted(picked, key=lambda entry: (entry.accelerator, entry.usd_per_chip_hour, entry.id))


def find_price(price_id: str, extra: Iterable[Path] = ()) -> Price:
    """One price by id from all tables; UsageError with the nearest ids otherwise."""
    table_of_all = all_prices(extra)
    return table_of_all[price_id] if price_id in table_of_all else price(price_id)


def chosen_price(
    price_id: str | None, usd_per_chip_hour: float | None, extra: Iterable[Path] = ()
) -> Price | None:
    """The price that two options name, None without either; UsageError when both do."""
    if price_id is not None and usd_per_chip_hour is not None:
        raise UsageError("give --price or --usd-per-chip-hour, not both")
    if price_id is not None:
        return find_price(price_id, extra)
    return None if usd_per_chip_hour is None else given(usd_per_chip_hour)


def named_price(
    price_id: str | None,
    usd_per_chip_hour: float | None,
    named_device: str | None,
    extra: Iterable[Path] = (),
) -> Price:
    """The price named by id, by figure or by its device; UsageError unless it is just one."""
    if sum(each is not None for each in (price_id, usd_per_chip_hour, named_device)) != 1:
        raise UsageError("give one of --usd-per-chip-hour, --price and --device")
    if named_device is None:
        return asked_price(price_id, usd_per_chip_hour, extra)
    name = canonical(named_device) or device(named_device).name
    chosen = device_price(name, all_prices(extra))
    if chosen is None:
        raise UsageError(NO_PRICE.format(name))
    return chosen.price


def asked_price(
    price_id: str | None,
    usd_per_chip_hour: float | None,
    extra: Iterable[Path] = (),
    *,
    option: str = "--usd-per-chip-hour",
) -> Price:
    """The price that a command names by id or by figure; UsageError unless it is just one."""
    if (price_id is None) == (usd_per_chip_hour is None):
        raise UsageError(f"give a price id or {option}")
    if usd_per_chip_hour is not None:
        return given(usd_per_chip_hour, option)
    return find_price(price_id or "", extra)


def table(name: str) -> list[Price]:
    """The prices of a file, or the shipped ones for ``shipped``; UsageError when it holds none."""
    listed = list(prices().values()) if name == "shipped" else read_prices(Path(name))
    if not listed:
        raise UsageError(f"{name} holds no price: an empty table would show every offer as gone")
    return listed


def _read_csv(path: Path) -> list[Price]:
    lines = read_text(path, MAX_TABLE_BYTES).splitlines()
    reader = csv.DictReader(lines)
    try:
        header = reader.fieldnames or []
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise UsageError(f"{path}: no column {', '.join(missing)}; is it a price table?")
        listed = [_entry(path, reader.line_num, record) for record in reader]
    except csv.Error as error:
        raise UsageError(f"{path}: line {reader.line_num}: {error}") from None
    _refuse_duplicates(path, listed)
    return listed


def _entry(path: Path, line: int, record: dict[str, str | None]) -> Price:
    text = {name: (record.get(name) or "").strip() for name in COLUMNS}
    where = f"{path}: line {line}"
    if text["includes_host"] not in {"yes", "no"}:
        raise UsageError(f"{where}: includes_host {text['includes_host']!r} is not yes or no")
    try:
        as_of = dt.date.fromisoformat(text["as_of"])
    except ValueError:
        raise UsageError(f"{where}: as_of {text['as_of']!r} is not a date (2026-10-01)") from None
    try:
        rate = float(text["usd_per_chip_hour"])
        return Price(
            id=text["id"],
            provider=text["provider"],
            region=text["region"],
            accelerator=text["accelerator"],
            term=text["term"],
            usd_per_chip_hour=rate,
            includes_host=text["includes_host"] == "yes",
            source=text["source"],
            as_of=as_of,
            layer=text["layer"],
            note=text["note"],
        )
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def _refuse_duplicates(path: Path, entries: Sequence[Price]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise UsageError(f"{path}: price id {entry.id!r} is given twice")
        seen.add(entry.id)
