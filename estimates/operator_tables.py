"""Reads a table of single operators into efficiencies: the first half of the fit."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from tpubench.estimates.chips import Chip, resolve
from tpubench.results.errors import UsageError

_PEAK = {"bfloat16": "bfloat16", "fp8": "fp8", "nvfp4": "fp4", "int8": "int8"}
LARGE = 2048
"""Rows of a product from which on it is bound by FLOP/s."""


def efficiencies(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Device to operator to its median share of the peak, the middle 80 %, and the count.

    ``gemm:PRECISION`` over products of at least 2048 rows, ``stream:PRECISION`` the bandwidth of
    reading the weights of products of at most 32 rows, ``copy`` of plain memory copies,
    ``link`` the all-reduce of at least 64 MB over all chips measured. Figures above the peak are
    left out: such a line is wrong or is another operator than it says.
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                half = "half a chip" in row["device"]
                chip = resolve(row["device"]) or resolve(row["device"].split(")")[0] + ")")
                if chip is not None:
                    for name, share in _shares(row, chip, half):
                        if 0 < share <= 1:
                            found[chip.name, name].append(share)
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise UsageError(f"{path}: not a table of operators ({error})") from None
    devices: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (chip_name, name), shares in sorted(found.items()):
        low, point, high = np.quantile(shares, [0.1, 0.5, 0.9])
        devices[chip_name][name] = {
            "point": round(float(point), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
            "n": len(shares),
        }
    return dict(devices)


def _shares(row: dict[str, str], chip: Chip, half: bool) -> list[tuple[str, float]]:
    """(name, share of the peak) of one line; empty for lines that say nothing of the kind."""

    def number(column: str) -> float:
        return float(row[column]) if row[column] else 0.0

    part = 0.5 if half else 1.0
    if row["op"] == "gemm" and row["dtype"] in _PEAK:
        precision = _PEAK[row["dtype"]]
        m, n, k = number("m"), number("n"), number("k")
        seconds = number("latency_ms") * 1e-3
        peak = chip.peak_flop_s.get(precision)
        if not seconds or not peak:
            return []
        if m >= LARGE:
            return [(f"gemm:{precision}", 2 * m * n * k / seconds / (peak * part))]
        if m <= 32 and n * k >= 2**24:
            width: dict[str, Any] = {"bfloat16": 2, "fp8": 1, "int8": 1, "fp4": 0.5625}
            read = n * k * width[precision]
            return [(f"stream:{precision}", read / seconds / (chip.hbm_bytes_s * part))]
        return []
    if row["op"] == "hbm_copy" and number("derived_gbps"):
        return [("copy", number("derived_gbps") * 1e9 / chip.hbm_bytes_s)]
    if row["op"] == "nccl_all_reduce" and row["dtype"] == "half":
        chips, moved = number("num_gpus"), 2 * number("message_size")
        seconds = number("latency_ms") * 1e-3
        if moved >= 64e6 and seconds and chips > 1:
            rate = 2 * (chips - 1) / chips * moved / seconds
            return [("link", rate / (chip.link_bytes_s / 2))]
    return []
