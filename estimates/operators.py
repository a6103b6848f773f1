"""How much of the data sheet single operators reach, from measured operator tables.

``operators.json`` is written by the fit from tables of matrix products, decode-time weight reads
and collectives (one line a device, precision and shape). A device or precision that was not
measured takes the median of its vendor, then of all: the spread of those medians is kept with it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

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


@functools.cache
def _table() -> Mapping[str, Mapping[str, Efficiency]]:
    stored = json.loads(_FILE.read_text(encoding="utf-8"))["devices"]
    return {
        chip: {
            name: Efficiency(point=v["point"], low=v["low"], high=v["high"], n=v["n"])
            for name, v in entries.items()
        }
        for chip, entries in stored.items()
    }


@functools.cache
def efficiency(chip: str, operator: str) -> Efficiency:
    """The efficiency of an operator on a device, or what its relatives reach."""
    table = _table()
    found = table.get(chip, {}).get(operator)
    if found is not None:
        return found
    vendor = chip.split("-")[0]
    for relatives in ([c for c in table if c.startswith(vendor)], list(table)):
        points = [table[c][operator].point for c in relatives if operator in table[c]]
        if points:
            return Efficiency(point=median(points), low=min(points), high=max(points), n=0)
    point = FALLBACK[operator]
    return Efficiency(point=point, low=point / 2, high=min(1.0, point * 1.5), n=0)


def matmul(chip: str, precision: str, *, large: bool = False) -> float:
    """Share of the peak that matrix products reach at a precision; ``large`` takes the best."""
    name = {"float16": "bfloat16", "float32": "bfloat16", "int4": "bfloat16"}.get(
        precision, precision
    )
    found = efficiency(chip, f"gemm:{name}")
    return found.high if large and found.n else found.point


def link(chip: str) -> float:
    """Share of the links' rate that large collectives reach."""
    return efficiency(chip, "link").point
