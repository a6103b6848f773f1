"""Make ``results/published/rows.csv`` from tables of published results given by path.

    python benchmarks/curate_published.py inference.csv training.csv

The tables have one published figure a line, with its source, device, chips, model, precision,
lengths, batch and metric as printed there. A line is kept when all of that is stated, its device
is known to the device table, its metric has one of ours to become, and the figure is within the
hardware's peak. What is left out is counted by reason. Nothing is rounded or averaged.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import re
from collections import Counter
from pathlib import Path

from tpubench.costs.imported import precision
from tpubench.devices.names import canonical
from tpubench.devices.sheets import device
from tpubench.results.importers._mlperf_units import counts_tokens
from tpubench.results.published import COLUMNS, TABLE

_NAMES = {"NVIDIA GH200-480GB": None, "NVIDIA A100": None}
_MILLI = 1e-3
_PERCENT = 1e-2
_MINUTE = 60.0
_MEAN_GAP = (
    "published as inter-token latency, a mean over gaps: with equal output lengths that is the"
    " mean time per output token"
)
_UNDER_BOUND = "served within the benchmark's latency bounds"
_BY_LOG = "MLPerf takes this benchmark's figure from the log's tokens per second"
_LATENCIES = {"ttft_ms": ("ttft_s", ""), "tpot_ms": ("tpot_s", ""), "itl_ms": ("tpot_s", _MEAN_GAP)}
_KINDS = {
    "offline (in-flight batching": "llm-offline",
    "server (fixed QPS)": "llm-serving",
    "serving-concurrency": "llm-serving",
    "static-batch (prefill": "llm-static",
    "static-batch image": "image-generation",
}


class LeftOutError(Exception):
    """Why a line is left out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inference", type=Path)
    parser.add_argument("training", type=Path)
    asked = parser.parse_args()
    left: Counter[str] = Counter()
    kept: dict[tuple[str, ...], dict[str, object]] = {}
    trained = table(asked.training)
    stated = frozenset(case(one) for one in trained if one["metric"] == "tokens_per_s_per_chip")
    lines = [(line, inference) for line in table(asked.inference)]
    lines += [(line, functools.partial(training, has_tokens=stated)) for line in trained]
    for line, convert in lines:
        try:
            row = convert(line)
            implausible(row)
        except LeftOutError as why:
            left[str(why)] += 1
            continue
        key = tuple(str(row[c]) for c in COLUMNS if c not in {"value", "note", "source"})
        row["value"] = f"{row['value']:.12g}"  # a unit's factor leaves 0.30000000000000004
        if key in kept:
            left["the same case and metric of the same source is there already"] += 1
        kept.setdefault(key, row)
    tell_apart(list(kept.values()))
    order = ("workload", "model", "device", "chips", "dtype", "params", "source_id", "metric")
    rows = sorted(kept.values(), key=lambda r: tuple(str(r[name]) for name in order))
    with TABLE.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} rows kept, {sum(left.values())} left out:")
    for reason, count in left.most_common():
        print(f"  {count:5d}  {reason}")
    print("kept by device and workload:")
    for pair, count in sorted(Counter((r["device"], r["workload"]) for r in rows).items()):
        print(f"  {count:5d}  {' '.join(map(str, pair))}")


def tell_apart(rows: list[dict[str, object]]) -> None:
    """Name how a case was spread over chips where a source has several that differ in only that."""
    names = ("source_id", "date", "workload", "model", "device", "chips", "dtype", "params")
    groups: dict[tuple[object, ...], set[object]] = {}
    for row in rows:
        groups.setdefault(tuple(row[n] for n in names), set()).add(row["parallelism"])
    crowded = {key for key, alike in groups.items() if len(alike) > 1}
    for row in rows:
        if tuple(row[n] for n in names) in crowded:
            params = {**json.loads(str(row["params"])), "parallelism": row["parallelism"]}
            row["params"] = json.dumps(params, sort_keys=True)


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def shared(line: dict[str, str]) -> dict[str, object]:
    name = _NAMES.get(line["device"], line["device"])
    device_name = canonical(re.sub(r"\s*\((?:NVL72|Trillium|Ironwood)\)", "", name or ""))
    if device_name is None:
        raise LeftOutError("the device is not in the device table, or its variant is open")
    if not line["chips"]:
        raise LeftOutError("the number of chips is not stated")
    grade = line["use_for_projection"][:2].strip(": ")
    if grade == "X":
        raise LeftOutError("its own source calls it not comparable")
    if "superseded" in line["use_for_projection"]:
        raise LeftOutError("superseded by a later run of the same source")
    if "ambiguous" in line["notes"]:
        raise LeftOutError("the unit is ambiguous in its source")
    hosts = line["host_count"]
    return {
        "source_id": release(line["source_id"], line["source_date"]),
        "date": date(line["source_date"]),
        "source": line["source_locator"],
        "model": line["model"],
        "device": device_name,
        "chips": int(float(line["chips"])),
        "hosts": int(float(hosts)) if hosts else 0,
        "software": line["software"],
        "note": "",
        "title": line["source_title"],
    }


