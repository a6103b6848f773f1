"""inference-perf's ``*_lifecycle_metrics.json`` (a stage, or the summary of all).

Times are in seconds. Early versions count two stream events for a token, so that their
``time_per_output_token`` and ``inter_token_latency`` are about half of what they should be. The
file's own mean latency, mean time to first token and mean output length tell: where they disagree
with its time per output token, ours is computed from them, and the gaps are left out.
(kubernetes-sigs/inference-perf, reportgen/base.py, read 2026-11-22.)
"""

from __future__ import annotations

import re
from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node, read_json
from tpubench.results.importers._record import NO_MODEL, Figure, Imported, Record
from tpubench.results.importers._serving import AGREEMENT, latency, measured, rate

FORMAT = "inference-perf"
TITLE = "inference-perf lifecycle metrics (JSON)"

_FROM_MEANS = (
    "(mean latency − mean ttft) ÷ (mean output tokens − 1): the file's own figure counts stream"
    " events, not tokens"
)
_NOT_TOKENS = "left out: the file's gaps are between stream events, not tokens"


def reads(path: Path) -> bool:
    try:
        root = read_json(path)
    except UsageError:
        return False
    return isinstance(root.value, dict) and {"load_summary", "successes"} <= root.value.keys()


def read(path: Path) -> Imported:
    """The one case of a file. UsageError when no request succeeded."""
    root = read_json(path)
    if not isinstance(root.value, dict) or "successes" not in root.value:
        raise root.error("has no successes: it is not a lifecycle report of inference-perf")
    good, load = root["successes"], root["load_summary"]
    if not good["count"].count():
        raise good["count"].error("is zero: no request succeeded")
    rates, times = good["throughput"], good["latency"]
    if rates.value is None and times.value is None:
        raise good.error("has no latency and no throughput: import the stage's lifecycle report")
    return Imported(
        records=(
            Record(
                workload="llm-serving",
                model=NO_MODEL,
                params={
                    "input_len": _length(good["prompt_len"]),
                    "output_len": _length(good["output_len"]),
                    "request_rate": load["requested_rate"].number(),
                    "concurrency": load["concurrency"].count(),
                    "requests": load["count"].count(),
                    "stage": _stage(path),
                },
                figures=measured(
                    good,
                    (
                        *rate("output_tok_s", rates["output_tokens_per_sec"].number()),
                        *rate("input_tok_s", rates["input_tokens_per_sec"].number()),
                        *rate("total_tok_s", rates["total_tokens_per_sec"].number()),
                        *rate("requests_s", rates["requests_per_sec"].number()),
                        *rate("goodput_req_s", good["goodput"]["request_goodput"].number()),
                        *_time("ttft_s", times["time_to_first_token"]),
                        *_paces(good, times),
                        *_time("e2e_s", times["request_latency"]),
                    ),
                ),
                stated={
                    "failed": root["failures"]["count"].number(),
                    "ttft_p99_s": times["time_to_first_token"]["p99"].number(),
                    "e2e_p99_s": times["request_latency"]["p99"].number(),
                    "achieved_rate": load["achieved_rate"].number(),
                },
            ),
        )
    )


def _stage(path: Path) -> int | None:
    match = re.match(r"stage_(\d{1,6})_", path.name)
    return int(match[1]) if match else None


def _length(summary: Node) -> float | None:
    mean = summary["mean"].number()
    return None if mean is None else round(mean, 1)


def _time(metric: str, summary: Node) -> list[Figure]:
    return latency(metric, summary.first("median", "p50"), summary["mean"])


def _paces(good: Node, times: Node) -> list[Figure]:
    """Time per output token and gaps, as far as the file's own means bear them out."""
    stated = times["time_per_output_token"]
    own, whole = stated["mean"].number(), times["request_latency"]["mean"].number()
    first, tokens = (
        times["time_to_first_token"]["mean"].number(),
        good["output_len"]["mean"].number(),
    )
    if own is None:
        return []
    if whole is not None and first is not None and tokens and tokens > 1 and whole > first:
        means = (whole - first) / (tokens - 1)
        if abs(own / means - 1) > AGREEMENT:
            return [
                Figure(metric="tpot_s", value=means, reason=_FROM_MEANS),
                Figure(metric="itl_s", reason=_NOT_TOKENS),
            ]
    return [*_time("tpot_s", stated), *_time("itl_s", times["inter_token_latency"])]
