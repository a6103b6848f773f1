"""Like with like, a verdict only when the interval allows one, and every other difference said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sample_rows import make_row

from tpubench.errors import UsageError
from tpubench.results import store as facts
from tpubench.results.compare import compare, compare_selected, ratio_of
from tpubench.results.row import Row


def side(values: list[float], metric: str = "output_tok_s", **changes: object) -> list[Row]:
    return [make_row(metric, [value], repetition=n, **changes) for n, value in enumerate(values)]


def test_the_ratio_is_welchs_on_logarithms() -> None:
    a, b = [10.0, 11.0, 10.5], [20.0, 25.0, 22.0, 21.0]
    found = ratio_of(b, a)
    test = scipy.stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    low, high = np.exp(test.confidence_interval(0.95))
    assert found.point == pytest.approx(np.exp(np.mean(np.log(b)) - np.mean(np.log(a))))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("metric", "b", "verdict"),
    [
        ("output_tok_s", [20.0, 20.1, 19.9], "better"),
        ("output_tok_s", [5.0, 5.1, 4.9], "worse"),
        ("ttft_s", [20.0, 20.1, 19.9], "worse"),
        ("ttft_s", [5.0, 5.1, 4.9], "better"),
        ("output_tok_s", [10.0, 20.0, 5.0], "unclear"),
        ("output_tok_s", [100.0], "unclear"),
    ],
)
def test_a_verdict_needs_an_interval_that_excludes_one(
    metric: str, b: list[float], verdict: str
) -> None:
    (found,) = compare(side([10.0, 10.1, 9.9], metric), side(b, metric)).comparisons
    assert found.verdict == verdict


def test_what_else_differs_is_said() -> None:
    environment = json.dumps({"fingerprint": {"description": {"torch": "2.14"}}})
    found = compare(side([10.0]), side([11.0], device="tpu-v6e", environment=environment))
    assert found.differs["device"] == ("cpu", "tpu-v6e")
    assert found.differs["description.torch"] == ("None", "2.14")


@pytest.mark.parametrize(
    "change",
    [
        {"workload_version": 2},
        {"params": json.dumps({"batch": 2, "dtype": "bfloat16"})},
        {"dtype": "float32"},
        {"metric": "total_tok_s"},
        {"environment": json.dumps({"fingerprint": {"shape": {"d_model": 1}}})},
    ],
)
def test_unlike_cases_are_not_compared(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(side([10.0]), side([11.0], **change))


def test_selectors_pick_the_sides(tmp_path: Path) -> None:
    for run, device in (("20260101T000000-aaaaaa", "cpu"), ("20260102T000000-bbbbbb", "tpu-v6e")):
        facts.write(tmp_path, "case", [make_row(run_id=run, device=device)])
    (_, side_b), unreadable = compare_selected(tmp_path, ["device=cpu,batch=1", "latest"])
    found = side_b.against_first
    assert found is not None
    assert not unreadable
    assert found.comparisons[0].b.first.device == "tpu-v6e"
    with pytest.raises(UsageError, match="no rows match"):
        compare_selected(tmp_path, ["device=v5p", "latest"])
