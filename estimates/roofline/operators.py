"""How much of the data sheet single operators reach, from measured operator tables.

``operators.json`` is written by the fit from tables of matrix products, decode-time weight reads
and collectives (one line a device, precision and shape). A device or precision that was not
measured takes the median of its generation, else of its vendor, else of all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tpubench.devices.sheets import devices
from tpubench.estimates.roofline.chips import Chip

_FILE = Path(__file__).with_name("operators.json")

FALLBACK = {
    "gemm:bfloat16": 0.75,
    "gemm:fp8": 0.5,
    "gemm:fp4": 0.35,
    "gemm:int8": 0.5,
    "link": 0.6,
}
"""Round figures for what no table at all holds, so that a prediction stays possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Share of the peak : median and the middle 80 % of the shapes."""

    point: float
    low: float
    high: float
    n: int
    """Measured shapes behind it; 0 when taken from other devices."""
    limit: float | None = None
    """Of matrix products: the share that they approach as they widen; None when not measured."""
    by_n: float = 0.0
    by_k: float = 0.0
    """Of matrix products: n x k weights reach limit / (1 + by_n/n + by_k/k)."""


@functools.cache
def _table() -> Mapping[str, Mapping[str, Efficiency]]:
    stored = json.loads(_FILE.read_text(encoding="utf-8"))["devices"]
    return {
        chip: {name: Efficiency(**v) for name, v in entries.items()}
        for chip, entries in stored.items()
    }


@functools.cache
def efficiency(chip: str, operator: str) -> Efficiency:
    """The efficiency of an operator on a device, or what its relatives reach."""
    table = _table()
    entry = table.get(chip, {}).get(operator)
    if entry is not None:
        return entry
    for relatives in _relatives(chip, table):
        known = [table[c][operator] for c in relatives if operator in table[c]]
        if known:
            return Efficiency(
                point=median(e.point for e in known),
                low=min(e.low for e in known),
                high=median(e.high for e in known),
                n=0,
                limit=median(e.high if e.limit is None else e.limit for e in known),
                by_n=median(e.by_n for e in known),
                by_k=median(e.by_k for e in known),
            )
    point = FALLBACK[operator]
    return Efficiency(point=point, low=point / 2, high=min(1.0, point * 1.5), n=0)


def _relatives(chip: str, measured: Iterable[str]) -> Iterator[list[str]]:
    """Measured devices, nearest kin first: of the same generation, of the vendor, all."""
    every, sheets = list(measured), devices()
    if chip in sheets:
        own = sheets[chip]
        yield [c for c in every if c in sheets and sheets[c].generation == own.generation]
        yield [c for c in every if c in sheets and sheets[c].vendor == own.vendor]
    yield every


def matmul(chip: str, precision: str, narrowness: tuple[float, float]) -> float:
    """Share of the peak that products of many tokens reach, alone.

    ``narrowness`` is 1/n and 1/k of n x k weights, or their means over a model's products.
    """
    known = _products(chip, precision)
    limit = known.high if known.limit is None else known.limit
    return limit / (1 + known.by_n * narrowness[0] + known.by_k * narrowness[1])


def usual(chip: str, precision: str) -> float:
    """The same where no widths are known: the middle of the measured shapes."""
    return _products(chip, precision).point


def _products(chip: str, precision: str) -> Efficiency:
    same = {"float16": "bfloat16", "float32": "bfloat16", "int4": "bfloat16"}
    return efficiency(chip, f"gemm:{same.get(precision, precision)}")


def link(chip: Chip) -> float:
    """Share of the links' rate that large collectives reach.

    For boards without links of their own what is measured is one host's bus (an L40S all-reduce:
    20 GB/s on two boards, 1.4 GB/s on eight of that host, where the published serving rates of
    another need 13), so the best measured is taken.
    """
    known = efficiency(chip.name, "link")
    return known.high if chip.domain == 1 else known.point
