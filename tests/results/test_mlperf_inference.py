"""MLPerf Inference as rounds have published it: what counts, in what unit, in what precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import other_tools as tools
import pytest

from tpubench.errors import UsageError
from tpubench.results.importers import Imported, Record, read_results

SHIPPED = Path(__file__).with_name("fixtures") / "imports"


def values(record: Record) -> dict[str, float | None]:
    return {figure.metric: figure.value for figure in record.figures}


def log(scenario: str = "Offline", mode: str = "PerformanceOnly", **lines: object) -> str:
    """A summary as LoadGen writes it; names with spaces are given with underscores."""
    stated = {name.replace("_", " "): value for name, value in lines.items()}
    text = "\n".join(f"{name} : {value}" for name, value in stated.items())
    return (
        f"{'=' * 48}\nMLPerf Results Summary\n{'=' * 48}\nSUT name : S\nScenario : {scenario}\n"
        f"Mode     : {mode}\n{text}\nResult is : VALID\n  Min duration satisfied : Yes\n"
    )


def submission(root: Path, logs: dict[str, str], **notes: Any) -> Path:
    """A submission of one system: logs and notes by their path below the submitter's folder."""
    tools.save(root / "systems" / "sys.json", {**tools.SYSTEM, "number_of_nodes": "1"})
    for place, text in logs.items():
        path = root / place / "mlperf_log_summary.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for place, document in notes.items():
        tools.save(root / place, document)
    return root


def one(imported: Imported) -> Record:
    (record,) = imported.records
    return record


OFFLINE = log(Samples_per_second=10.0)


def test_the_summary_of_v5_1_says_samples_for_whispers_tokens() -> None:
    record = one(read_results("auto", SHIPPED / "summary_whisper.json"))
    assert values(record) == {"output_tok_s": 42755.7}
    assert "Samples/s" in (record.figures[0].reason or "")


def test_the_submitters_log_has_both_rates() -> None:
    record = one(read_results("auto", SHIPPED / "whisper_v5.1"))
    assert values(record) == {"output_tok_s": 42755.7, "samples_s": 673.765}


@pytest.mark.parametrize(
    ("benchmark", "scenario", "version", "unit", "metric"),
    [
        ("whisper", "Offline", "v5.1", "Samples/s", "output_tok_s"),
        ("whisper", "Offline", "v6.0", "Samples/s", "output_tok_s"),
        ("llama3.1-8b", "Interactive", "v5.1", "Queries/s", "output_tok_s"),
        ("llama3.1-8b-edge", "Offline", "v5.1", "Tokens/s", "output_tok_s"),
        ("gpt-oss-120b", "Server", "v6.0", "Queries/s", "output_tok_s"),
        ("deepseek-r1", "Interactive", "v6.0", "Tokens/s", "output_tok_s"),
        ("gptj-99", "Offline", "v4.1", "Samples/s", "output_tok_s"),
        ("gptj-99", "Offline", "v3.1", "Samples/s", "samples_s"),
        ("gptj-99.9", "Server", "v4.0", "Queries/s", "samples_s"),
        ("bert-99", "Offline", "v3.1", "Samples/s", "samples_s"),
        ("stable-diffusion-xl", "Server", "v5.1", "Queries/s", "samples_s"),
        ("qwen3-vl-235b-a22b", "Server", "v6.0", "Queries/s", "samples_s"),
        ("rgat", "Offline", "v5.1", "Samples/s", "samples_s"),
    ],
)
def test_a_summarys_unit_is_what_mlperfs_checker_counts(
    benchmark: str, scenario: str, version: str, unit: str, metric: str, tmp_path: Path
) -> None:
    entry = tools.MLPERF_SUMMARY[0] | {
        "Model": benchmark,
        "UsedModel": benchmark,
        "Scenario": scenario,
        "version": version,
        "Performance_Units": unit,
    }
    record = one(read_results("auto", tools.save(tmp_path / "s.json", [entry])))
    assert values(record) == {metric: 40000.0}


