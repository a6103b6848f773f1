"""Like with like, a verdict only when the interval allows one, and every other difference said."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from sample_rows import make_row

from tpubench.costs.imported import Given, Origin, to_rows
from tpubench.errors import UsageError
from tpubench.results import store as facts
from tpubench.results.compare import compare, compare_selected, ratio_of
from tpubench.results.importers import read_results
from tpubench.results.row import Row


def side(values: list[float], metric: str = "output_tok_s", **changes: object) -> list[Row]:
    return [make_row(metric, [value], repetition=n, **changes) for n, value in enumerate(values)]


def test_the_ratio_is_welchs_on_logarithms() -> None:
    a, b = [10.0, 11.0, 10.5], [20.0, 25.0, 22.0, 21.0]
    ratio = ratio_of(b, a)
    test = scipy.stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    low, high = np.exp(test.confidence_interval(0.95))
    assert ratio.point == pytest.approx(np.exp(np.mean(np.log(b)) - np.mean(np.log(a))))
    assert (ratio.low, ratio.high) == (pytest.approx(low), pytest.approx(high))


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
    (comparison,) = compare(side([10.0, 10.1, 9.9], metric), side(b, metric)).comparisons
    assert comparison.verdict == verdict


def test_what_else_differs_is_said() -> None:
    environment = json.dumps({"fingerprint": {"description": {"torch": "2.14"}}})
    compared = compare(side([10.0]), side([11.0], device="tpu-v6e", environment=environment))
    assert compared.differs["device"] == ("cpu", "tpu-v6e")
    assert compared.differs["description.torch"] == ("None", "2.14")


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
    compared = side_b.against_first
    assert compared is not None
    assert not unreadable
    assert compared.comparisons[0].b.first.device == "tpu-v6e"
    with pytest.raises(UsageError, match="no rows match"):
        compare_selected(tmp_path, ["device=v5p", "latest"])


FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize(
    ("file", "rows_of_it"),
    [
        ("vllm-bench-0.33.0.json", 7),
        ("aiperf-0.13.0.json", 7),
        ("guidellm-0.8.1.json", 7),
        ("imports/gptoss_fp4_h200_tp2_conc64_isl1024_osl1024.json", 7),
    ],
)
def test_our_served_rows_stand_beside_what_other_tools_measured(file: str, rows_of_it: int) -> None:
    """Files that the tools wrote: the same model, lengths and load as a run of ours.

    The last is vLLM bench as InferenceX runs it: at most 64 in flight, of requests sent at once.
    """
    imported = to_rows(
        read_results("auto", FIXTURES / file).records,
        Given(device="cpu", chips=1, dtype="bfloat16"),
        Origin(format_name="auto", file=file, sha256="0" * 64),
        run_id="20260101T000000-aaaaaa",
        now=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    theirs = [row for row in imported if row.value is not None]
    said = json.loads(theirs[0].params)
    load = {
        key: said[key]
        for key in ("concurrency", "request_rate")
        if isinstance(said.get(key), int | float)
    }
    assert len(load) == 1
    params = {"shape": "tiny", "input_len": said["input_len"], "output_len": said["output_len"]}
    ours = [
        make_row(
            row.metric,
            [row.value] if row.value else None,
            workload="llama-serve",
            preset=theirs[0].preset,
            params=json.dumps({**params, **load, "requests": 64, "slo": "ttft_p90=1"}),
        )
        for row in theirs
    ]
    compared = compare(ours, theirs)
    assert len(compared.comparisons) >= rows_of_it
    assert all(each.ratio.point == pytest.approx(1) for each in compared.comparisons)
    assert {"ttft_s", "tpot_s", "output_tok_s"} <= {c.a.first.metric for c in compared.comparisons}
    assert "goodput_req_s" not in {c.a.first.metric for c in compared.comparisons}
    assert compared.differs["evidence"] == ("measured", "published")
    assert any("was due" in words for words in compared.where_not)
    longer = [
        dataclasses.replace(row, params=row.params.replace('"output_len": ', '"output_len": 1'))
        for row in ours
    ]
    with pytest.raises(UsageError, match="nothing to compare"):
        compare(longer, theirs)
