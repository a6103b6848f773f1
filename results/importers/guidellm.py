"""guidellm's ``benchmarks.json``: one case for each strategy it ran.

Its ``time_per_output_token`` includes the first token (latency ÷ output tokens): that is no TPOT
and is not used. Its ``inter_token_latency`` is one figure a request, (last − first token) ÷
(output tokens − 1): our ``tpot_s``. Gaps between tokens are not in the file. Figures are those of
the requests that succeeded. (vllm-project/guidellm 0.8, schemas/base/request_stats.py, read
2026-11-22.)
"""

from __future__ import annotations

from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, read_json
from tpubench.results.importers._record import (
    NO_MODEL,
    Figure,
    Imported,
    Plain,
    Record,
    Rejected,
)
from tpubench.results.importers._serving import latency, rate, sampled

FORMAT = "guidellm"
TITLE = "guidellm benchmarks (JSON)"

_MS = 1e-3
NOTHING = "no request succeeded"
_NO_GAPS = "not in the file: guidellm's inter-token latency is one mean a request, which is tpot_s"


def reads(path: Path) -> bool:
    try:
        root = read_json(path)
        runs = root["benchmarks"].items() if isinstance(root.value, dict) else []
    except UsageError:
        return False
    return bool(runs) and all(
        isinstance(run.value, dict) and isinstance(run.value.get("metrics"), dict) for run in runs
    )


def read(path: Path) -> Imported:
    """Every strategy of a file; one without a successful request is left out, and named."""
    root = read_json(path)
    runs = root["benchmarks"].items()
    if not runs:
        raise root.error("has no benchmarks")
    records, rejected = [], []
    for run in runs:
        why = _nothing_succeeded(run)
        if why is not None:
            rejected.append(Rejected(where=run.where, reason=why))
            continue
        record = _record(root, run)
        if all(figure.value is None and not figure.samples for figure in record.figures):
            rejected.append(Rejected(where=run.where, reason=NOTHING))
        else:
            records.append(record)
    return Imported(records=tuple(records), rejected=tuple(rejected))


def _totals(run: Node) -> Node:
    """How many requests ended how: beside the metrics up to 0.3, among them since."""
    for place in (run["metrics"]["request_totals"], run["request_totals"]):
        if isinstance(place.value, dict):
            return place
    return run["metrics"]["request_totals"]


def _nothing_succeeded(run: Node) -> str | None:
    """Why a strategy has nothing to say: all its requests failed, or were still under way."""
    totals = _totals(run)
    succeeded = totals["successful"].count()
    if succeeded is None:
        succeeded = _good(run["metrics"]["request_latency"])["count"].count()
    if succeeded != 0:
        return None
    ends = {name: totals[name].count() for name in ("errored", "incomplete")}
    counts = ", ".join(f"{count} {name}" for name, count in ends.items() if count)
    return f"{NOTHING} ({counts})" if counts else NOTHING


def _record(root: Node, run: Node) -> Record:
    metrics = run["metrics"]
    output = _mean(metrics["output_tokens_per_second"])
    total = _mean(metrics["tokens_per_second"])
    strategy = _strategy(run)
    return Record(
        workload="llm-serving",
        model=_model(root, run) or NO_MODEL,
        params={
            "input_len": _mean(metrics["prompt_token_count"]),
            "output_len": _mean(metrics["output_token_count"]),
            **strategy,
        },
        software=_version(root),
        started_at=run["start_time"].time(),
        figures=(
            *rate("output_tok_s", output),
            *rate("input_tok_s", _mean(metrics["prompt_tokens_per_second"])),
            *rate("total_tok_s", total),
            *rate("requests_s", _mean(metrics["requests_per_second"])),
            *rate("goodput_req_s", _mean(metrics["request_goodput"])),
            *_time("ttft_s", run, "time_to_first_token_ms"),
            *_time("tpot_s", run, "inter_token_latency_ms"),
            *_time("e2e_s", run, "request_latency", 1.0),
            Figure(metric="itl_s", reason=_NO_GAPS),
        ),
        stated={
            "concurrency_mean": _mean(metrics["request_concurrency"]),
            "ttft_p99_s": _good(metrics["time_to_first_token_ms"])["percentiles"]["p99"].number(
                _MS
            ),
            "tpot_p99_s": _good(metrics["inter_token_latency_ms"])["percentiles"]["p99"].number(
                _MS
            ),
        },
    )


def _good(metric: Node) -> Node:
    """The distribution over requests that succeeded; over all where the file keeps one alone.

    A file that tells them apart and has none that succeeded says so with null: there, those that
    failed are no measurement.
    """
    if not isinstance(metric.value, dict):
        return metric
    return metric["successful" if "successful" in metric.value else "total"]


def _mean(metric: Node) -> float | None:
    return None if metric.value is None else _good(metric)["mean"].number()


def _time(name: str, run: Node, key: str, scale: float = _MS) -> list[Figure]:
    metrics = run["metrics"]
    if metrics[key].value is None:
        return []
    good = _good(metrics[key])
    samples = _samples(run, key, scale)
    middle = good.first("median") if good["median"].value is not None else good["percentiles"]
    middle = middle["p50"] if isinstance(middle.value, dict) else middle
    return sampled(name, samples) or latency(name, middle, good["mean"], scale)


def _samples(run: Node, key: str, scale: float) -> tuple[float, ...]:
    """Each request's own figure, if the file kept every request that succeeded."""
    requests = run["requests"]
    if not isinstance(requests.value, dict):
        return ()
    good = requests["successful"].items()
    succeeded = _totals(run)["successful"].count()
    if not good or succeeded is None or len(good) != succeeded:
        return ()
    samples = [request[key].number(scale) for request in good]
    return tuple(x for x in samples if x is not None) if None not in samples else ()


def _strategy(run: Node) -> dict[str, Plain]:
    """How the load was made: so many streams at once, or so many requests a second."""
    for place in (run["config"], run["args"]):
        strategy = place["strategy"] if isinstance(place.value, dict) else place
        if isinstance(strategy.value, dict):
            return {
                "strategy": strategy.first("kind", "type_").text(),
                "concurrency": strategy.first("streams", "max_concurrency").number(),
                "request_rate": strategy["rate"].number(),
            }
    return {}


def _model(root: Node, run: Node) -> str | None:
    """The model, wherever this version keeps it."""
    for place in (
        run["config"]["backend"] if isinstance(run["config"].value, dict) else run["config"],
        run["worker"],
        root["args"],
        root["config"]["spec"]["backend"] if isinstance(root["config"].value, dict) else root["x"],
    ):
        if isinstance(place.value, dict):
            for key in ("model", "backend_model", "processor"):
                if isinstance(place.value.get(key), str) and place.value[key]:
                    return place[key].text()
    return None


def _version(root: Node) -> str | None:
    version = root["metadata"]["guidellm_version"].text()
    return f"guidellm {version}" if version else None
