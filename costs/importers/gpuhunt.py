"""gpuhunt's catalogues: ``<provider>.csv`` with a row an offer, and its ``tpu_pricing.json``.

The JSON holds Google's rate of one TPU chip by region; the CSV the price of a whole instance,
with on-demand and spot in separate rows.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from pathlib import Path

from tpubench.costs.importers._catalogue import (
    ImportedPrices,
    Offer,
    RejectedOffer,
    RejectedRowError,
    amount,
    as_prices,
    count,
    different,
    gpu,
    line_ranges,
    records,
)
from tpubench.costs.price_files import MAX_TABLE_BYTES
from tpubench.costs.userfile import read_text
from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.vendors import is_tpu
from tpubench.errors import UsageError

_NEEDED = ("instance_name", "location", "price", "gpu_count", "gpu_name", "gpu_memory", "spot")


def read(path: Path, provider: str | None, as_of: dt.date) -> ImportedPrices:
    """Every accelerator price of one file; see :func:`read_catalogue`."""
    source = f"gpuhunt catalogue {path.name}"
    rejected: list[RejectedOffer] = []
    if path.suffix.lower() == ".json":
        offers = _tpu_offers(path, provider or "gcp", rejected)
    else:
        offers = _instances(path, provider or _provider(path), rejected)
    return as_prices(offers, rejected, as_of, source)


def _tpu_offers(path: Path, provider: str, rejected: list[RejectedOffer]) -> list[Offer]:
    try:
        content = json.loads(read_text(path, MAX_TABLE_BYTES))
    except RecursionError:
        raise UsageError(f"{path} is not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not an object of TPU names")
    offers = []
    for name, regions in content.items():
        if not isinstance(regions, dict):
            rejected.append(RejectedOffer(where=repr(name), reason="not an object of regions"))
            continue
        for region, rates in regions.items():
            where = f"{name!r} in {region!r}"
            try:
                offers.append(_tpu_offer(provider, where, name, region, rates))
            except RejectedRowError as error:
                rejected.append(RejectedOffer(where=where, reason=str(error)))
    return offers


def _tpu_offer(provider: str, where: str, name: str, region: str, rates: object) -> Offer:
    accelerator = canonical(name)
    if accelerator is None or not is_tpu(accelerator):
        raise RejectedRowError("unknown TPU")
    if not isinstance(rates, dict) or not region:
        raise RejectedRowError("not an object of rates")
    values = {}
    for key in ("On Demand (USD)", "Spot (USD)"):
        rate = rates.get(key)
        if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float)):
            raise RejectedRowError(f"{key} is not a number")
        values[key] = amount(key, "" if rate is None else str(rate))
    return Offer(
        where=where,
        provider=provider,
        region=region,
        accelerator=accelerator,
        chips=1,
        instance=name,
        on_demand_usd=values["On Demand (USD)"],
        spot_usd=values["Spot (USD)"],
        includes_host=True,
        rate_card=True,
    )


def _instances(path: Path, provider: str, rejected: list[RejectedOffer]) -> list[Offer]:
    """On-demand and spot rows of one instance and place, joined so that they can be compared."""
    joined: dict[tuple[str, ...], dict[bool, list[tuple[int, dict[str, str]]]]] = {}
    bare = []
    for line, row in records(path, _NEEDED):
        if not row["gpu_name"] or row["gpu_count"] in {"", "0"}:
            bare.append(line)
            continue
        key = tuple(row[name] for name in ("instance_name", "location", "gpu_name", "gpu_count"))
        pair = joined.setdefault(key, {})
        pair.setdefault(row["spot"].lower() == "true", []).append((line, row))
    offers = []
    for pair in joined.values():
        lines = [line for rows in pair.values() for line, _ in rows]
        where = f"line {(pair.get(False) or pair[True])[0][0]}"
        try:
            offers.append(_offer(provider, where, pair))
        except _ConflictError as error:
            rejected.append(RejectedOffer(where=line_ranges(lines), reason=str(error)))
        except RejectedRowError as error:
            rejected.append(RejectedOffer(where=where, reason=str(error)))
    if bare:
        rejected.append(RejectedOffer(where=line_ranges(bare), reason="no accelerator"))
    return offers


class _ConflictError(RejectedRowError):
    """Conflicting prices for one offer."""


def _asked(rows: Sequence[tuple[int, dict[str, str]]]) -> float | None:
    """The one price of equal rows; None of no row."""
    several = different(row["price"] for _, row in rows)
    if several:
        raise _ConflictError(f"conflicting prices for one offer: {' and '.join(several)}")
    return amount("price", rows[0][1]["price"]) if rows else None


def _offer(provider: str, where: str, pair: dict[bool, list[tuple[int, dict[str, str]]]]) -> Offer:
    row = (pair.get(False) or pair[True])[0][1]
    name, instance = row["gpu_name"], row["instance_name"]
    chips = chips_in_slice(instance)
    tpu = canonical(name) or canonical(instance)
    if chips is not None and tpu is not None and is_tpu(tpu):
        accelerator = tpu
    else:
        chips = count("gpu_count", row["gpu_count"])
        memory = row["gpu_memory"].removesuffix(".0")
        sized = f"{name}-{memory}GB" if name.upper() == "A100" and memory else name
        sized = "H100-NVL" if name.upper() == "H100" and memory == "94" else sized
        accelerator = gpu(sized, instance)
    return Offer(
        where=where,
        provider=provider,
        region=row["location"] or "any",
        accelerator=accelerator,
        chips=chips,
        instance=instance,
        on_demand_usd=_asked(pair.get(False, [])),
        spot_usd=_asked(pair.get(True, [])),
        includes_host=True,
    )


def _provider(path: Path) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", path.stem):
        raise UsageError(f"{path}: the name does not say which provider it is: give --provider")
    return path.stem
