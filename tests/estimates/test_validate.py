"""``estimate --validate``: exact counts on a small table, and the contract of its JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpubench.devices.list_price import device_price
from tpubench.errors import UsageError
from tpubench.estimates.published.pairs import PredictedLine, order
from tpubench.estimates.published.validate import Validation, accuracy, validate

TABLE = Path(__file__).with_name("table.csv")


@pytest.fixture(scope="module")
def validation() -> Validation:
    return validate(TABLE)


def test_every_row_is_used_skipped_or_implausible(validation: Validation) -> None:
    assert [row.line for row in validation.judged] == [2, 3, 4]
    assert {entry.line: entry.skipped for entry in validation.skipped} == {
        5: "no data sheet for the device",
        6: "metric 'happiness' is not modelled",
    }
    ((entry, why),) = validation.implausible
    assert entry.line == 7 and "peak" in why


def test_json_keys_are_the_contract(validation: Validation) -> None:
    document = json.loads(json.dumps(validation.to_json(rows=True), allow_nan=False))
    assert {"rows_used", "rows_skipped", "median_abs_pct_err", "p90_abs_pct_err", "coverage_90",
            "by_device", "by_source", "by_kind", "pairs", "skipped", "implausible", "fit",
            "rows_of_fitted_sources"} <= set(document)  # fmt: skip
    assert (document["rows_used"], document["rows_skipped"]) == (3, 2)
    assert document["rows_implausible"] == 1
    assert document["rows_of_fitted_sources"] == 0
    assert set(document["by_source"]) == {"made-up", "other"}
    assert set(document["by_device"]) == {"nvidia-h100-sxm", "tpu-v6e", "nvidia-h200-sxm"}
    for group in document["by_device"].values():
        assert set(group) == {"rows", "median_abs_pct_err", "p90_abs_pct_err", "coverage_90"}
    assert document["pairs"]["faster"] == {"pairs": 1, "right": 1, "share": 1.0}


def test_errors_are_those_of_the_predictions(validation: Validation) -> None:
    overall = accuracy(validation.judged)
    assert overall is not None
    errors = sorted(abs(r.predicted.value / r.value - 1) * 100 for r in validation.judged)
    assert overall.median_abs_pct_err == pytest.approx(errors[1])
    assert overall.coverage_90 == sum(r.covered for r in validation.judged) / 3
    for row in validation.judged:
        assert row.predicted.low < row.predicted.value < row.predicted.high


def test_what_was_never_seen_has_a_wider_interval(validation: Validation) -> None:
    known, _, unknown = validation.judged
    wide, narrow = (r.predicted.high / r.predicted.low for r in (unknown, known))
    assert wide > narrow**1.2


def test_a_pair_is_judged_by_the_published_order(validation: Validation) -> None:
    gpu, tpu, _ = validation.judged
    swapped = PredictedLine(line=3, source="made-up", problem=tpu.problem, value=1e6 * gpu.value,
                     predicted=tpu.predicted)  # fmt: skip
    faster, cheaper = order([gpu, swapped])
    assert (faster.pairs, faster.right) == (1, 0)
    assert cheaper.pairs == (device_price("tpu-v6e") is not None)


def test_the_rows_that_ship_can_be_judged_too() -> None:
    from tpubench.results.published import TABLE as SHIPPED

    validation = validate(SHIPPED)
    assert len(validation.judged) > 0.95 * (len(validation.judged) + len(validation.skipped))
    overall = accuracy(validation.judged)
    assert overall is not None and overall.median_abs_pct_err < 10


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text(TABLE.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no rows"):
        validate(path)
