"""What is remembered of each row, so that it is known again wherever it turns up, and however
it was altered: digests of all of it, of what was measured, and of the shape of its samples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tpubench.results.store import records

if TYPE_CHECKING:
    import pyarrow as pa

DIGEST_BYTES = 16
_PLACE = {"run_id", "repetition", "started_at"}
"""Columns that say where a row belongs; the others are what was measured."""
TELLING_SAMPLES = 4
"""Different figures that no two measurements share by chance, at ten digits each."""


class RowSeal(NamedTuple):
    """One row. digest: of every cell. body: without run, repetition and start. shape: of what
    was timed, the ratios of its samples to the first, which survive a rescaling; None where there
    are too few to tell, and of prices, which are the same samples at another scale.
    """

    case: str
    metric: str
    repetition: int
    value: float | None
    digest: str
    body: str
    shape: str | None

    @property
    def name(self) -> str:
        """``ttft_s of llama-infer tiny {…} on cpu, repetition 0``."""
        return f"{self.metric} of {self.case}, repetition {self.repetition}"


def of_table(table: pa.Table) -> list[RowSeal]:
    """The seal of each row. Cells that are null count as absent, so that a column of a later
    version, which old rows lack, changes nothing.
    """
    return [of_record(record) for record in records(table)]


def of_record(record: Mapping[str, Any]) -> RowSeal:
    cells = {name: value for name, value in record.items() if value is not None}
    body = {name: value for name, value in cells.items() if name not in _PLACE}
    return RowSeal(
        case=" ".join(str(record[name]) for name in ("workload", "preset", "params"))
        + f" on {record['device']}",
        metric=str(record["metric"]),
        repetition=int(record["repetition"]),
        value=record["value"],
        digest=_blake2b(cells, DIGEST_BYTES),
        body=_blake2b(body, DIGEST_BYTES),
        shape=_shape(record),
    )


def _shape(record: Mapping[str, Any]) -> str | None:
    samples: Sequence[float] = record["samples"] or ()
    timed = record["evidence"] == "measured" and not record["unit"].startswith("USD")
    fractions = {sample for sample in samples if sample % 1}
    if not timed or len(fractions) < TELLING_SAMPLES or samples[0] <= 0:
        return None
    ratios = [f"{sample / samples[0]:.9e}" for sample in samples]
    return _blake2b([record["metric"], *ratios], DIGEST_BYTES)


def _blake2b(value: object, size: int) -> str:
    text = json.dumps(value, sort_keys=True, default=_stamp, separators=(",", ":"))
    return hashlib.blake2b(text.encode("ascii"), digest_size=size).hexdigest()


def _stamp(value: Any) -> str:
    return str(value.isoformat())
