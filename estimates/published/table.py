"""A published table, line by line: a problem that the model can solve, or the reason why not.

Two layouts, those of ``inference.csv`` and ``training.csv``: one figure a line with its source,
device, software, model, precision, lengths and batch; and that of the rows that ship.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.estimates.problem import MeasuredLine
from tpubench.estimates.published import inference, shipped_rows
from tpubench.estimates.published import training as _training
from tpubench.estimates.published.cells import SkipError, number
from tpubench.estimates.published.units import house
from tpubench.results import regular_file

TRAINING_COLUMNS = ("source_id", "device", "chips", "software", "model", "params_b", "seq_len",
                    "global_batch", "dtype", "parallelism", "metric", "value", "unit")  # fmt: skip
INFERENCE_COLUMNS = ("source_id", "device", "chips", "software", "model", "params_b",
                     "weight_dtype", "tensor_parallel", "scenario", "batch_or_concurrency",
                     "input_len", "output_len", "metric", "value", "unit")  # fmt: skip
MOST_ROWS = 100_000
MOST_BYTES = 64 * 2**20


def read(path: Path) -> list[MeasuredLine]:
    """Every line of a published table; UsageError for a file that is not one."""
    try:
        text = regular_file.read_bounded(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read ({reason})") from None
    if "\0" in text:
        raise UsageError(f"{path}: holds NUL characters; not a CSV table")
    try:
        records = list(csv.reader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: not a CSV table ({error})") from None
    if not records:
        raise UsageError(f"{path}: empty; the first line must name the columns")
    header = [name.strip() for name in records[0]]
    columns = _layout(path, header)
    if len(records) - 1 > MOST_ROWS:
        raise UsageError(f"{path}: {len(records) - 1} rows; at most {MOST_ROWS}")
    entries = []
    for line, record in enumerate(records[1:], start=2):
        if not any(cell.strip() for cell in record):
            continue
        if len(record) != len(header):
            why = f"{len(record)} cells under {len(header)} columns"
            entries.append(MeasuredLine(line=line, source="", device="", skipped=why))
            continue
        row = {k: v.strip() for k, v in zip(header, record, strict=True)}
        training = columns is TRAINING_COLUMNS
        if columns is shipped_rows.COLUMNS:
            row, training = shipped_rows.translate(row)
        entries.append(entry(line, row, training=training))
    return entries


def _layout(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    if len(set(header)) != len(header):
        raise UsageError(f"{path}: a column is named twice")
    for columns in (TRAINING_COLUMNS, INFERENCE_COLUMNS, shipped_rows.COLUMNS):
        if set(columns) <= set(header):
            return columns
    missing = min(
        (sorted(set(c) - set(header)) for c in (TRAINING_COLUMNS, INFERENCE_COLUMNS)), key=len
    )
    raise UsageError(f"{path}: not a published table, columns missing: {', '.join(missing)}")


def entry(line: int, row: Mapping[str, str], *, training: bool) -> MeasuredLine:
    """One line, parsed as far as it goes."""
    source, device = row["source_id"] or "unnamed", row["device"]
    metric, factor = house(row["metric"])
    value = number(row["value"])
    row = {**row, "metric": metric}
    parsed = MeasuredLine(line=line, source=source[:80], device=device[:80])
    if value is None or value <= 0:
        return replace(parsed, skipped="value is not a positive number")
    try:
        problem = _training.problem(row) if training else inference.problem(row)
    except SkipError as reason:
        return replace(parsed, value=factor * value, skipped=str(reason))
    return replace(parsed, device=problem.chip.name, value=factor * value, problem=problem)
