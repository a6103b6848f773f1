"""Small result files of the structure that other tools write."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

VLLM_SERVE: dict[str, Any] = {
    "date": "20260213-135022",
    "backend": "vllm",
    "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "num_prompts": 4,
    "request_rate": "inf",
    "burstiness": 1.0,
    "max_concurrency": 2,
    "duration": 2.0,
    "completed": 4,
    "failed": 0,
    "total_input_tokens": 400,
    "total_output_tokens": 44,
    "request_throughput": 2.0,
    "request_goodput": None,
    "output_throughput": 22.0,
    "total_token_throughput": 222.0,
    "mean_ttft_ms": 30.0,
    "median_ttft_ms": 25.0,
    "p99_ttft_ms": 60.0,
    "mean_tpot_ms": 10.0,
    "median_tpot_ms": 9.5,
    "p99_tpot_ms": 15.0,
    "mean_itl_ms": 10.1,
    "median_itl_ms": 9.4,
    "p99_itl_ms": 20.0,
    "median_e2el_ms": 130.0,
}
VLLM_THROUGHPUT = {
    "elapsed_time": 10.0,
    "num_requests": 100,
    "total_num_tokens": 51200,
    "requests_per_second": 10.0,
    "tokens_per_second": 5120.0,
}
VLLM_LATENCY = {
    "avg_latency": 1.2,
    "latencies": [1.0, 1.1, 1.5],
    "percentiles": {"50": 1.1, "99": 1.5},
}
INFERENCEX = {
    "hw": "mi355x",
    "conc": 32,
    "image": "image:v1",
    "model": "moonshotai/Kimi-K2.5",
    "framework": "vllm",
    "precision": "int4",
    "spec_decoding": "none",
    "disagg": False,
    "isl": 8192,
    "osl": 1024,
    "tp": 8,
    "ep": 1,
    "dp_attention": "false",
    "tput_per_gpu": 157.0,
    "output_tput_per_gpu": 17.5,
    "input_tput_per_gpu": 139.5,
    "mean_ttft": 2.5,
    "median_ttft": 1.8,
    "mean_tpot": 0.22,
    "median_tpot": 0.23,
    "mean_itl": 0.221,
    "median_itl": 0.231,
    "median_e2el": 215.0,
}
INFERENCEX_DISAGG = {
    **INFERENCEX,
    "hw": "gb200",
    "disagg": True,
    "num_prefill_gpu": 4,
    "num_decode_gpu": 12,
    "prefill_tp": 4,
    "decode_tp": 4,
    "tput_per_gpu": 100.0,
    "output_tput_per_gpu": 20.0,
    "input_tput_per_gpu": 340.0,
}
INFERENCEX_SECONDS = {
    "date": "20260213-135022",
    "model_id": "zai-org/GLM-5-FP8",
    "num_prompts": 40,
    "request_rate": "inf",
    "max_concurrency": 4,
    "duration": 70.0,
    "completed": 40,
    "total_input_tokens": 409600,
    "total_output_tokens": 5120,
    "request_throughput": 0.56,
    "input_throughput": 5700.0,
    "output_throughput": 71.0,
    "median_ttft": 1.34,
    "median_e2el": 7.08,
    "median_tpot": 0.045,
}
AIPERF = {
    "schema_version": "1.4",
    "aiperf_version": "0.13.0",
    "request_throughput": {"unit": "requests/sec", "avg": 2.0},
    "request_latency": {"unit": "ms", "avg": 900.0, "p50": 880.0, "p99": 1200.0},
    "request_count": {"unit": "requests", "avg": 10.0},
    "time_to_first_token": {"unit": "ms", "avg": 210.0, "p50": 200.0, "p99": 300.0},
    "inter_token_latency": {"unit": "ms", "avg": 10.0, "p50": 9.0},
    "inter_chunk_latency": {"unit": "ms", "avg": 10.2, "p50": 9.2},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 128.0},
    "total_token_throughput": {"unit": "tokens/sec", "avg": 1128.0},
    "output_sequence_length": {"unit": "tokens", "avg": 64.0},
    "input_sequence_length": {"unit": "tokens", "avg": 500.0},
    "start_time": "2026-03-01T12:00:00",
    "was_cancelled": False,
    "input_config": {
        "models": {"items": [{"name": "Qwen/Qwen3-8B"}]},
        "phases": [{"name": "profiling", "concurrency": 4}],
    },
    "telemetry_data": {
        "endpoints": {
            "e": {"gpus": {"0": {"gpu_name": "NVIDIA H200"}, "1": {"gpu_name": "NVIDIA H200"}}}
        }
    },
}


def _distribution(mean: float, median: float) -> dict[str, Any]:
    distribution = {
        "mean": mean,
        "median": median,
        "percentiles": {"p50": median, "p99": 2 * median},
    }
    return {"successful": distribution, "errored": None, "total": distribution}


GUIDELLM = {
    "metadata": {"version": 2, "guidellm_version": "0.8.1"},
    "benchmarks": [
        {
            "config": {
                "strategy": {"kind": "concurrent", "streams": 8},
                "backend": {"model": "Qwen/Qwen3-8B"},
            },
            "start_time": 1772366400.0,
            "metrics": {
                "request_totals": {"successful": 2, "errored": 0, "incomplete": 0, "total": 2},
                "requests_per_second": _distribution(2.0, 2.0),
                "request_latency": _distribution(1.0, 0.9),
                "prompt_token_count": _distribution(512.0, 512.0),
                "output_token_count": _distribution(100.0, 100.0),
                "time_to_first_token_ms": _distribution(110.0, 100.0),
                "time_per_output_token_ms": _distribution(10.0, 10.0),
                "inter_token_latency_ms": _distribution(9.0, 8.5),
                "output_tokens_per_second": _distribution(200.0, 190.0),
                "tokens_per_second": _distribution(1224.0, 1200.0),
            },
        }
    ],
}


def _spread(mean: float, median: float) -> dict[str, float]:
    return {"mean": mean, "median": median, "p99": 2 * median}


INFERENCE_PERF: dict[str, Any] = {
    "load_summary": {"count": 60, "requested_rate": 1.0, "achieved_rate": 1.0},
    "successes": {
        "count": 60,
        "latency": {
            "request_latency": _spread(1.1, 1.05),
            "time_per_output_token": _spread(0.01, 0.0099),
            "time_to_first_token": _spread(0.1, 0.09),
            "inter_token_latency": _spread(0.01, 0.0098),
        },
        "throughput": {
            "input_tokens_per_sec": 200.0,
            "output_tokens_per_sec": 101.0,
            "total_tokens_per_sec": 301.0,
            "requests_per_sec": 1.0,
        },
        "prompt_len": {"mean": 200.0},
        "output_len": {"mean": 101.0},
    },
    "failures": {"count": 0},
}
MLPERF_SUMMARY = [
    {
        "ID": "5.1-0001",
        "Submitter": "Somebody",
        "Availability": "available",
        "Category": "closed",
        "Suite": "datacenter",
        "System": "A system",
        "UsedModel": "llama2-70b-99",
        "Model": "llama2-70b-99",
        "Scenario": "Server",
        "Nodes": 2,
        "host_processors_per_node": 2,
        "Accelerator": "NVIDIA H100-SXM-80GB",
        "a#": 8,
        "Software": "engine 1",
        "errors": 0,
        "version": "v5.1",
        "weight_data_types": "fp8",
        "Details": "https://example.org/closed/Somebody",
        "Performance_Result": 40000.0,
        "Performance_Units": "Tokens/s",
    }
]
MLPERF_LOG = """================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Mode     : PerformanceOnly
Completed samples per second    : 193.04
Completed tokens per second: 52140.68
Result is : VALID
  Min duration satisfied : Yes

