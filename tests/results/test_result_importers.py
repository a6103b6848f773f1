"""Other tools' result files: what is taken, what is converted, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import other_tools as tools
import pytest

from tpubench.errors import UsageError
from tpubench.results.importers import Figure, Record, formats, read_results


def read_one(tmp_path: Path, document: Any, name: str = "result.json") -> Record:
    (record,) = read_results("auto", tools.save(tmp_path / name, document)).records
    return record


def values(record: Record) -> dict[str, float | None]:
    return {figure.metric: figure.value for figure in record.figures}


def figure(record: Record, metric: str) -> Figure:
    (matching,) = [figure for figure in record.figures if figure.metric == metric]
    return matching


@pytest.mark.parametrize("name", tools.DOCUMENTS)
def test_each_format_recognises_its_own_files_and_no_other(name: str, tmp_path: Path) -> None:
    for index, document in enumerate(tools.DOCUMENTS[name]):
        path = tools.save(tmp_path / f"{index}.json", document)
        assert read_results("auto", path).format_name == name


def test_vllm_serve_milliseconds_become_seconds(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.VLLM_SERVE)
    assert values(record) == {
        "output_tok_s": 22.0,
        "input_tok_s": 200.0,
        "total_tok_s": 222.0,
        "requests_s": 2.0,
        "ttft_s": pytest.approx(0.025),
        "tpot_s": pytest.approx(0.0095),
        "itl_s": pytest.approx(0.0094),
        "e2e_s": pytest.approx(0.13),
    }
    assert record.params["input_len"] == 100
    assert record.params["output_len"] == 11
    assert record.stated["ttft_p99_s"] == pytest.approx(0.06)


def test_vllm_detailed_samples_are_taken_without_the_failed_requests(tmp_path: Path) -> None:
    document = tools.changed(tools.VLLM_SERVE, ttfts=[0.02, 0.0, 0.03], itls=[[0.01], [0.011]])
    record = read_one(tmp_path, document)
    assert figure(record, "ttft_s").samples == (0.02, 0.03)
    assert figure(record, "itl_s").samples == (0.01, 0.011)


def test_gaps_between_chunks_of_several_tokens_are_no_gaps_between_tokens(tmp_path: Path) -> None:
    document = tools.changed(tools.VLLM_SERVE, mean_itl_ms=30.0, median_itl_ms=29.0)
    read_figure = figure(read_one(tmp_path, document), "itl_s")
    assert read_figure.value is None
    assert "chunks" in (read_figure.reason or "")


def test_a_mean_in_place_of_a_median_is_said(tmp_path: Path) -> None:
    document = tools.changed(tools.VLLM_SERVE, median_ttft_ms=None)
    read_figure = figure(read_one(tmp_path, document), "ttft_s")
    assert read_figure.value == pytest.approx(0.03)
    assert "mean" in (read_figure.reason or "")


def test_vllm_throughput_counts_both_kinds_of_token(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.VLLM_THROUGHPUT)
    assert values(record) == {"total_tok_s": 5120.0, "requests_s": 10.0, "output_tok_s": None}


def test_inferencex_rates_per_gpu_become_totals(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.INFERENCEX)
    assert record.chips == 8
    assert values(record)["output_tok_s"] == pytest.approx(140.0)
    assert values(record)["total_tok_s"] == pytest.approx(1256.0)
    assert values(record)["ttft_s"] == 1.8


def test_inferencex_with_prefill_apart_divides_by_each_pool(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.INFERENCEX_DISAGG)
    assert record.chips == 16
    assert values(record)["output_tok_s"] == pytest.approx(20.0 * 12)
    assert values(record)["input_tok_s"] == pytest.approx(340.0 * 4)
    assert values(record)["total_tok_s"] == pytest.approx(100.0 * 16)


def test_inferencex_raw_file_says_chips_and_precision_in_its_name(tmp_path: Path) -> None:
    name = "glm5_fp8_vllm_tp8_isl10240_osl128_conc4.json"
    record = read_one(tmp_path, tools.INFERENCEX_SECONDS, name)
    assert (record.chips, record.dtype) == (8, "fp8")
    assert values(record)["total_tok_s"] == pytest.approx(5771.0)


def test_aiperf_inter_token_latency_is_tpot(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.AIPERF)
    assert values(record)["tpot_s"] == pytest.approx(0.009)
    assert values(record)["itl_s"] == pytest.approx(0.0092)
    assert record.model == "Qwen/Qwen3-8B"
    assert record.params["concurrency"] == 4
    assert record.device == "NVIDIA H200"


def test_a_cancelled_aiperf_run_is_invalid(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.changed(tools.AIPERF, was_cancelled=True))
    assert record.status == "invalid"
    assert not record.figures


def test_guidellm_time_per_output_token_is_not_tpot(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.GUIDELLM)
    assert values(record)["tpot_s"] == pytest.approx(0.0085)  # its inter-token latency
    assert values(record)["itl_s"] is None
    assert values(record)["output_tok_s"] == 200.0


def test_inference_perf_as_it_stands_where_its_own_means_agree(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.INFERENCE_PERF, "stage_3_lifecycle_metrics.json")
    assert values(record)["tpot_s"] == pytest.approx(0.0099)
    assert values(record)["itl_s"] == pytest.approx(0.0098)
    assert record.params["stage"] == 3


def test_inference_perf_that_counts_stream_events_is_corrected(tmp_path: Path) -> None:
    document = tools.changed(tools.INFERENCE_PERF)
    latency = dict(document["successes"]["latency"])
    latency["time_per_output_token"] = {"mean": 0.005, "median": 0.005}
    document["successes"]["latency"] = latency
    record = read_one(tmp_path, document)
    assert values(record)["tpot_s"] == pytest.approx((1.1 - 0.1) / 100)
    assert values(record)["itl_s"] is None


def test_mlperf_summary_counts_chips_of_all_nodes(tmp_path: Path) -> None:
    record = read_one(tmp_path, tools.MLPERF_SUMMARY)
    assert record.chips == 16
    assert values(record) == {"output_tok_s": 40000.0}
    assert record.params["scenario"] == "server"


def test_one_bad_entry_of_a_summary_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    good = tools.MLPERF_SUMMARY[0]
    document = [good, {**good, "Performance_Result": "fast"}]
    imported = read_results("auto", tools.save(tmp_path / "s.json", document))
    assert len(imported.records) == 1
    assert imported.rejected[0].where == "[1]"
    assert "not a number" in imported.rejected[0].reason


def test_mlperf_summaries_of_older_rounds_have_other_names(tmp_path: Path) -> None:
    new = tools.MLPERF_SUMMARY[0]
    gone = {"Performance_Result", "Performance_Units", "UsedModel"}
    old = {k: v for k, v in new.items() if k not in gone}
    old |= {"MlperfModel": "gptj-99", "Model": "gptj", "Result": 100.0, "Units": "Samples/s"}
    watts = {**old, "Units": "Watts"}
    imported = read_results("auto", tools.save(tmp_path / "s.json", [old, watts]))
    (record,) = imported.records
    assert (record.model, record.params["variant"]) == ("gptj-99", "gptj")
    assert values(record) == {"samples_s": 100.0}
    assert "power" in imported.rejected[0].reason


def test_a_report_of_the_server_in_place_of_the_clients_is_refused(tmp_path: Path) -> None:
    document = {"load_summary": {}, "successes": {"count": 60, "rate": 1.0}, "failures": {}}
    with pytest.raises(UsageError, match="lifecycle report"):
        read_results("inference-perf", tools.save(tmp_path / "prometheus.json", document))


def test_a_result_without_a_known_figure_is_refused(tmp_path: Path) -> None:
    document = {"avg_latency": None, "latencies": []}
    with pytest.raises(UsageError, match="holds no figure"):
        read_results("vllm-bench", tools.save(tmp_path / "empty.json", document))


def tree(tmp_path: Path, log: str, scenario: str = "Interactive") -> Path:
    """An MLPerf Inference tree with one result."""
    top = tmp_path / "inference_results_v5.1" / "closed" / "Somebody"
    tools.save(top / "systems" / "sys.json", tools.SYSTEM)
    run = top / "results" / "sys" / "llama2-70b-99" / scenario / "performance" / "run_1"
    run.mkdir(parents=True)
    (run / "mlperf_log_summary.txt").write_text(log, encoding="utf-8")
    return tmp_path


def test_mlperf_tree_tells_system_model_scenario_and_round(tmp_path: Path) -> None:
    (record,) = read_results("auto", tree(tmp_path, tools.MLPERF_LOG)).records
    assert (record.device, record.chips, record.hosts) == ("TPU v5e", 8, 2)
    assert record.model == "llama2-70b-99"
    assert record.params["scenario"] == "interactive"
    assert values(record)["output_tok_s"] == pytest.approx(52140.68)
    assert values(record)["tpot_s"] == pytest.approx(0.035195183)


def test_an_invalid_mlperf_result_stays_invalid(tmp_path: Path) -> None:
    log = tools.MLPERF_LOG.replace("Result is : VALID", "Result is : INVALID")
    (record,) = read_results("mlperf-inference", tree(tmp_path, log)).records
    assert record.status == "invalid"
    assert not record.figures


def test_a_tree_of_links_is_not_followed(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", tools.MLPERF_LOG)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "out").symlink_to(outside, target_is_directory=True)
    (inside / "round").symlink_to(inside, target_is_directory=True)
    with pytest.raises(UsageError, match="no format that is known"):
        read_results("auto", inside)


def test_mlperf_training_step_times_leave_out_the_first_block(tmp_path: Path) -> None:
    path = tmp_path / "result_3.txt"
    path.write_text(tools.training_log(), encoding="utf-8")
    (record,) = read_results("auto", path).records
    assert record.repetition == 3
    assert values(record)["time_to_train_s"] == 600.0
    assert figure(record, "step_time_s").samples == (10.0, 10.0)
    assert values(record)["train_tok_s"] == pytest.approx(1536 * 2048 / 10)


def test_a_training_run_that_missed_its_target_is_invalid(tmp_path: Path) -> None:
    path = tmp_path / "result_0.txt"
    path.write_text(tools.training_log(status="aborted"), encoding="utf-8")
    (record,) = read_results("mlperf-training", path).records
    assert record.status == "invalid"
    assert "aborted" in (record.reason or "")


BAD = {
    "not JSON": ("{", "not valid JSON"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "twice": ('{"output_throughput": 1, "output_throughput": 2}', "appears twice"),
    "huge integer": ('{"output_throughput": ' + "9" * 6000 + "}", "not valid JSON"),
    "empty": ("", "not valid JSON"),
    "a number": ("3", "is not"),
    "a list": ("[1, 2]", "is not"),
}


@pytest.mark.parametrize("name", sorted(formats()))
@pytest.mark.parametrize("bad", BAD)
def test_bad_files_are_refused_in_one_line(name: str, bad: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(BAD[bad][0], encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_results(name, path)
    assert "\n" not in str(caught.value)
    assert "bad.json" in str(caught.value)


def test_auto_says_what_is_wrong_with_a_broken_json_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"a": 1, "a": 2}', encoding="utf-8")
    with pytest.raises(UsageError, match="key 'a' appears twice"):
        read_results("auto", path)


def test_files_that_are_not_plain_or_not_text_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "x.json"
    binary.write_bytes(b"\xff\xfe\x00{")
    for path, why in (
        (Path("/dev/zero"), "plain file"),
        (binary, "not UTF-8"),
        (tmp_path, "plain"),
    ):
        with pytest.raises(UsageError, match=why):
            read_results("vllm-bench", path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    with path.open("wb") as stream:
        stream.truncate(40 << 20)
    with pytest.raises(UsageError, match="more than 34 MB"):
        read_results("vllm-bench", path)


@pytest.mark.parametrize(
    ("value", "why"),
    [("fast", "not a number"), (-1, "negative"), (1e300, "beyond all reason"), (True, "number")],
)
def test_nonsense_numbers_name_file_and_place(value: object, why: str, tmp_path: Path) -> None:
    document = tools.changed(tools.VLLM_SERVE, output_throughput=value)
    path = tools.save(tmp_path / "odd.json", document)
    with pytest.raises(UsageError, match=rf"odd\.json: output_throughput is .*{why}"):
        read_results("vllm-bench", path)


def test_a_nan_is_a_missing_figure(tmp_path: Path) -> None:
    document = tools.changed(
        tools.VLLM_SERVE, median_tpot_ms=float("nan"), mean_tpot_ms=float("nan")
    )
    assert "tpot_s" not in values(read_one(tmp_path, document))


FIXTURES = Path(__file__).with_name("fixtures")


def test_a_file_that_vllm_bench_serve_wrote_against_a_loopback_server() -> None:
    (record,) = read_results("auto", FIXTURES / "vllm-bench-0.33.0.json").records
    value_by_metric = values(record)
    assert record.params == {"input_len": 32, "output_len": 16, "concurrency": None,
                             "requests": 6, "request_rate": 20.0}  # fmt: skip
    assert (record.model, record.software) == ("demo", None)  # only its interface is named
    assert value_by_metric["output_tok_s"] == pytest.approx(181.8166, rel=1e-5)
    assert value_by_metric["total_tok_s"] == pytest.approx(545.4498, rel=1e-5)
    assert value_by_metric["goodput_req_s"] == pytest.approx(11.3635, rel=1e-4)
    samples = {figure.metric: figure.samples for figure in record.figures}
    assert len(samples["ttft_s"]) == 6
    assert len(samples["itl_s"]) == 6 * 15


def test_a_file_that_guidellm_wrote_against_a_loopback_server() -> None:
    (record,) = read_results("auto", FIXTURES / "guidellm-0.8.1.json").records
    value_by_metric = values(record)
    assert record.params == {"input_len": 4, "output_len": 8, "concurrency": 2,
                             "strategy": "concurrent", "request_rate": None}  # fmt: skip
    assert (record.model, record.software) == ("demo", "guidellm 0.8.1")
    assert value_by_metric["output_tok_s"] == pytest.approx(92.1336, rel=1e-4)
    assert value_by_metric["requests_s"] == pytest.approx(11.5167, rel=1e-4)
    assert value_by_metric["tpot_s"] == pytest.approx(12.29e-3, rel=2e-3)
    assert value_by_metric["ttft_s"] == pytest.approx(55.77e-3, rel=2e-3)


def test_a_file_that_aiperf_wrote_against_a_loopback_server() -> None:
    (record,) = read_results("auto", FIXTURES / "aiperf-0.13.0.json").records
    value_by_metric = values(record)
    assert record.params == {
        "input_len": 16,
        "output_len": 8,
        "concurrency": 2,
        "requests": 8,
        "request_rate": None,
    }
    assert value_by_metric["output_tok_s"] == pytest.approx(94.8, rel=2e-3)
    assert value_by_metric["requests_s"] == pytest.approx(11.8, rel=1e-2)
    assert value_by_metric["ttft_s"] == pytest.approx(56.2e-3, rel=2e-3)
    assert value_by_metric["tpot_s"] == pytest.approx(12.0e-3, rel=5e-3)