def test_a_rate_inferred_from_single_stream_is_samples_and_says_so(tmp_path: Path) -> None:
    entry = tools.MLPERF_SUMMARY[0] | {
        "Model": "llama3.1-8b-edge",
        "Scenario": "Offline",
        "inferred": 1,
        "Performance_Result": 1.5,
    }
    record = one(read_results("auto", tools.save(tmp_path / "s.json", [entry])))
    assert values(record) == {"samples_s": 1.5}
    assert "inferred" in (record.figures[0].reason or "")


def test_the_summary_of_v6_0_counts_all_accelerators(tmp_path: Path) -> None:
    entry = {k: v for k, v in tools.MLPERF_SUMMARY[0].items() if k not in {"a#", "Model"}}
    entry |= {"Total Accelerators": 72, "Nodes": 18, "Accelerator": "NVIDIA GB200 (x72)"}
    record = one(read_results("auto", tools.save(tmp_path / "s.json", [entry])))
    assert (record.device, record.chips, record.hosts) == ("NVIDIA GB200", 72, 18)
    assert record.model == "llama2-70b-99"


def test_the_summary_of_v6_1_is_an_object_with_the_checkers_names(tmp_path: Path) -> None:
    entry = {
        "Organization": "Somebody",
        "Division": "closed",
        "SystemType": "datacenter",
        "SystemName": "A system",
        "Platform": "8xMI355X",
        "Model": "gpt-oss-120b",
        "MlperfModel": "gpt-oss-120b",
        "Scenario": "Offline",
        "Result": 121818.0,
        "Units": "Tokens/s",
        "number_of_nodes": 1,
        "accelerator_model_name": "AMD Instinct MI355X 288GB HBM3e",
        "accelerators_per_node": 8,
        "total_accelerators": 8,
        "version": "v6.1",
        "errors": 0,
        "weight_data_types": "fp4",
        "PrivateID": None,
    }
    path = tools.save(tmp_path / "round" / "summary.json", {"0": entry, "1": {"Scenario": "x"}})
    imported = read_results("auto", path.parent)
    record = one(imported)
    assert (record.chips, record.dtype) == (8, "fp4")
    assert record.params["submission"] == "Somebody/8xMI355X"
    assert values(record) == {"output_tok_s": 121818.0}
    assert [part.where for part in imported.rejected] == ["1"]


@pytest.mark.parametrize("none", ["", "-", "N/A", "n/a", None])
def test_a_system_without_accelerators_is_its_processors(none: object, tmp_path: Path) -> None:
    entry = tools.MLPERF_SUMMARY[0] | {"Accelerator": none, "a#": ""}
    record = one(read_results("auto", tools.save(tmp_path / "s.json", [entry])))
    assert (record.device, record.chips) == ("cpu", 4)
    root = submission(
        tmp_path / "closed" / "S", {"results/sys/resnet/Offline/performance/run_1": OFFLINE}
    )
    bare = {**tools.SYSTEM, "accelerator_model_name": none, "accelerators_per_node": "0"}
    tools.save(root / "systems" / "sys.json", {**bare, "host_processors_per_node": "2"})
    record = one(read_results("auto", root))
    assert (record.device, record.chips) == ("cpu", 4)


def test_a_tree_takes_performance_runs_alone_and_names_the_rest() -> None:
    imported = read_results("auto", SHIPPED / "tree_v5.1" / "closed" / "Acme")
    llama, image = imported.records
    assert values(llama) == {"output_tok_s": 34555.0, "samples_s": 114.8}
    assert (llama.dtype, llama.chips, llama.params["round"]) == ("fp4", 8, "v5.1")
    assert values(image) == {"samples_s": 18.6}
    assert (llama.repetition, image.repetition) == (0, 0)
    reasons = {part.where: part.reason for part in imported.rejected}
    assert len(reasons) == 3
    for where, reason in reasons.items():
        test = next((name for name in ("TEST01", "TEST04") if name in where), "accuracy")
        assert test in reason


