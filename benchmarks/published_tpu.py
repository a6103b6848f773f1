"""What the comparisons of compiled estimates with published TPU figures have in common."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection, Sequence
from pathlib import Path

from tpubench.devices.names import canonical
from tpubench.devices.vendors import is_tpu
from tpubench.estimates.compiled.request import default_cache

NOT_A_TPU = "not a TPU"


def tpu(row: dict[str, str]) -> str | None:
    """The row's device, where it is a TPU."""
    device = canonical(row["device"])
    return device if device is not None and is_tpu(device) else None


def unusable(row: dict[str, str], models: Collection[str]) -> str | None:
    """Why a row is left out whatever it measures; None when nothing speaks against it."""
    if tpu(row) is None:
        return NOT_A_TPU
    if row["model"] not in models:
        return f"model {row['model']} is not one of the list"
    if row["use_for_projection"].startswith("X"):
        return f"marked as unusable by the table: {row['notes'][:60]}"
    return None


def parse(description: str) -> argparse.Namespace:
    """table, python, cache and json from the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("table", type=Path)
    parser.add_argument("--python", help="interpreter with tpubench[compile]")
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def summary(ratios: Sequence[float]) -> dict[str, float]:
    """Of estimates over published figures: the middle, the distance from 1, and how many near."""
    near = sum(0.75 <= ratio <= 1.25 for ratio in ratios) / len(ratios)
    return {
        "rows": len(ratios),
        "median": round(statistics.median(ratios), 3),
        "median_abs_error": round(statistics.median(abs(ratio - 1) for ratio in ratios), 3),
        "within_25_percent": round(near, 2),
    }
