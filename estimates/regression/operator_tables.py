"""Reads a table of single operators into efficiencies: the first half of the fit."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from tpubench.devices.precisions import named
from tpubench.errors import UsageError
from tpubench.estimates.regression.process import Array
from tpubench.estimates.roofline.chips import Chip, resolve

LARGE = 2048
"""Rows of a product from which on it is bound by FLOP/s."""
FITTED = frozenset({"bfloat16", "fp8", "fp4", "int8"})
"""Precisions of the products that efficiencies are fitted for."""
FEWEST = 10
"""Measured shapes that a curve over their widths needs."""


def efficiencies(path: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Device to operator to its median share of the peak, the middle 80 %, and the count.

    ``gemm:PRECISION`` over products of at least 2048 rows, ``link`` the all-reduce of at least
    64 MB over all chips measured. Figures above the peak are
    left out: such a line is wrong or is another operator than it says. UsageError for a file that
    cannot be read as such a table.
    """
    by_operator: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                half = "half a chip" in row["device"]
                chip = resolve(row["device"]) or resolve(row["device"].split(")")[0] + ")")
                if chip is not None:
                    for name, *line in _shares(row, chip, half):
                        if 0 < line[0] <= 1:
                            by_operator[chip.name, name].append((line[0], line[1], line[2]))
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise UsageError(f"{path}: not a table of operators ({error})") from None
    devices: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (chip_name, name), lines in sorted(by_operator.items()):
        shares, per_n, per_k = np.array(lines).T
        low, point, high = np.quantile(shares, [0.1, 0.5, 0.9])
        devices[chip_name][name] = {
            "point": round(float(point), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
            "n": len(shares),
        }
        if name.startswith("gemm:") and len(shares) >= FEWEST:
            devices[chip_name][name] |= _by_width(shares, per_n, per_k)
    return dict(devices)


def _by_width(shares: Array, per_n: Array, per_k: Array) -> dict[str, float]:
    """The curve limit / (1 + by_n/n + by_k/k) nearest to the measured shares.

    A product of n x k weights does work in proportion to n·k for each of its rows, reads and
    converts its input in proportion to k, and writes its output in proportion to n: those parts do
    not shrink with a narrower precision.
    """

    def distance(p: Array) -> Array:
        slower = np.log1p(np.exp(p[1]) * per_n + np.exp(p[2]) * per_k)
        return np.asarray(p[0] - slower - np.log(shares))

    start = [np.log(shares.max()), np.log(100.0), np.log(100.0)]
    bounds = ([-5.0, 0.0, 0.0], [0.0, np.log(1e4), np.log(1e4)])
    best = np.exp(least_squares(distance, start, bounds=bounds, loss="soft_l1", f_scale=0.1).x)
    limit, by_n, by_k = (float(value) for value in best)
    return {"limit": round(limit, 4), "by_n": round(by_n, 1), "by_k": round(by_k, 1)}


def _shares(row: dict[str, str], chip: Chip, half: bool) -> list[tuple[str, float, float, float]]:
    """(name, share of the peak, 1/n, 1/k) of one line; empty for lines that say nothing."""

    def number(column: str) -> float:
        return float(row[column]) if row[column] else 0.0

    part = 0.5 if half else 1.0
    precision = named(row["dtype"])
    if row["op"] == "gemm" and precision in FITTED:
        m, n, k = number("m"), number("n"), number("k")
        seconds = number("latency_ms") * 1e-3
        peak = chip.peak_flop_s.get(precision)
        if not seconds or not peak:
            return []
        if m >= LARGE:
            share = 2 * m * n * k / seconds / (peak * part)
            return [(f"gemm:{precision}", share, 1 / n, 1 / k)]
        return []
    if row["op"] == "nccl_all_reduce" and row["dtype"] == "half":
        chips, moved = number("num_gpus"), 2 * number("message_size")
        seconds = number("latency_ms") * 1e-3
        if moved >= 64e6 and seconds and chips > 1:
            rate = 2 * (chips - 1) / chips * moved / seconds
            return [("link", rate / (chip.link_bytes_s / 2), 0.0, 0.0)]
    return []
