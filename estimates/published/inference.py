"""An inference row of a published table as a problem."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from tpubench.devices.precisions import mentioned
from tpubench.estimates.problem import Images, Problem, Serving, fields
from tpubench.estimates.published.cells import SkipError, size, whole
from tpubench.estimates.published.common import common
from tpubench.estimates.published.datasets import BEAMS, Lengths, dataset
from tpubench.estimates.roofline import samples
from tpubench.estimates.roofline.chips import Chip


def problem(row: Mapping[str, str]) -> Problem:
    """The problem of an inference row; SkipError when it cannot be one."""
    base = common(row)
    metric = base.metric
    scenario = row["scenario"].lower()
    if "prefix cached" in scenario:
        raise SkipError("cached prefixes: the work done is not stated")
    chips = base.chips or whole(row["tensor_parallel"], 0)
    if not chips:
        raise SkipError("number of chips is not stated")
    weights, kv = mentioned(row["weight_dtype"]), mentioned(row.get("kv_dtype", ""))
    stated = weights is not None
    weights = weights or _serving_precision(base, row)
    shared = replace(
        base,
        chips=chips,
        precision=weights,
        precision_stated=stated,
        scenario=_scenario(scenario),
    )
    work = samples.find(row["model"])
    if work is not None:
        return _samples(row, shared, work)
    if shared.shape is None:
        raise SkipError("the model's size is not known")
    if metric not in {
        "output_tok_s", "output_tok_s_per_chip", "peak_output_tok_s",
        "ttft_s", "itl_s", "tpot_s", "samples_s", "bandwidth_bytes_s_per_chip",
        "prefill_tok_s", "total_tok_s", "total_tok_s_per_chip",
        "e2e_s", "requests_s",
    }:  # fmt: skip
        raise SkipError(f"metric {metric[:40]!r} is not modelled")
    kind = _kind(scenario, row["batch_or_concurrency"], metric)
    if chips > 1 and "per system vs per gpu" in row.get("notes", "").lower():
        metric = "output_tok_s_per_chip"
    tensor, expert = _tensor(row["tensor_parallel"], chips, base.chip)
    batch_cell = row["batch_or_concurrency"]
    qps = size(batch_cell) if batch_cell.upper().startswith("QPS") else None
    if batch_cell.upper().replace(" ", "") in {"QPS=INF", "INF"}:
        qps = math.inf
    batch = None if batch_cell.upper().startswith(("QPS", "KV")) else size(batch_cell)
    ends = Lengths(size(row["input_len"]), size(row["output_len"]), "fixed")
    if "mlperf" in scenario:
        ends = dataset(base.model, base.source) or ends
    elif kind == "concurrency" and ends.inputs is None and "sharegpt" in scenario:
        ends = Lengths(230.0, 250.0, "variable")  # mean lengths, jetstream's ShareGPT sampling
    if kind == "decode":
        ends = Lengths(ends.inputs or 256.0, ends.outputs or 200.0, ends.kind)
        batch = batch or 1.0
    if ends.inputs is None or (ends.outputs is None and kind != "prefill"):
        raise SkipError("prompt or output length is not stated")
    if metric == "samples_s" and "token" in row["unit"].lower():
        metric = "output_tok_s"
    mlperf = "mlperf" in scenario
    if metric == "e2e_s" and mlperf:
        raise SkipError("latency of a queue whose length is not stated")
    if kind in {"static", "concurrency", "prefill"} and batch is None:
        raise SkipError("batch or concurrency is not stated")
    if kind == "server" and qps is None:
        raise SkipError("the request rate is not stated")
    burst = frozenset(_burst(row.get("notes", "")))
    own = fields(replace(shared, kind=kind, metric=metric, notes=burst))
    return Serving(
        **own,
        kv_precision=kv or _cache_precision(weights, base.chip, base.software),
        weight_only="weight-only" in row["weight_dtype"].lower() or weights == "int4",
        tensor=tensor,
        expert=expert,
        batch=batch,
        requests=_requests(row.get("notes", ""), batch),
        qps=qps,
        input_len=ends.inputs,
        output_len=ends.outputs or 1.0,
        variable=ends.kind == "variable",
        beams=BEAMS.get(base.model, 1.0) if mlperf else 1.0,
    )


def _requests(notes: str, concurrency: float | None) -> float | None:
    """Requests of a run, from ``100 prompts`` or ``3 prompts x concurrency``."""
    match = re.search(r"\b(\d{1,7}) prompts( x concurrency)?", notes.lower())
    if not match:
        return None
    return float(match[1]) * (concurrency or 1.0 if match[2] else 1.0) or None


def _burst(notes: str) -> list[str]:
    return ["burst"] if re.search(r"queued prefills|output_len=1\b", notes) else []


def _samples(row: Mapping[str, str], shared: Problem, work: samples.SampleWork) -> Images:
    known = {"samples_s", "samples_s_per_chip", "batch_time_s", "sample_time_s",
             "queries_s"}  # fmt: skip
    if shared.metric not in known:
        raise SkipError(f"metric {shared.metric[:40]!r} of {work.name} is not modelled")
    steps = size(row["output_len"]) if "step" in row["output_len"] else None
    notes = frozenset(re.findall(r"ctx|fsdp|ddp", row["tensor_parallel"].lower()))
    return Images(
        **fields(replace(shared, kind="samples", notes=notes)),
        work=work,
        batch=size(row["batch_or_concurrency"]),
        steps=steps,
    )


def _kind(scenario: str, batch: str, metric: str) -> str:
    """Kind of run; a scenario in unknown words is told by its batch: a rate, a number, none."""
    if "mlperf" in scenario:
        return "queries"
    for word, kind in (
        ("prefix caching on", "concurrency"), ("offline", "offline"), ("fixed qps", "server"),
        ("concurrency", "concurrency"), ("static", "static"), ("prefill-only", "prefill"),
        ("decode-only", "decode"), ("prefill", "prefill"), ("throughput", "offline"),
        ("ci regression", "offline"), ("server", "server"), ("online", "concurrency"),
    ):  # fmt: skip
        if word in scenario:
            return "decode" if word == "static" and "decode-only" in scenario else kind
    if batch.upper().startswith("QPS"):
        return "server"
    if size(batch) is None:
        return "offline"
    return "decode" if metric in {"tpot_s", "itl_s"} and size(batch) == 1 else "concurrency"


def _scenario(text: str) -> str:
    plain = re.sub(r"\(.*?\)", " ", text)
    plain = re.sub(r"[^a-z]+", "-", plain).strip("-")
    for word in ("interactive", "server", "offline"):
        if "mlperf" in text and word in text:
            return f"mlperf-{word}"
    return "prefix-cached" if "prefix" in text else plain[:40]


def _serving_precision(base: Problem, row: Mapping[str, str]) -> str:
    """What an unlabelled serving row ran in: the narrowest that chip and stack submit with."""
    chip = base.chip
    if "mlperf" in row["scenario"].lower():
        if chip.peak_flop_s.get("fp4") and base.software in {"tensorrt", "trtllm"}:
            return "fp4"
        if chip.is_tpu:
            return "int8" if base.shape is not None else "bfloat16"
        return "fp8" if chip.peak_flop_s.get("fp8") else "int8"
    name = mentioned(row["model"])
    return name or "bfloat16"


def _cache_precision(weights: str, chip: Chip, software: str) -> str:
    """Precision of the KV cache where not stated: TensorRT-LLM's narrow checkpoints cache fp8."""
    if weights in {"fp8", "fp4"} and chip.peak_flop_s.get("fp8") and software.startswith("t"):
        return "fp8"
    return "bfloat16"


def _tensor(text: str, chips: int, chip: Chip) -> tuple[int, int]:
    """(tensor, expert) parallel degrees in chips, where a cell may count JAX devices."""
    low = text.lower()
    expert = re.search(r"ep (\d+)", low)
    data = re.search(r"dp (\d+)", low)
    first = re.match(r"\s*(\d+)", low)
    halves = 2 if "devices" in low and chip.name == "tpu-v7" else 1
    if first is None:
        return chips, 1
    tensor = max(1, int(first[1]) // halves)
    if data and not expert:
        tensor = max(1, tensor // int(data[1]))
    tensor = min(tensor, chips)
    return tensor, max(1, int(expert[1]) // halves) if expert else 1
