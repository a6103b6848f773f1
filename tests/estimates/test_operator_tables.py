"""Tables of single operators become curves."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tpubench.errors import UsageError
from tpubench.estimates.regression import operator_tables

COLUMNS = ("device", "op", "dtype", "m", "n", "k", "num_gpus", "message_size", "latency_ms",
           "derived_gbps")  # fmt: skip
PEAK = 989e12


def table(tmp_path: Path, shapes: list[tuple[int, int, int, float]]) -> Path:
    """Products of an H100 in bfloat16 at given shares of its peak."""
    path = tmp_path / "ops.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="")
        writer.writeheader()
        for m, n, k, share in shapes:
            writer.writerow(
                {"device": "NVIDIA H100-SXM-80GB", "op": "gemm", "dtype": "bfloat16", "m": m,
                 "n": n, "k": k, "latency_ms": 2e3 * m * n * k / (share * PEAK)}
            )  # fmt: skip
    return path


def test_a_curve_over_widths_is_found_again(tmp_path: Path) -> None:
    sides = (1024, 2048, 4096, 8192)
    shapes = [(4096, n, k, 0.8 / (1 + 900 / n + 300 / k)) for n in sides for k in sides]
    shapes.append((4096, 4096, 4096, 0.1))  # one line that is off moves it little
    shapes.append((4096, 4096, 4096, 1.2))  # and one above the peak not at all
    efficiencies = operator_tables.efficiencies(table(tmp_path, shapes))
    products = efficiencies["nvidia-h100-sxm"]["gemm:bfloat16"]
    assert products["limit"] == pytest.approx(0.8, rel=0.05)
    assert products["by_n"] == pytest.approx(900, rel=0.2)
    assert products["by_k"] == pytest.approx(300, rel=0.2)
    assert products["n"] == 17


def test_few_shapes_make_no_curve(tmp_path: Path) -> None:
    efficiencies = operator_tables.efficiencies(table(tmp_path, [(8192, 8192, 8192, 0.7)] * 3))
    assert set(efficiencies["nvidia-h100-sxm"]["gemm:bfloat16"]) == {"point", "low", "high", "n"}


def test_what_is_no_table_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "ops.csv"
    path.write_text("device,op\nNVIDIA H100-SXM-80GB,gemm\n", encoding="utf-8")
    with pytest.raises(UsageError, match="not a table of operators"):
        operator_tables.efficiencies(path)
