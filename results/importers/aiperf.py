"""AIPerf's ``profile_export_aiperf.json`` (and GenAI-Perf's, which it follows).

What AIPerf calls inter-token latency is one figure a request, (latency − ttft) ÷ (output tokens −
1): our ``tpot_s``. The gaps between streamed chunks are its inter-chunk latency; they are our
``itl_s`` only where a chunk is a token. (ai-dynamo/aiperf 0.13, metrics/types, read 2026-11-22.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, one_line, read_json
from tpubench.results.importers._record import NO_MODEL, Figure, Imported, Record
from tpubench.results.importers._serving import gaps, latency, measured, rate

FORMAT = "aiperf"
TITLE = "AIPerf and GenAI-Perf profile export (JSON)"

_SECONDS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PER_SECOND = {"tokens/sec", "requests/sec", "tokens/s", "requests/s", "req/s"}


def reads(path: Path) -> bool:
    try:
        document = read_json(path)
        root = _metrics(document)
        return isinstance(root.value, dict) and (_is_empty_run(document) or _has_rates(root.value))
    except UsageError:
        return False


def _has_rates(metrics: dict[str, Any]) -> bool:
    return all(
        isinstance(metrics.get(key), dict) and "unit" in metrics[key]
        for key in ("request_throughput", "request_latency")
    )


def _is_empty_run(document: Node) -> bool:
    """Whether it is the export of a run without any metric: nothing of it succeeded."""
    keys = document.value.keys() if isinstance(document.value, dict) else set()
    return {"aiperf_version", "input_config"} <= keys or {"was_cancelled", "input_config"} <= keys


def read(path: Path) -> Imported:
    """The one case of a file. UsageError when no request succeeded."""
    document = read_json(path)
    if not isinstance(document.value, dict):
        raise document.error("is not a profile export of AIPerf")
    metrics, config = _metrics(document), document["input_config"]
    _refuse_if_nothing_succeeded(document, metrics)
    if metrics["request_throughput"].value is None and metrics["request_latency"].value is None:
        raise document.error(
            "has neither request_throughput nor request_latency: it is no profile export of AIPerf"
        )
    spoiled = document["was_cancelled"].value is True or document["is_complete"].value is False
    figures = () if spoiled else measured(document, _figures(metrics))
    device, seen = _telemetry(document["telemetry_data"])
    return Imported(
        records=(
            Record(
                workload="llm-serving",
                model=_model(config) or NO_MODEL,
                params={
                    "input_len": metrics["input_sequence_length"]["avg"].number(),
                    "output_len": metrics["output_sequence_length"]["avg"].number(),
                    "concurrency": _load(config, "concurrency"),
                    "request_rate": _load(config, "request_rate"),
                    "requests": metrics["request_count"]["avg"].number(),
                },
                device=device,
                software=_version(document),
                started_at=document["start_time"].time(),
                figures=figures,
                status="invalid" if spoiled else "ok",
                reason="the run was cancelled or did not complete" if spoiled else None,
                stated={
                    "gpus_seen": seen,
                    "failed": metrics["error_request_count"]["avg"].number(),
                    "ttft_p99_s": _seconds(metrics["time_to_first_token"], "p99"),
                    "tpot_p99_s": _seconds(metrics["inter_token_latency"], "p99"),
                    "e2e_p99_s": _seconds(metrics["request_latency"], "p99"),
                },
            ),
        )
    )


def _refuse_if_nothing_succeeded(document: Node, metrics: Node) -> None:
    """A run whose requests all failed or were cancelled has counts of zero, or no metric at all."""
    counts = [
        metrics[key]["avg"].number()
        for key in ("completed_request_count", "request_count")
        if isinstance(metrics[key].value, dict)
    ]
    absent = (
        metrics["request_throughput"].value is None and metrics["request_latency"].value is None
    )
    if 0 in counts or (absent and _is_empty_run(document)):
        ended = "the run was cancelled" if document["was_cancelled"].value is True else None
        failed = metrics["error_request_count"]["avg"].number()
        words = [ended, f"{failed:g} failed" if failed else None]
        why = ", ".join(word for word in words if word)
        raise document.error(f"holds no result: no request succeeded{f' ({why})' if why else ''}")


def _metrics(document: Node) -> Node:
    """Where the metrics stand: at the top, or one level down in older files."""
    if isinstance(document.value, dict):
        for key in ("records", "metrics"):
            if isinstance(document.value.get(key), dict):
                return document[key]
    return document


def _figures(metrics: Node) -> list[Figure]:
    chunk, token = metrics["inter_chunk_latency"], metrics["inter_token_latency"]
    total = _rate(metrics["total_token_throughput"])
    outputs, inputs = (
        _rate(metrics["output_token_throughput"]),
        _rate(metrics["input_token_throughput"]),
    )
    if total is None and outputs is not None and inputs is not None:
        total = outputs + inputs
    return [
        *rate("output_tok_s", outputs),
        *rate("input_tok_s", inputs),
        *rate("total_tok_s", total),
        *rate("requests_s", _rate(metrics["request_throughput"])),
        *rate("goodput_req_s", _rate(metrics["goodput"])),
        *_time("ttft_s", metrics["time_to_first_token"]),
        *_time("tpot_s", token),
        *gaps(_time("itl_s", chunk), _seconds(chunk, "avg"), _seconds(token, "avg")),
        *_time("e2e_s", metrics["request_latency"]),
    ]


def _scale(metric: Node) -> float:
    unit = metric["unit"].text() or "ms"
    if unit not in _SECONDS:
        raise metric["unit"].error(f"{one_line(unit)!r} is not a unit of time")
    return _SECONDS[unit]


def _seconds(metric: Node, key: str) -> float | None:
    return None if metric.value is None else metric[key].number(_scale(metric))


def _time(name: str, metric: Node) -> list[Figure]:
    if metric.value is None:
        return []
    return latency(name, metric["p50"], metric["avg"], _scale(metric))


def _rate(metric: Node) -> float | None:
    unit = metric["unit"].text()
    if metric.value is not None and unit is not None and unit not in _PER_SECOND:
        raise metric["unit"].error(f"{one_line(unit)!r} is not a rate per second")
    return metric["avg"].number()


def _model(config: Node) -> str | None:
    """The first model name, wherever this version keeps it."""
    if not isinstance(config.value, dict):
        return None
    candidates = [config["endpoint"], config, config["models"]]
    for place in candidates:
        if not isinstance(place.value, dict):
            continue
        for key in ("model_names", "model", "models", "items", "name"):
            value = place.value.get(key)
            first = value[0] if isinstance(value, list) and value else value
            name = first.get("name") if isinstance(first, dict) else first
            if isinstance(name, str) and name:
                return one_line(name)
    return None


def _load(config: Node, key: str) -> float | None:
    """A setting of the load generator, wherever this version keeps it."""
    if not isinstance(config.value, dict):
        return None
    places = [config["loadgen"], config, config["load"]]
    phases = config.value.get("phases")
    if isinstance(phases, list):
        places += config["phases"].items()
    elif isinstance(phases, dict):
        places += [config["phases"][name] for name in phases]
    for place in places:
        value = place.value.get(key) if isinstance(place.value, dict) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            return place[key].number()
    return None


def _version(document: Node) -> str | None:
    version = document["aiperf_version"].text()
    return f"aiperf {version}" if version else None


def _telemetry(data: Node) -> tuple[str | None, int | None]:
    """The one kind of GPU that telemetry saw, and how many; more may be there than were used."""
    if not isinstance(data.value, dict):
        return None, None
    names = [
        gpu["gpu_name"].text()
        for endpoint in data["endpoints"].entries()
        for gpu in endpoint["gpus"].entries()
    ]
    kinds = {name for name in names if name}
    return (kinds.pop() if len(kinds) == 1 else None), len(names) or None
