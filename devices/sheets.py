"""What each accelerator can do at most: peak FLOP/s, memory, links and power, with sources.

One line of ``sheets.csv`` is one device. Peaks are dense (no sparsity) and for one physical
chip. A figure that no source gives is missing, never estimated: without a peak there is no MFU,
without a power there is no energy cost. Where sources disagree the note says so.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tpubench.errors import UsageError

PRECISIONS = ("bfloat16", "float16", "fp8", "int8", "fp4", "float32")
"""Precisions with a peak column. int8 counts operations, the others floating point."""

_TABLE = Path(__file__).with_name("sheets.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, per physical chip. None means that no usable source gives the figure."""

    name: str
    """Canonical name, as stored in a row's ``device`` column."""
    vendor: str
    generation: str
    peak_flop_s: Mapping[str, float]
    """Dense peak in FLOP/s (int8: operations/s) by precision; absent when not sourced."""
    hbm_bytes: float
    hbm_bytes_s: float | None
    interconnect_bytes_s: float | None
    """Chip-to-chip links of the scale-up domain, both directions added, bytes/s."""
    scaleup_chips: int | None
    """Largest number of chips joined by those links."""
    devices_per_chip: int
    """How many devices a framework sees for one physical chip (a TPU v7 chip shows as two)."""
    tdp_w: float | None
    """Thermal design power of the chip, watts."""
    source: str
    as_of: dt.date
    """Date of the source's copy, or the day on which a pinned source was read."""
    note: str


@functools.cache
def _table() -> Mapping[str, Device]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        entries = [_device(record) for record in csv.DictReader(stream)]
    return MappingProxyType({entry.name: entry for entry in entries})


def devices() -> dict[str, Device]:
    """Every device of the table by canonical name."""
    return dict(_table())


def device(name: str) -> Device:
    """The device of that canonical name; UsageError naming the known ones otherwise."""
    try:
        return _table()[name]
    except KeyError:
        raise UsageError(f"unknown device {name!r}; known: {', '.join(_table())}") from None


def _number(text: str, scale: float = 1.0) -> float | None:
    return float(text) * scale if text else None


def _device(record: dict[str, str]) -> Device:
    peaks = {p: _number(record[f"{p}_tflop_s"], 1e12) for p in PRECISIONS}
    return Device(
        name=record["name"],
        vendor=record["vendor"],
        generation=record["generation"],
        peak_flop_s=MappingProxyType({p: v for p, v in peaks.items() if v is not None}),
        hbm_bytes=float(record["hbm_bytes"]),
        hbm_bytes_s=_number(record["hbm_gbyte_s"], 1e9),
        interconnect_bytes_s=_number(record["interconnect_gbyte_s"], 1e9),
        scaleup_chips=int(record["scaleup_chips"]) if record["scaleup_chips"] else None,
        devices_per_chip=int(record["devices_per_chip"]),
        tdp_w=_number(record["tdp_w"]),
        source=record["source"],
        as_of=dt.date.fromisoformat(record["as_of"]),
        note=record["note"],
    )
