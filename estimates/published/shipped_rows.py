"""The published rows that ship with tpubench (``results/published/rows.csv``), line by line in the
layout of published tables, so that the model can be fitted on and judged by them as well."""

from __future__ import annotations

import json
from collections.abc import Mapping

COLUMNS = ("source_id", "date", "workload", "model", "device", "chips", "parallelism", "dtype",
           "params", "metric", "value", "software")  # fmt: skip

_SCENARIOS = {
    "llm-offline": "offline",
    "llm-static": "static-batch",
    "image-generation": "static-batch image generation",
}


def translate(line: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """(the line in the layout of a published table, whether it is one of training)."""
    try:
        params = json.loads(line["params"] or "{}")
    except json.JSONDecodeError:
        params = {}
    if not isinstance(params, dict):
        params = {}
    training = line["workload"].endswith("-training")
    metric, text = line["metric"], line["value"]
    if metric == "flop_s":  # of all chips
        metric = "flop_s_per_chip"
        try:
            text = repr(float(text) / float(line["chips"]))
        except (ValueError, ZeroDivisionError, OverflowError):
            text = ""
    dtype = "" if line["dtype"] == "not-stated" else line["dtype"]
    row = {
        "source_id": line["source_id"],
        "source_date": line["date"],
        "device": line["device"],
        "chips": line["chips"],
        "software": line["software"],
        "model": line["model"],
        "params_b": "",
        "metric": metric,
        "value": text,
        "unit": "",
        "notes": line.get("note", ""),
    }
    if training:
        mlperf = line["workload"] == "mlperf-training"
        return row | {
            "model": f"mlperf:{line['model'].removeprefix('mlperf:')}" if mlperf else line["model"],
            "seq_len": _text(params, "seq_len"),
            "global_batch": _text(params, "global_batch"),
            "dtype": dtype,
            "parallelism": line["parallelism"],
        }, True
    return row | {
        "weight_dtype": dtype,
        "kv_dtype": _text(params, "kv_dtype"),
        "tensor_parallel": line["parallelism"].replace("tp=", ""),
        "input_len": _text(params, "input_len"),
        "output_len": _steps(params) or _text(params, "output_len"),
        **_load(line["workload"], params),
    }, False


def _load(workload: str, params: Mapping[str, object]) -> dict[str, str]:
    if workload == "mlperf-inference":
        scenario, batch = f"{_text(params, 'scenario')} (mlperf)", ""
    elif "request_rate" in params:
        scenario, batch = "server (fixed QPS)", f"QPS={_text(params, 'request_rate')}"
    elif "concurrency" in params:
        scenario, batch = "serving-concurrency", _text(params, "concurrency")
    else:
        scenario, batch = _SCENARIOS.get(workload, workload), _text(params, "batch")
    return {"scenario": scenario, "batch_or_concurrency": batch}


def _steps(params: Mapping[str, object]) -> str:
    return f"{params['steps']} steps" if "steps" in params else ""


def _text(params: Mapping[str, object], name: str) -> str:
    return str(params.get(name, ""))