FORMS = {
    "with its division": "inference_results_v5.1/closed/S",
    "without its division": "inference_results_v5.1/S",
    "a download of the repository": "inference_results_v5.1-main/closed/S",
    "the submission alone": "S",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_tree_is_read_with_and_without_its_folders(form: str, tmp_path: Path) -> None:
    run = "results/sys/resnet50/Offline/performance"
    root = submission(
        tmp_path / FORMS[form],
        {
            f"{run}/run_1": OFFLINE,
            f"{run}/run_2": log(Samples_per_second=11.0),
            "results/sys/resnet50/Offline/accuracy": log(mode="AccuracyOnly", Samples_per_second=1),
            "results/sys/resnet50/Offline/performance/ranging": log(Samples_per_second=12.0),
            "results/sys/resnet50/Offline/TEST01/performance/run_1": log(Samples_per_second=9),
            "compliance/sys/resnet50/Offline/test04/performance/run_1": log(Samples_per_second=8),
            "code/trial/resnet50_offline_run_1": log(Samples_per_second=7),
        },
    )
    for start in (tmp_path, root):
        imported = read_results("auto", start)
        assert [(r.repetition, values(r)["samples_s"]) for r in imported.records] == [
            (0, 10.0),
            (1, 11.0),
        ]
        assert {r.params["submission"] for r in imported.records} == {"Somebody/sys"}
        assert len(imported.rejected) == 5
        assert all(part.reason for part in imported.rejected)
    assert imported.records[0].params["round"] == ("v5.1" if "v5.1" in FORMS[form] else None)


@pytest.mark.parametrize(
    "place", ["results/sys/resnet/Offline/accuracy", "compliance/sys/resnet/Offline/TEST06"]
)
def test_a_log_of_another_run_is_refused_alone_too(place: str, tmp_path: Path) -> None:
    root = submission(tmp_path, {place: OFFLINE})
    with pytest.raises(UsageError, match="not the"):
        read_results("auto", root / place / "mlperf_log_summary.txt")


def test_folders_above_the_submission_may_be_called_anything(tmp_path: Path) -> None:
    place = "results/sys/resnet50/Offline/performance/run_1"
    root = submission(tmp_path / "accuracy" / "TEST01" / "compliance" / "S", {place: OFFLINE})
    assert values(one(read_results("auto", root)))["samples_s"] == 10.0


def test_trial_logs_without_a_submission_are_read_as_they_lie(tmp_path: Path) -> None:
    path = tmp_path / "trial" / "mlperf_log_summary.txt"
    path.parent.mkdir()
    path.write_text(OFFLINE, encoding="utf-8")
    assert values(one(read_results("auto", tmp_path))) == {"samples_s": 10.0}


@pytest.mark.parametrize("mode", ["PerformanceOnly", "Performance", "Submission", "SubmissionRun"])
def test_performance_and_submission_runs_are_results(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "mlperf_log_summary.txt"
    path.write_text(log(mode=mode, Samples_per_second=5.0), encoding="utf-8")
    record = one(read_results("auto", path))
    assert (record.status, values(record)) == ("ok", {"samples_s": 5.0})


@pytest.mark.parametrize("mode", ["AccuracyOnly", "Accuracy", "FindPeakPerformance"])
def test_other_modes_are_named_and_left_out(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "mlperf_log_summary.txt"
    path.write_text(log(mode=mode, Samples_per_second=5.0), encoding="utf-8")
    with pytest.raises(UsageError, match=mode):
        read_results("auto", path)


def test_a_log_of_the_first_rounds_in_submission_mode() -> None:
    record = one(read_results("auto", SHIPPED / "submission_mode_v0.7" / "closed" / "Acme"))
    assert (record.status, values(record)) == ("ok", {"samples_s": 11460.4})


STREAM = log("SingleStream", **{"90th_percentile_latency_(ns)": 2_000_000})


def test_the_log_says_the_scenario_whatever_its_folder_is_called(tmp_path: Path) -> None:
    lines = {"50.00_percentile_latency_(ns)": 1_500_000}
    text = log("Single Stream", **{"90th_percentile_latency_(ns)": 2_000_000}, **lines)
    root = submission(tmp_path, {"results/sys/resnet50/offline/performance/run_1": text})
    record = one(read_results("auto", root))
    assert record.params["scenario"] == "singlestream"
    assert values(record) == {"e2e_s": pytest.approx(0.0015)}
    assert "offline" in (record.figures[0].reason or "")


def test_a_high_percentile_alone_is_no_median_and_is_said(tmp_path: Path) -> None:
    root = submission(tmp_path, {"results/sys/resnet50/offline/performance/run_1": STREAM})
    (figure,) = one(read_results("auto", root)).figures
    assert (figure.metric, figure.value) == ("e2e_s", None)
    assert "0.002 s at 90 %" in (figure.reason or "")


def test_one_log_in_the_place_of_two_scenarios_is_one_run(tmp_path: Path) -> None:
    places = [
        f"results/sys/resnet50/{name}/performance/run_1" for name in ("offline", "singlestream")
    ]
    imported = read_results("auto", submission(tmp_path, dict.fromkeys(places, STREAM)))
    assert len(imported.records) == 1
    assert "the same log as" in imported.rejected[0].reason


def test_server_in_a_folder_called_interactive_is_interactive(tmp_path: Path) -> None:
    text = log("Server", Completed_samples_per_second=5, Completed_tokens_per_second=500)
    root = submission(tmp_path, {"results/sys/llama2-70b-99/Interactive/performance/run_1": text})
    assert one(read_results("auto", root)).params["scenario"] == "interactive"


def test_tokens_that_loadgen_infers_say_so(tmp_path: Path) -> None:
    text = log(**{"Samples_per_second": 10, "Tokens_per_second_(inferred)": 690})
    root = submission(tmp_path, {"results/sys/gptj-99/Offline/performance/run_1": text})
    record = one(read_results("auto", root))
    assert values(record) == {"output_tok_s": 690.0, "samples_s": 10.0}
    assert "inferred" in (record.figures[0].reason or "")


RUN = "results/sys/bert-99/Offline/performance/run_1"
PRECISIONS = {
    "v5.1": ({"measurements/sys/bert-99/Offline/sys.json": "fp8"}, "fp8"),
    "another name": ({"measurements/sys/bert-99/offline/sys_ref_Offline.json": "int8"}, "int8"),
    "no scenario": ({"measurements/sys/bert-99/sys.json": "fp16"}, "fp16"),
    "v6.0": ({"results/sys/bert-99/Offline/measurements.json": "nvfp4"}, "nvfp4"),
    "beside the log": ({f"{RUN}/measurements.json": "bf16"}, "bf16"),
    "another scenario": ({"measurements/sys/bert-99/Server/sys.json": "fp8"}, None),
    "two that differ": (
        {
            "measurements/sys/bert-99/Offline/a.json": "fp8",
            "measurements/sys/bert-99/Offline/b.json": "fp16",
        },
        None,
    ),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_precision_comes_from_the_measurements(name: str, tmp_path: Path) -> None:
    stated, expected = PRECISIONS[name]
    notes = {path: {"weight_data_types": word} for path, word in stated.items()}
    record = one(read_results("auto", submission(tmp_path, {RUN: OFFLINE}, **notes)))
    assert record.dtype == expected


def test_a_precision_by_parts_is_kept_and_a_broken_note_costs_no_result(tmp_path: Path) -> None:
    place = "measurements/sys/bert-99/Offline/sys.json"
    parts = {"unet": "fp8", "vae": "fp32"}
    root = submission(tmp_path, {RUN: OFFLINE}, **{place: {"weight_data_types": parts}})
    assert one(read_results("auto", root)).dtype == "unet: fp8, vae: fp32"
    (root / place).write_text("{", encoding="utf-8")
    record = one(read_results("auto", root))
    assert (record.dtype, values(record)) == (None, {"samples_s": 10.0})
    assert "JSON" in str(record.stated["precision_missing"])


def test_without_a_system_file_the_systems_name_says_the_device(tmp_path: Path) -> None:
    for system, device in (
        ("B200-SXM-180GBx8_TRT", "b200-sxm-180gb"),
        ("8xMI300X_2xEPYC_9575F", "mi300x"),
        ("tpu_v5e_x4_flax", "tpu-v5e"),
        ("1-node-2S-GNR_128C", None),
    ):
        place = f"{system}/results/{system}/resnet50/Offline/performance/run_1"
        path = tmp_path / place / "mlperf_log_summary.txt"
        path.parent.mkdir(parents=True)
        path.write_text(OFFLINE, encoding="utf-8")
        record = one(read_results("auto", tmp_path / system))
        assert (record.device, record.stated["system"]) == (device, system)


def test_every_fixture_of_a_round_is_readable_json() -> None:
    for path in SHIPPED.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
