"""The stored fact: one row for each run × case × repetition × metric.

Everything that a person sees later (tables, prices, charts, verdicts) is derived from these rows,
so a row keeps its raw samples and says how it was obtained. The Arrow schema, the column list of
the documentation and the types of :func:`tpubench.results.read` all come from this one class.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import math
import types
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
"""Raised when a reader of the old version would misread a file. New columns do not raise it."""

Evidence = Literal["measured", "published", "compiled", "modelled"]
Status = Literal["ok", "failed", "skipped", "invalid"]
Better = Literal["higher", "lower"]
_EVIDENCE, _STATUS, _BETTER = get_args(Evidence), get_args(Status), get_args(Better)


def _column(doc: str) -> Any:
    return field(metadata={"doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fact. A missing value is None and ``reason`` says why; it is never 0 and never NaN."""

    schema_version: int = _column("version of this layout; a newer one is refused")
    run_id: str = _column("UTC start time of the run and six random hex digits; sorts by time")
    repetition: int = _column("which child process of the case, from 0")
    started_at: dt.datetime = _column("UTC time at which the repetition started")
    evidence: str = _column("measured, published, compiled or modelled")
    status: str = _column("ok, failed, skipped or invalid; only ok rows carry a value")
    reason: str | None = _column("why the value is missing, or what to know about it")
    workload: str = _column("name of the standard program")
    workload_version: int = _column("raised when results stop being comparable with older ones")
    preset: str = _column("model or shape preset")
    params: str = _column("JSON object: every parameter of the case")
    backend: str = _column(
        "adapter that ran it: cpu, fake, cuda, xla, tpu; of a server its engine (vllm), or server;"
        " imported for others' results"
    )
    device: str = _column("canonical device name, e.g. tpu-v6e, nvidia-h100-sxm, cpu")
    chips: int = _column("physical chips held; 0 where an imported file does not say")
    hosts: int = _column("machines held; 0 where an imported file does not say")
    parallelism: str = _column("how the program was spread over chips; 'none' on one")
    dtype: str = _column("precision of weights and activations")
    metric: str = _column("name of the metric; see docs/metrics.md")
    unit: str = _column("unit of value and samples")
    better: str = _column("higher or lower")
    value: float | None = _column("the metric, aggregated from samples by its formula")
    ci_low: float | None = _column("low end of the 95 % interval within this repetition")
    ci_high: float | None = _column("high end of the 95 % interval within this repetition")
    samples: list[float] | None = _column("raw samples, in the order they were taken")
    usd_per_chip_hour: float | None = _column("price behind this figure, US dollars a chip-hour")
    price_id: str | None = _column("price table entry, or 'given' for one from the command line")
    price_as_of: str | None = _column("ISO date of the price")
    price_sha256: str | None = _column("SHA-256 of the price entry, so that it cannot drift")
    source: str | None = _column("where it came from: this suite's version, or a publication")
    fingerprint: str | None = _column("SHA-256 of all that must match for two rows to be gated")
    environment: str = _column("JSON object, allow-listed: machine, libraries, settings")
    git_sha: str | None = _column("commit of the working directory, if it is a git checkout")
    git_dirty: bool | None = _column("whether that checkout had uncommitted changes")

    def __post_init__(self) -> None:
        if self.evidence not in _EVIDENCE:
            raise ValueError(f"evidence {self.evidence!r} is not one of {_EVIDENCE}")
        if self.status not in _STATUS:
            raise ValueError(f"status {self.status!r} is not one of {_STATUS}")
        if self.better not in _BETTER:
            raise ValueError(f"better {self.better!r} is not one of {_BETTER}")
        if self.status != "ok" and self.value is not None:
            raise ValueError(f"a {self.status} row carries no value (metric {self.metric})")
        if self.value is None and not self.reason:
            raise ValueError(f"a row without a value needs a reason (metric {self.metric})")
        numbers = [self.value, self.ci_low, self.ci_high, self.usd_per_chip_hour]
        for number in (*numbers, *(self.samples or [])):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"metric {self.metric}: {number} is not a finite number")


COLUMNS: dict[str, str] = {f.name: f.metadata["doc"] for f in dataclasses.fields(Row)}
"""Column name to its one-line meaning, in storage order."""


@functools.cache
def arrow_schema() -> pa.Schema:
    """The Arrow schema of a stored file, derived from :class:`Row`."""
    import pyarrow as pa

    scalar: dict[object, pa.DataType] = {
        int: pa.int64(),
        float: pa.float64(),
        bool: pa.bool_(),
        str: pa.string(),
        dt.datetime: pa.timestamp("us", tz="UTC"),
        list[float]: pa.list_(pa.float64()),
    }
    hints = typing.get_type_hints(Row)
    fields = []
    for column in dataclasses.fields(Row):
        hint = hints[column.name]
        nullable = isinstance(hint, types.UnionType)
        if nullable:
            (hint,) = [arm for arm in get_args(hint) if arm is not types.NoneType]
        fields.append(pa.field(column.name, scalar[hint], nullable=nullable))
    return pa.schema(fields)


def to_table(rows: list[Row]) -> pa.Table:
    """Rows as an Arrow table of exactly :func:`arrow_schema`."""
    import pyarrow as pa

    columns = {name: [getattr(row, name) for row in rows] for name in COLUMNS}
    return pa.table(columns, schema=arrow_schema())
