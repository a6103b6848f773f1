"""Serving benchmarks in which nothing succeeded: refused, never a latency of zero."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import other_tools as tools
import pytest

from tpubench.errors import UsageError
from tpubench.results.importers import read_results

SHIPPED = Path(__file__).with_name("fixtures") / "imports"


def zeroed(document: Any) -> Any:
    """Every number of a document zero, as tools write what they did not see."""
    if isinstance(document, dict):
        return {key: zeroed(value) for key, value in document.items()}
    if isinstance(document, list):
        return [zeroed(value) for value in document]
    is_number = isinstance(document, int | float) and not isinstance(document, bool)
    return type(document)(0) if is_number else document


def guidellm(**totals: int) -> dict[str, Any]:
    """A report whose requests ended so, totals beside the metrics as up to guidellm 0.3."""
    document = copy.deepcopy(tools.GUIDELLM)
    (run,) = document["benchmarks"]
    run["metrics"] = zeroed(run["metrics"])
    del run["metrics"]["request_totals"]
    run["request_totals"] = {"successful": 0, "errored": 0, "incomplete": 0, **totals}
    return document


def test_a_file_of_guidellm_in_which_all_failed() -> None:
    imported = read_results("auto", SHIPPED / "guidellm_none_succeeded.json")
    assert not imported.records
    assert imported.rejected[0].reason == "no request succeeded (9 errored)"


@pytest.mark.parametrize(
    "totals", [{"errored": 9}, {"incomplete": 4}, {"errored": 1, "incomplete": 2}]
)
def test_failed_or_cancelled_requests_are_counted_out(
    totals: dict[str, int], tmp_path: Path
) -> None:
    imported = read_results("auto", tools.save(tmp_path / "g.json", guidellm(**totals)))
    assert not imported.records
    for word, count in totals.items():
        assert f"{count} {word}" in imported.rejected[0].reason


def test_the_latencies_of_failed_requests_are_no_latencies(tmp_path: Path) -> None:
    document = copy.deepcopy(tools.GUIDELLM)
    (run,) = document["benchmarks"]
    del run["metrics"]["request_totals"]
    for metric in run["metrics"].values():
        metric["total"] = metric["errored"] = metric["successful"]
        metric["successful"] = None
    imported = read_results("auto", tools.save(tmp_path / "g.json", document))
    assert not imported.records
    assert "no request succeeded" in imported.rejected[0].reason


def test_one_strategy_without_a_success_leaves_the_others(tmp_path: Path) -> None:
    document = copy.deepcopy(tools.GUIDELLM)
    document["benchmarks"] += guidellm(errored=3)["benchmarks"]
    imported = read_results("auto", tools.save(tmp_path / "g.json", document))
    assert len(imported.records) == 1
    assert imported.rejected[0].where == "benchmarks[1]"


EMPTY: dict[str, Any] = {
    "vLLM, none completed": tools.changed(tools.VLLM_SERVE, completed=0),
    "vLLM, all zero": zeroed({k: v for k, v in tools.VLLM_SERVE.items() if k != "completed"}),
    "vLLM throughput": zeroed(tools.VLLM_THROUGHPUT),
    "vLLM latency": {**zeroed(tools.VLLM_LATENCY), "latencies": []},
    "a list of vLLM": [zeroed(tools.VLLM_SERVE), zeroed(tools.VLLM_SERVE)],
    "InferenceX, seconds": zeroed(tools.INFERENCEX_SECONDS),
    "InferenceX, aggregated": {**zeroed(tools.INFERENCEX), "tp": 8, "conc": 4},
    "AIPerf, counts of zero": tools.changed(
        tools.AIPERF, request_count={"unit": "requests", "avg": 0.0}
    ),
    "AIPerf, no metric": {
        "schema_version": "1.4",
        "aiperf_version": "0.13.0",
        "input_config": {},
        "was_cancelled": False,
        "error_summary": [{"count": 10}],
        "error_request_count": {"unit": "requests", "avg": 10.0},
    },
    "AIPerf, cancelled": {"input_config": {}, "was_cancelled": True, "error_summary": []},
    "AIPerf, all zero": zeroed(tools.AIPERF),
    "inference-perf": tools.changed(
        tools.INFERENCE_PERF,
        successes={"count": 0, "latency": None, "throughput": None},
        failures={"count": 60},
    ),
    "inference-perf, all zero": tools.changed(
        tools.INFERENCE_PERF, successes={**zeroed(tools.INFERENCE_PERF["successes"]), "count": 3}
    ),
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_run_in_which_nothing_succeeded_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no request succeeded"):
        read_results("auto", tools.save(tmp_path / "run.json", EMPTY[name]))


def test_of_several_runs_the_empty_one_is_left_out_and_named(tmp_path: Path) -> None:
    runs = [tools.VLLM_SERVE, tools.changed(tools.VLLM_SERVE, completed=0)]
    imported = read_results("auto", tools.save(tmp_path / "runs.json", runs))
    assert len(imported.records) == 1
    assert imported.rejected[0].where == "[1]"
    assert "no request succeeded" in imported.rejected[0].reason


def test_a_time_of_zero_is_no_figure(tmp_path: Path) -> None:
    document = tools.changed(tools.VLLM_SERVE, median_tpot_ms=0.0, mean_tpot_ms=0.0)
    (record,) = read_results("auto", tools.save(tmp_path / "one.json", document)).records
    (figure,) = [figure for figure in record.figures if figure.metric == "tpot_s"]
    assert (figure.value, figure.reason) == (None, "the file gives a time of zero")
