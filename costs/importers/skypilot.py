"""SkyPilot's catalogues: ``~/.sky/catalogs/v*/<cloud>/vms.csv``.

Columns are read by name, since their order differs by cloud. Google's file gives the price of a
machine's host and of its accelerators in separate rows, which are added here by zone. Where two
rows of one host ask different prices, nobody can say which holds: both are left out, and what
needs them.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Sequence, Set
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
from tpubench.devices.names import canonical, chips_in_slice
from tpubench.devices.vendors import is_tpu
from tpubench.errors import UsageError

NO_PRICE_V6E = 700.0
"""Google's feed writes this for a v6e size without a price; a real v6e-256 costs 691.2."""

_NEEDED = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region")

_HOSTS = {
    "A100": "a2-highgpu-{}g",
    "A100-80GB": "a2-ultragpu-{}g",
    "H100": "a3-highgpu-{}g",
    "H100-MEGA": "a3-megagpu-{}g",
    "H200": "a3-ultragpu-{}g",
    "B200": "a4-highgpu-{}g",
    "GB200": "a4x-highgpu-{}g",
}
_OTHER_HOSTS = {
    ("A100", 16): "a2-megagpu-16g",
    ("L4", 1): "g2-standard-4",
    ("L4", 2): "g2-standard-24",
    ("L4", 4): "g2-standard-48",
    ("L4", 8): "g2-standard-96",
}
"""Google's machine types that hold so many of an accelerator (cloud.google.com/compute/docs)."""


def read(path: Path, provider: str | None, as_of: dt.date) -> ImportedPrices:
    """Every accelerator price of one cloud's file; see :func:`read_catalogue`."""
    cloud = provider or _cloud(path)
    rows = list(records(path, _NEEDED))
    hosts: _Hosts = defaultdict(list)
    for line, row in rows:
        if not row["AcceleratorName"]:
            hosts[_machine(row["InstanceType"], row)].append((line, row))
    offers: list[Offer] = []
    rejected: list[RejectedOffer] = []
    used: set[_Machine] = set()
    for line, row in rows:
        if not row["AcceleratorName"]:
            continue
        where = f"line {line}"
        try:
            offers.append(_offer(cloud, where, row, hosts, used))
        except RejectedRowError as error:
            rejected.append(RejectedOffer(where=where, reason=str(error)))
    rejected += _hosts_left_out(hosts, used)
    return as_prices(offers, rejected, as_of, f"SkyPilot catalogue {path.name}")


Row = dict[str, str]
_Machine = tuple[str, str, str]
"""Instance type, region and zone."""
_Hosts = dict[_Machine, list[tuple[int, Row]]]


def _machine(instance: str, row: Row) -> _Machine:
    return instance, row["Region"], row.get("AvailabilityZone", "")


def _prices_of(rows: Sequence[tuple[int, Row]]) -> str | None:
    """What several rows of one machine ask for it, if they do not agree."""
    for column in ("Price", "SpotPrice"):
        if different(row[column] for _, row in rows):
            asked = " and ".join(f"{row[column] or 'nothing'} (line {line})" for line, row in rows)
            return f"{column} {asked}"
    return None


def _hosts_left_out(hosts: _Hosts, used: Set[_Machine]) -> list[RejectedOffer]:
    """Rows without an accelerator that are in no price: conflicts one by one, the rest together."""
    rejected, bare = [], []
    for (instance, *where), rows in hosts.items():
        asked = _prices_of(rows)
        if asked is not None:
            place = " ".join(word for word in where if word)
            reason = f"{instance} in {place} has conflicting prices: {asked}"
            rejected.append(
                RejectedOffer(where=line_ranges(line for line, _ in rows), reason=reason)
            )
        elif (instance, *where) not in used:
            bare += [line for line, _ in rows]
    if bare:
        reason = "no accelerator: the price of a machine that no accelerator row adds to"
        rejected.append(RejectedOffer(where=line_ranges(bare), reason=reason))
    return rejected


def _offer(cloud: str, where: str, row: Row, hosts: _Hosts, used: set[_Machine]) -> Offer:
    name = row["AcceleratorName"]
    if is_tpu(canonical(name) or ""):
        return _tpu(cloud, where, row)
    chips = count("AcceleratorCount", row["AcceleratorCount"])
    on_demand, spot = amount("Price", row["Price"]), amount("SpotPrice", row["SpotPrice"])
    instance, included, note = row["InstanceType"], True, ""
    if not instance:
        template = _HOSTS.get(name, "")
        instance = _OTHER_HOSTS.get((name, chips)) or template.format(chips)
        machine = _machine(instance, row)
        offers = hosts.get(machine, []) if instance else []
        asked = _prices_of(offers)
        if asked is not None:
            raise RejectedRowError(f"its host {instance} has conflicting prices: {asked}")
        if on_demand is not None and spot is not None and spot > on_demand:
            raise RejectedRowError(f"spot {spot:g} above on-demand {on_demand:g}")
        if not offers:
            included, note = False, "host (CPU, memory) billed beside it"
        else:
            host = offers[0][1]
            used.add(machine)
            on_demand = _sum(on_demand, amount("Price", host["Price"]))
            spot = _sum(spot, amount("SpotPrice", host["SpotPrice"]))
    return Offer(
        where=where,
        provider=cloud,
        region=row["Region"],
        accelerator=gpu(name, instance),
        chips=chips,
        instance=instance or name,
        on_demand_usd=on_demand,
        spot_usd=spot,
        includes_host=included,
        zone=row.get("AvailabilityZone", ""),
        note=note,
    )


def _tpu(cloud: str, where: str, row: Row) -> Offer:
    name = row["AcceleratorName"].lower()
    accelerator, chips = canonical(name), chips_in_slice(name)
    if accelerator is None or chips is None:
        raise RejectedRowError(f"{name!r}: unknown TPU, or its slice name does not give the chips")
    slices = count("AcceleratorCount", row["AcceleratorCount"] or "1")
    on_demand, spot = amount("Price", row["Price"]), amount("SpotPrice", row["SpotPrice"])
    if accelerator == "tpu-v6e":
        on_demand = None if on_demand == NO_PRICE_V6E else on_demand
        spot = None if spot == NO_PRICE_V6E else spot
    return Offer(
        where=where,
        provider=cloud,
        region=row["Region"],
        accelerator=accelerator,
        chips=chips * slices,
        instance=name,
        on_demand_usd=on_demand,
        spot_usd=spot,
        includes_host=True,
        zone=row.get("AvailabilityZone", ""),
    )


def _sum(accelerators: float | None, host: float | None) -> float | None:
    return None if accelerators is None or host is None else accelerators + host


def _cloud(path: Path) -> str:
    """The cloud's name: the folder of ``<cloud>/vms.csv``, or the start of ``<cloud>_vms….csv``."""
    if path.name == "vms.csv" and re.fullmatch(r"[a-z][a-z0-9_-]*", path.parent.name):
        return path.parent.name
    match = re.fullmatch(r"([a-z][a-z0-9-]*)_vms.*\.csv", path.name)
    if match is None:
        raise UsageError(f"{path}: the name does not say which cloud it is: give --provider")
    return match[1]
