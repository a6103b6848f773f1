"""Published results that ship with tpubench: TPUs and GPUs, training and inference, with sources.

``rows.csv`` is transcribed from public documents by ``benchmarks/curate_published.py``; each line
is one figure, total over all physical chips, and names its source and date. They are rows like
any other, with evidence ``published``, and need no store.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import json
from pathlib import Path

from tpubench.results import fingerprint
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import SCHEMA_VERSION, Row
from tpubench.results.summary import IMPORTED

SELECTOR = "published"
"""Names this set wherever a command takes a selector."""

TABLE = Path(__file__).with_name("rows.csv")
COLUMNS = (
    "source_id",
    "date",
    "workload",
    "model",
    "device",
    "chips",
    "hosts",
    "parallelism",
    "dtype",
    "params",
    "metric",
    "value",
    "software",
    "note",
    "source",
)
_NOT_STATED = "not-stated"


@functools.cache
def rows() -> tuple[Row, ...]:
    """Every published figure, and the figures per chip that follow from it."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        found = [row for line in csv.DictReader(stream) for row in _rows(line)]
    return tuple(found)


def _rows(line: dict[str, str]) -> list[Row]:
    metric, value, chips = METRICS[line["metric"]], float(line["value"]), int(line["chips"])
    made = [_row(line, metric, value)]
    for derived in METRICS.values():
        if derived.per_chip_of == metric.name:
            made.append(_row(line, derived, value / chips))
    return made


def _row(line: dict[str, str], metric: Metric, value: float) -> Row:
    environment = {
        "fingerprint": {"software": line["software"]},
        "import": {"format": "published table", "date": line["date"]},
    }
    return Row(
        schema_version=SCHEMA_VERSION,
        # A run for each source, so that two sources' figures are never averaged into one.
        run_id=f"published-{line['source_id']}-{line['date']}",
        repetition=0,
        started_at=_first_day(line["date"]),
        evidence="published",
        status="ok",
        reason=line["note"] or None,
        workload=line["workload"],
        workload_version=1,
        preset=line["model"],
        params=fingerprint.canonical_json(json.loads(line["params"])),
        backend=IMPORTED,
        device=line["device"],
        chips=int(line["chips"]),
        hosts=int(line["hosts"]),
        parallelism=line["parallelism"] or _NOT_STATED,
        dtype=line["dtype"],
        metric=metric.name,
        unit=metric.unit,
        better=metric.better,
        value=value,
        ci_low=None,
        ci_high=None,
        samples=None,
        usd_per_chip_hour=None,
        price_id=None,
        price_as_of=None,
        price_sha256=None,
        source=f"{line['source']} ({line['date']})",
        fingerprint=None,
        environment=json.dumps(environment, sort_keys=True),
        git_sha=None,
        git_dirty=None,
    )


def _first_day(date: str) -> dt.datetime:
    """The earliest moment that a date to the day, month or year can mean (UTC)."""
    year, month, day = [*(int(part) for part in date.split("-")), 1, 1][:3]
    return dt.datetime(year, month, day, tzinfo=dt.UTC)