def release(source: str, date_text: str) -> str:
    """The source, with its release where that is what dates it: two releases are two sources."""
    return f"{source}-{date_text}" if re.fullmatch(r"\d\d\.\d\d(\.\d+)?", date_text) else source


def date(text: str) -> str:
    """The source's date, to the day, month or year that it gives."""
    match = re.match(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", text)
    if match is None:
        # A release number such as 25.09 is a year and a month.
        release = re.match(r"(\d\d)\.(\d\d)", text)
        if release is None:
            raise LeftOutError("the source has no date")
        return f"20{release[1]}-{release[2]}"
    return "-".join(part for part in match.groups() if part)


def number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LeftOutError(f"{what} is not stated as a number") from None


def whole(text: str, what: str) -> int:
    return int(number(text, what))


def inference(line: dict[str, str]) -> dict[str, object]:
    row = shared(line)
    scenario, load = line["scenario"], line["batch_or_concurrency"]
    mlperf = re.fullmatch(r"(\w+) \(mlperf\)", scenario)
    params: dict[str, object] = {}
    if mlperf:
        row["workload"] = "mlperf-inference"
        params |= {"scenario": mlperf[1], "round": line["source_id"].rpartition("_")[2]}
        params["submission"] = submission(line)
    else:
        kinds = [kind for start, kind in _KINDS.items() if scenario.startswith(start)]
        if not kinds or "prefix caching" in scenario or "ShareGPT" in scenario:
            raise LeftOutError(f"the scenario leaves lengths or caching open: {scenario}")
        row["workload"] = kinds[0]
        if kinds[0] == "image-generation":
            params |= {"resolution": line["input_len"], "steps": line["output_len"].split()[0]}
            params["batch"] = whole(load, "batch")
        else:
            params["input_len"] = whole(line["input_len"], "input length")
            params["output_len"] = whole(line["output_len"], "output length")
            params |= offered(load, str(row["workload"]))
    if not line["weight_dtype"] and not mlperf:
        raise LeftOutError("the precision is not stated")
    if line["kv_dtype"]:
        params["kv_dtype"] = precision(line["kv_dtype"])
    row["dtype"] = precision(line["weight_dtype"]) if len(line["weight_dtype"]) < 30 else "mixed"
    row["parallelism"] = f"tp={line['tensor_parallel']}" if line["tensor_parallel"] else ""
    row["metric"], row["value"], note = figure(line, params)
    bound = _UNDER_BOUND if params.get("scenario") in {"server", "interactive"} else ""
    row["note"] = "; ".join(part for part in (bound, note) if part)
    row["params"] = json.dumps(params, sort_keys=True)
    return row


def submission(line: dict[str, str]) -> str:
    """Who submitted which system, as the end of the source's title has it."""
    match = re.search(r", ([^,]+), (?:system )?([^,]+)$", line["source_title"])
    if match is None:
        raise LeftOutError("the submission is not stated")
    return f"{match[1]}/{match[2]}"


def offered(load: str, workload: str) -> dict[str, object]:
    if workload == "llm-offline":
        return {"load": "all requests queued"}
    if load.startswith("QPS="):
        rate = load.removeprefix("QPS=")
        return {"request_rate": "inf" if rate == "INF" else float(rate)}
    key = "batch" if workload == "llm-static" else "concurrency"
    return {key: whole(load, key)}


def figure(line: dict[str, str], params: dict[str, object]) -> tuple[str, float, str]:
    metric, value = line["metric"], number(line["value"], "the value")
    if value <= 0:
        raise LeftOutError("the value is not above zero")
    if metric == "output_tokens_per_s":
        return "output_tok_s", value, ""
    if metric == "output_tokens_per_s_per_chip":
        chips = int(float(line["chips"]))
        return "output_tok_s", value * chips, f"published for one chip of {chips}"
    if metric in _LATENCIES:
        name, note = _LATENCIES[metric]
        return name, value * _MILLI, note
    if metric == "samples_per_s":
        if "round" in params and counts_tokens(line["model"], str(params["round"])):
            return "output_tok_s", value, f"tokens, though published as {line['unit']}: {_BY_LOG}"
        name = "requests_s" if line["unit"] == "req/s" else "samples_s"
        return name, value, ""
    if metric == "batch_time_s":
        batch = params.get("batch")
        assert isinstance(batch, int)
        return "samples_s", batch / value, f"published as {value:g} s for a batch of {batch}"
    if metric == "seconds_per_image":
        return "samples_s", 1 / value, f"published as {value:g} s an image"
    raise LeftOutError(f"no metric of ours for {metric}")


def case(line: dict[str, str]) -> tuple[str, ...]:
    names = ("source_id", "source_date", "device", "chips", "model", "seq_len", "dtype")
    return tuple(line[name] for name in (*names, "global_batch", "parallelism"))


def training(line: dict[str, str], has_tokens: frozenset[tuple[str, ...]]) -> dict[str, object]:
    row = shared(line)
    metric, value = line["metric"], number(line["value"], "the value")
    mlperf = line["model"].startswith("mlperf:")
    if metric not in {
        "tokens_per_s_per_chip",
        "step_time_s",
        "time_to_train_min",
        "tflops_per_chip",
    }:
        raise LeftOutError(f"no metric of ours for {metric}: sources count FLOPs in different ways")
    if metric == "tflops_per_chip" and case(line) in has_tokens:
        raise LeftOutError("FLOP/s as its source counts them, beside tokens/s of the same case")
    params: dict[str, object] = {"global_batch": whole(line["global_batch"], "global batch")}
    if mlperf:
        row["workload"], row["model"] = "mlperf-training", line["model"].removeprefix("mlperf:")
        params["round"] = line["source_id"].rpartition("_")[2]
        params["submission"] = submission(line)
        if line["seq_len"]:
            params["seq_len"] = whole(line["seq_len"], "sequence length")
    else:
        row["workload"] = "llm-training"
        params["seq_len"] = whole(line["seq_len"], "sequence length")
        if not line["dtype"]:
            raise LeftOutError("the precision is not stated")
    word = precision(line["dtype"].split()[0] if line["dtype"] else None)
    row["dtype"] = "fp8" if word.startswith("fp8") else word
    if line["dtype"] and precision(line["dtype"]) != row["dtype"]:
        params["recipe"] = line["dtype"]
    row["parallelism"] = line["parallelism"]
    chips = row["chips"]
    assert isinstance(chips, int)
    if metric == "tokens_per_s_per_chip":
        row["metric"], row["value"] = "train_tok_s", value * chips
        row["note"] = f"published for one chip of {chips}"
    elif metric == "step_time_s" and case(line) not in has_tokens and "seq_len" in params:
        batch, length = params["global_batch"], params["seq_len"]
        assert isinstance(batch, int) and isinstance(length, int)
        row["metric"], row["value"] = "train_tok_s", batch * length / value
        row["note"] = f"batch × sequence ÷ the published step time of {value:g} s"
    elif metric == "step_time_s":
        row["metric"], row["value"] = "step_time_s", value
    elif metric == "tflops_per_chip":
        row["metric"], row["value"] = "flop_s", value * chips * 1e12
        row["note"] = f"published for one chip of {chips}; model FLOPs as the source counts them"
    else:
        row["metric"], row["value"] = "time_to_train_s", value * _MINUTE
        row["note"] = "mean of the runs that MLPerf scores"
    row["params"] = json.dumps(params, sort_keys=True)
    row["params_b"] = line["params_b"]
    return row


def implausible(row: dict[str, object]) -> None:
    """Left when a dense model's figure is beyond the peak of its chips."""
    params_b = str(row.pop("params_b", ""))
    row.pop("title", None)
    model = str(row["model"]).lower()
    sparse = re.search(r"moe|mixtral|deepseek|kimi|gpt.oss|a\d+b|nemotron.3|glm|ling|mimo", model)
    if sparse or not params_b or row["metric"] != "train_tok_s":
        return
    sheet = device(str(row["device"]))
    peak = max(sheet.peak_flop_s.values(), default=0.0)
    value, chips = row["value"], row["chips"]
    assert isinstance(value, float) and isinstance(chips, int)
    # 6 FLOPs a parameter and token: forward and backward, attention not counted.
    if peak and 6 * float(params_b) * 1e9 * value / chips > peak:
        raise LeftOutError("beyond the chip's peak FLOP/s")


if __name__ == "__main__":
    main()
