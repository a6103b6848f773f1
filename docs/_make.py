"""Writes the generated part of the documentation: ``python docs/_make.py``.

A test fails when the files differ from what this writes.
"""

from __future__ import annotations

from pathlib import Path

from tpubench.results.metrics import METRICS
from tpubench.results.row import COLUMNS, arrow_schema

HERE = Path(__file__).parent


def metrics() -> str:
    """``docs/metrics.md``: every metric, from its one definition."""
    lines = [
        "# Metrics",
        "",
        "Generated from `results/metrics.py` by `python docs/_make.py`. *Value* says how the",
        "samples of one repetition become its value; several repetitions are combined by a",
        "geometric mean.",
        "",
        "| name | unit | better | value | definition |",
        "|---|---|---|---|---|",
    ]
    for metric in METRICS.values():
        value = metric.aggregate.replace("_", " ")
        lines.append(
            f"| `{metric.name}` | {metric.unit} | {metric.better} | {value} | {metric.formula} |"
        )
    return "\n".join(lines) + "\n"


def columns() -> str:
    """``docs/columns.md``: every column of the stored row."""
    lines = [
        "# The stored row",
        "",
        "Generated from `results/row.py` by `python docs/_make.py`. One row for each run × case ×",
        "repetition × metric, in immutable Parquet files under `<store>/<run_id>/`.",
        "",
        "| column | type | null | meaning |",
        "|---|---|---|---|",
    ]
    for field in arrow_schema():
        null = "yes" if field.nullable else "no"
        lines.append(f"| `{field.name}` | {field.type} | {null} | {COLUMNS[field.name]} |")
    return "\n".join(lines) + "\n"


PAGES = {"metrics.md": metrics, "columns.md": columns}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
