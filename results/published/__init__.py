"""Published results that ship with tpubench: TPUs and GPUs, training and inference, with sources.

``rows.csv`` is transcribed from public documents by ``benchmarks/curate_published.py``; each line
is one figure, total over all physical chips, and names its source and date. They are rows like
any other, with evidence ``published``, and need no store.

``second_sources.csv`` has what another document says of the same figure: of an MLPerf summary's
entry, the submitter's own log. A figure that none is known for says in its reason that it is
single-source. ``benchmarks/check_published.py`` holds both tables against each other.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tpubench.results.figure import SampledValue, Shared, following
from tpubench.results.metrics import METRICS
from tpubench.results.row import Row
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
SECOND_TABLE = Path(__file__).with_name("second_sources.csv")
SECOND_COLUMNS = ("source_id", "model", "submission", "scenario", "metric", "value", "source")
SINGLE_SOURCE = "single-source: no second document is known that states it"
_SIX_DIGITS = 1e-5
"""Relative difference within which two documents agree: MLPerf's summary prints six digits."""
_NOT_STATED = "not-stated"

Key = tuple[str, ...]
"""Which figure: its source, model, submission, scenario and metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFigure:
    """What a second document says of a shipped figure, in the metric's own unit, over all chips."""

    text: str
    """The number as it is printed there."""
    source: str

    def agrees(self, value: float) -> bool:
        """Whether it is the shipped value, up to how either is rounded."""
        decimals = len(self.text.partition(".")[2])
        rounding = 0.5 * 10.0**-decimals if decimals else 0.0
        return abs(float(self.text) - value) <= max(rounding * 1.01, _SIX_DIGITS * value)


@functools.cache
def second_figures() -> Mapping[Key, SecondFigure]:
    """What second documents say, by the figure that it is about."""
    with SECOND_TABLE.open(encoding="utf-8", newline="") as stream:
        return {
            tuple(line[name] for name in SECOND_COLUMNS[:5]): SecondFigure(
                text=line["value"], source=line["source"]
            )
            for line in csv.DictReader(stream)
        }


def figure_key(line: Mapping[str, str]) -> Key:
    """The key of a line of ``rows.csv``."""
    params = json.loads(line["params"])
    case = (str(params.get(name, "")) for name in ("submission", "scenario"))
    return (line["source_id"], line["model"], *case, line["metric"])


@functools.cache
def rows() -> tuple[Row, ...]:
    """Every published figure, and the figures per chip that follow from it."""
    with TABLE.open(encoding="utf-8", newline="") as stream:
        shipped = [row for line in csv.DictReader(stream) for row in _rows(line)]
    return tuple(shipped)


def _rows(line: dict[str, str]) -> list[Row]:
    metric, figure = METRICS[line["metric"]], SampledValue(value=float(line["value"]))
    second = second_figures().get(figure_key(line))
    shared = _shared(line, second)
    remarks = (line["note"], None if second else SINGLE_SOURCE)
    reason = "; ".join(remark for remark in remarks if remark) or None
    each = [derived for derived in following(metric.name) if derived.per_chip_of]
    return [
        shared.row(metric, figure, reason=reason),
        *(shared.row(m, figure.derived(m, shared.chips), reason=reason) for m in each),
    ]


def _shared(line: dict[str, str], second: SecondFigure | None) -> Shared:
    environment = {
        "fingerprint": {"software": line["software"]},
        "import": {
            "format": "published table",
            "date": line["date"],
            "second_source": second.source if second else None,
        },
    }
    source = f"{line['source']} ({line['date']})"
    return Shared(
        # A run for each source, so that two sources' figures are never averaged into one.
        run_id=f"published-{line['source_id']}-{line['date']}",
        started_at=_first_day(line["date"]),
        evidence="published",
        workload=line["workload"],
        preset=line["model"],
        params=json.loads(line["params"]),
        backend=IMPORTED,
        device=line["device"],
        chips=int(line["chips"]),
        hosts=int(line["hosts"]),
        parallelism=line["parallelism"] or _NOT_STATED,
        dtype=line["dtype"],
        source=f"{source}; the same in {second.source}" if second else source,
        environment=json.dumps(environment, sort_keys=True),
    )


def _first_day(date: str) -> dt.datetime:
    """The earliest moment that a date to the day, month or year can mean (UTC)."""
    year, month, day = [*(int(part) for part in date.split("-")), 1, 1][:3]
    return dt.datetime(year, month, day, tzinfo=dt.UTC)
