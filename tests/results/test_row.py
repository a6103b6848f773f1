"""The stored fact refuses to be dishonest."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from sample_rows import make_row

from tpubench.results.row import COLUMNS, arrow_schema, to_table
from tpubench.results.store import iter_rows

CONTRACT = """schema_version, run_id, repetition, started_at, evidence, status, reason, workload,
workload_version, preset, params, backend, device, chips, hosts, parallelism, dtype, metric, unit,
better, value, ci_low, ci_high, samples, usd_per_chip_hour, price_id, price_as_of, price_sha256,
source, fingerprint, environment, git_sha, git_dirty"""


def test_the_columns_are_the_contract() -> None:
    assert list(COLUMNS) == [name.strip() for name in CONTRACT.split(",")]
    assert arrow_schema().names == list(COLUMNS)


def test_types_follow_the_annotations() -> None:
    schema = arrow_schema()
    assert schema.field("value").type == pa.float64()
    assert schema.field("samples").type == pa.list_(pa.float64())
    assert schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("value").nullable
    assert not schema.field("metric").nullable


def test_a_row_survives_the_table() -> None:
    row = make_row()
    assert list(iter_rows(to_table([row]))) == [row]


@pytest.mark.parametrize("status", ["failed", "invalid", "skipped"])
def test_a_row_that_is_not_ok_carries_no_value(status: str) -> None:
    with pytest.raises(ValueError, match="carries no value"):
        make_row(status=status, reason="it hung")


def test_a_missing_value_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        make_row(value=None, samples=[1.0])


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_infinity_and_nan_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        make_row(value=number)


@pytest.mark.parametrize("field", ["evidence", "status", "better"])
def test_unknown_words_are_refused(field: str) -> None:
    with pytest.raises(ValueError, match="is not one of"):
        make_row(**{field: "roughly"})


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make_row().value = 3.0  # type: ignore[misc]