================================================
Additional Stats
================================================
Scheduled samples per second : 193.82
50.00 percentile latency (ns)   : 8163459191
Completed tokens per second                 : 52140.68
50.00 percentile first token latency (ns)   : 57049254
50.00 percentile time to output token (ns)   : 35195183
99.00 percentile time to output token (ns)   : 39312166

================================================
Test Parameters Used
================================================
target_qps : 193.6
"""
SYSTEM = {
    "submitter": "Somebody",
    "division": "closed",
    "status": "available",
    "accelerator_model_name": "TPU v5e",
    "accelerators_per_node": "4",
    "number_of_nodes": "2",
    "framework": "flax",
    "other_software_stack": {"JAX": "0.4.30"},
}


def mllog(key: str, time_ms: int, value: Any = None, **metadata: Any) -> str:
    """One line of a training log."""
    event = {
        "namespace": "",
        "time_ms": time_ms,
        "event_type": "POINT_IN_TIME",
        "key": key,
        "value": value,
        "metadata": metadata,
    }
    return f":::MLLOG {json.dumps(event)}"


def training_log(status: str = "success") -> str:
    """A run of ten minutes: three blocks of 16 steps of batch 1536 and length 2048."""
    tokens = 16 * 1536 * 2048
    lines = [
        mllog("submission_org", 1_000, "Somebody"),
        mllog("submission_platform", 1_000, "tpu-v5p"),
        mllog("submission_benchmark", 1_000, "gpt3"),
        mllog("global_batch_size", 1_000, 1536),
        mllog("max_sequence_length", 1_000, 2048),
        mllog("run_start", 10_000),
    ]
    for start, end in ((10_000, 330_000), (330_000, 490_000), (490_000, 650_000)):
        lines += [mllog("block_start", start, epoch_count=tokens), mllog("block_stop", end)]
    return "\n".join([*lines, mllog("run_stop", 610_000, status=status)])


DOCUMENTS: dict[str, list[Any]] = {
    "vllm-bench": [VLLM_SERVE, VLLM_THROUGHPUT, VLLM_LATENCY, [VLLM_SERVE, VLLM_SERVE]],
    "inferencex": [INFERENCEX, INFERENCEX_DISAGG, INFERENCEX_SECONDS],
    "aiperf": [AIPERF],
    "guidellm": [GUIDELLM],
    "inference-perf": [INFERENCE_PERF],
    "mlperf-inference": [MLPERF_SUMMARY],
}
"""Documents of each JSON format."""


def save(path: Path, document: Any) -> Path:
    """The document as a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def changed(document: Any, **changes: Any) -> Any:
    """A copy with top-level entries replaced."""
    return {**copy.deepcopy(document), **changes}
