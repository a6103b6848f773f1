"""Hold every figure of ``results/published/rows.csv`` against a second source, or say it has none.

    python benchmarks/check_published.py                          # the sources that ship
    python benchmarks/check_published.py inference_results_v5.1   # and other documents, by path

A second source is another document than the one that a figure was taken from: the submitter's log
of an entry of MLPerf's summary, the summary of a log. Documents given by path are read by the
importers; where they state a shipped figure, both are compared. Beside that, each figure is held
against the peak of its hardware. Exit status 1 when anything disagrees.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tpubench.estimates.published.beyond_peak import beyond_peak
from tpubench.results import published
from tpubench.results.importers import Record, read_results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("documents", type=Path, nargs="*")
    asked = parser.parse_args()
    with published.TABLE.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    shipped = {published.figure_key(line): line for line in lines}
    wrong = [
        f"{' '.join(key)}: {line['value']} here, {second.text} in {second.source}"
        for key, second in published.second_figures().items()
        if (line := shipped.get(key)) is None or not second.agrees(float(line["value"]))
    ]
    for path in asked.documents:
        wrong += compared(path, shipped)
    for row in published.rows():
        why = beyond_peak(row)
        if why is not None:
            wrong.append(f"{row.preset} {row.metric} {row.params}: {why}")
    double = [line for line in lines if published.figure_key(line) in published.second_figures()]
    print(f"{len(lines)} figures: {len(double)} with a second source, the others single-source:")
    alone = Counter(line["source_id"] for line in lines if line not in double)
    for source, count in sorted(alone.items()):
        print(f"  {count:5d}  {source}")
    for one in wrong:
        print(f"wrong: {one}")
    return 1 if wrong else 0


def compared(path: Path, shipped: dict[published.Key, dict[str, str]]) -> list[str]:
    """What a document states otherwise than the table, and a count of what it bears out."""
    imported = read_results("auto", path)
    wrong, agreed = [], 0
    for record in imported.records:
        for key, value in figures(record):
            line = shipped.get(key)
            if line is None or ("summary_results" in line["source"]) == is_summary(record):
                continue
            second = published.SecondFigure(text=f"{value:.12g}", source=str(path))
            if second.agrees(float(line["value"])):
                agreed += 1
            else:
                wrong.append(f"{' '.join(key)}: {line['value']} here, {value:g} in {path}")
    print(f"{path}: bears out {agreed} figures from other documents")
    return wrong


def is_summary(record: Record) -> bool:
    """Whether MLPerf's summary of a round says it, and not the submitter's log."""
    return "platform" in record.stated


def figures(record: Record) -> Iterator[tuple[published.Key, float]]:
    """A record's figures by the keys of the table."""
    params = dict(record.params)
    if is_summary(record):
        params["submission"] = f"{record.stated['submitter']}/{record.stated['platform']}"
    line = {
        "source_id": f"mlperf_inf_{params.get('round')}",
        "model": record.model,
        "params": json.dumps(params),
    }
    for figure in record.figures:
        if figure.value is not None:
            yield published.figure_key({**line, "metric": figure.metric}), figure.value


if __name__ == "__main__":
    sys.exit(main())
