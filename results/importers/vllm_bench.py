"""``vllm bench serve | throughput | latency`` JSON, and what is written in the same form.

``serve`` gives milliseconds; its ``tpot`` is (end to end − ttft) ÷ (output tokens − 1) for each
request, as ours. With ``--save-detailed`` the raw samples are taken instead of the summary.
``throughput`` counts input and output tokens together: it is ``total_tok_s``, and output tokens
alone cannot be had from it. The files name neither chips nor precision: where the file's name, or
the model's, does, that is taken. (vllm-project/vllm, vllm/benchmarks/{serve,throughput,latency}.py,
read 2026-11-22; ``serve`` of vllm 0.33.0 run against a loopback server 2026-11-23.)
"""

from __future__ import annotations

from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, read_json
from tpubench.results.importers._names import precision_in, read_name
from tpubench.results.importers._record import NO_MODEL, Figure, Imported, Record
from tpubench.results.importers._serving import (
    every,
    gaps,
    latency,
    measured,
    rate,
    sampled,
    tokens_a_request,
)

FORMAT = "vllm-bench"
TITLE = "vllm bench serve, throughput and latency (JSON)"

_MS = 1e-3
_TOGETHER = "the file counts input and output tokens together; output tokens alone are not in it"


def reads(path: Path) -> bool:
    try:
        keys = set(_keys(read_json(path)))
    except UsageError:
        return False
    return _is_serve(keys) or _is_throughput(keys) or _is_latency(keys)


def read(path: Path) -> Imported:
    """Every run in one file: an object, or a list of them (``--append-result``)."""
    return every(read_json(path), _record)


def _keys(root: Node) -> list[str]:
    value = root.value[0] if isinstance(root.value, list) and root.value else root.value
    return list(value) if isinstance(value, dict) else []


def _is_serve(keys: set[str]) -> bool:
    stated = {"output_throughput", "request_throughput"}
    return stated <= keys and bool({"mean_ttft_ms", "median_ttft_ms"} & keys)


def _is_throughput(keys: set[str]) -> bool:
    return {"elapsed_time", "requests_per_second", "tokens_per_second"} <= keys


def _is_latency(keys: set[str]) -> bool:
    return {"avg_latency", "latencies"} <= keys


def _record(run: Node) -> Record:
    if not isinstance(run.value, dict):
        raise run.error("is not a result of vllm bench")
    keys = set(run.value)
    if _is_serve(keys):
        return serve(run)
    if _is_throughput(keys):
        return _throughput(run)
    if _is_latency(keys):
        return _latency(run)
    raise run.error(
        "is not a result of vllm bench: it has neither serve's output_throughput, nor throughput's"
        " tokens_per_second, nor latency's avg_latency"
    )


def serve(run: Node) -> Record:
    """A result of ``vllm bench serve``."""
    requests, output = run["completed"].number(), run["total_output_tokens"].number()
    inputs, duration = run["total_input_tokens"].number(), run["duration"].number()
    if requests == 0:
        raise run.error("has no completed request: no request succeeded")
    output_rate = run["output_throughput"].number()
    total_rate = run["total_token_throughput"].number()
    if total_rate is None and output_rate is not None and inputs is not None and duration:
        total_rate = output_rate + inputs / duration
    figures = [
        *rate("output_tok_s", output_rate),
        *rate("input_tok_s", inputs / duration if inputs is not None and duration else None),
        *rate("total_tok_s", total_rate),
        *rate("requests_s", run["request_throughput"].number()),
        *rate("goodput_req_s", run.first("request_goodput", "request_goodput:").number()),
        *_ttft(run),
        *latency("tpot_s", run["median_tpot_ms"], run["mean_tpot_ms"], _MS),
        *_itl(run),
        *latency("e2e_s", run["median_e2el_ms"], run["mean_e2el_ms"], _MS),
    ]
    model, named = run["model_id"].text(), read_name(run.path.name)
    return Record(
        workload="llm-serving",
        model=model or NO_MODEL,
        params={
            "input_len": tokens_a_request(inputs, requests),
            "output_len": tokens_a_request(output, requests),
            "concurrency": run["max_concurrency"].count(),
            "request_rate": _request_rate(run),
            "requests": run["num_prompts"].count(),
        },
        started_at=run["date"].time(),
        device=named.device,
        chips=named.chips,
        parallelism=named.parallelism,
        dtype=named.dtype or precision_in(model or ""),
        software=_engine(run),
        figures=measured(run, figures),
        stated={
            name: run[key].number(_MS)
            for name, key in {
                "ttft_p99_s": "p99_ttft_ms",
                "tpot_p99_s": "p99_tpot_ms",
                "itl_p99_s": "p99_itl_ms",
                "e2e_p99_s": "p99_e2el_ms",
            }.items()
        }
        | {
            "failed": run["failed"].number(),
            "burstiness": run["burstiness"].number(),
            "from_file_name": named.said(),
        },
    )


def _engine(run: Node) -> str | None:
    """What served; None where the file names only the interface that was spoken to."""
    named = run.first("backend", "endpoint_type").text()
    return None if named is not None and named.startswith("openai") else named


def _request_rate(run: Node) -> float | str | None:
    """Requests a second offered; ``inf`` when all were sent at once."""
    node = run["request_rate"]
    if node.value in ("inf", float("inf")):
        return "inf"
    return node.number()


def _ttft(run: Node) -> list[Figure]:
    samples = run["ttfts"].numbers()
    # Requests that failed are kept as zeros.
    good = tuple(sample for sample in samples if sample > 0)
    return sampled("ttft_s", good) or latency(
        "ttft_s", run["median_ttft_ms"], run["mean_ttft_ms"], _MS
    )


def _itl(run: Node) -> list[Figure]:
    mean_gap, mean_tpot = run["mean_itl_ms"].number(), run["mean_tpot_ms"].number()
    nested = run["itls"].items()
    samples = tuple(gap for one in nested for gap in one.numbers())
    given = sampled("itl_s", samples) or latency(
        "itl_s", run["median_itl_ms"], run["mean_itl_ms"], _MS
    )
    return gaps(given, mean_gap, mean_tpot)


def _throughput(run: Node) -> Record:
    requests, elapsed = run["num_requests"].number(), run["elapsed_time"].number()
    return Record(
        workload="llm-offline",
        model=run.first("model", "model_id").text() or NO_MODEL,
        params={"requests": None if requests is None else int(requests)},
        software="vllm",
        figures=measured(
            run,
            (
                *rate("total_tok_s", run["tokens_per_second"].number()),
                *rate("requests_s", run["requests_per_second"].number()),
                Figure(metric="output_tok_s", reason=_TOGETHER),
            ),
        ),
        stated={"elapsed_s": elapsed, "tokens": run["total_num_tokens"].number()},
    )


def _latency(run: Node) -> Record:
    samples = run["latencies"].numbers()
    middle = run["percentiles"]["50"]
    figures = sampled("e2e_s", samples) or latency("e2e_s", middle, run["avg_latency"])
    return Record(
        workload="llm-static",
        model=run.first("model", "model_id").text() or NO_MODEL,
        software="vllm",
        figures=measured(run, figures),
        stated={"note": "time of one batch from call to last token; lengths are not in the file"},
    )
