"""InferenceX (InferenceMAX) JSON: raw results in seconds, and its aggregated ``agg_*.json``.

Aggregated rates are **per GPU**: over all GPUs, or, where prefill and decode run apart
(``disagg``), input over the prefill GPUs and output over the decode GPUs. They are multiplied back
to totals. Times are in seconds; ``intvty`` is 1 ÷ tpot and carries nothing new. (SemiAnalysisAI/
InferenceX, utils/process_result.py, read 2026-11-22.)
"""

from __future__ import annotations

from pathlib import Path

from tpubench.errors import UsageError
from tpubench.results.importers import vllm_bench
from tpubench.results.importers._document import Node, read_json
from tpubench.results.importers._names import device_in, precision_in, read_name
from tpubench.results.importers._record import NO_MODEL, Figure, Imported, Record
from tpubench.results.importers._serving import (
    every,
    gaps,
    latency,
    measured,
    rate,
    tokens_a_request,
)

FORMAT = "inferencex"
TITLE = "InferenceX (InferenceMAX) results, raw or aggregated (JSON)"

_BOARDS = {"h100": "h100-sxm", "a100": "a100-sxm-80gb"}
"""What InferenceX runs under the bare name of a chip (its app's gpu-specs.ts, read 2026-11-28)."""


def reads(path: Path) -> bool:
    try:
        root = read_json(path)
        first = root.value[0] if isinstance(root.value, list) and root.value else root.value
    except UsageError:
        return False
    return isinstance(first, dict) and (_is_aggregated(first) or _is_seconds(first))


def read(path: Path) -> Imported:
    """Every result of one file: an object, or a list of them."""
    return every(read_json(path), _record)


def _is_aggregated(run: dict[str, object]) -> bool:
    return "hw" in run and "tput_per_gpu" in run


def _is_seconds(run: dict[str, object]) -> bool:
    return "output_throughput" in run and bool({"median_ttft", "mean_ttft"} & run.keys())


def _record(run: Node) -> Record:
    if not isinstance(run.value, dict):
        raise run.error("is not a result of InferenceX")
    if _is_aggregated(run.value):
        return _aggregated(run)
    if _is_seconds(run.value):
        return _seconds(run)
    if "output_throughput" in run.value and "total_output_tokens" in run.value:
        return vllm_bench.serve(run)
    raise run.error("is not a result of InferenceX: it has neither tput_per_gpu nor median_ttft")


def _aggregated(run: Node) -> Record:
    disagg = run["disagg"].value in (True, "true")
    prefill, decode = run["num_prefill_gpu"].count(), run["num_decode_gpu"].count()
    if disagg:
        if not prefill or not decode:
            raise run.error("runs prefill and decode apart but does not say on how many GPUs each")
        chips = prefill + decode
        per_input, per_output = prefill, decode
    else:
        chips = per_input = per_output = _gpus(run)
    output, total = run["output_tput_per_gpu"].number(), run["tput_per_gpu"].number()
    inputs = run["input_tput_per_gpu"].number()
    if inputs is None and total is not None and output is not None and not disagg:
        inputs = max(0.0, total - output)
    return Record(
        workload="llm-serving",
        model=run["model"].text() or NO_MODEL,
        params={
            "input_len": run["isl"].count(),
            "output_len": run["osl"].count(),
            "concurrency": run["conc"].count(),
            "request_rate": "inf",
            "speculative": run["spec_decoding"].text() or run["mtp"].text(),
            "disaggregated": disagg or None,
        },
        device=_board(run["hw"].text()),
        chips=chips,
        parallelism=_parallelism(run, disagg=disagg),
        dtype=run["precision"].text(),
        software=" ".join(t for t in (run["framework"].text(), run["image"].text()) if t) or None,
        figures=measured(
            run,
            (
                *rate("output_tok_s", None if output is None else output * per_output),
                *rate("input_tok_s", None if inputs is None else inputs * per_input),
                *rate("total_tok_s", None if total is None else total * chips),
                *_latencies(run),
            ),
        ),
        stated=_tails(run),
    )


def _gpus(run: Node) -> int:
    for key in ("num_gpus", "tp"):
        gpus = run[key].count()
        if gpus:
            return gpus
    raise run.error("gives rates per GPU but not how many GPUs there were (tp)")


def _parallelism(run: Node, *, disagg: bool) -> str:
    if disagg:
        return ", ".join(
            f"{part} tp={run[f'{part}_tp'].count()} ep={run[f'{part}_ep'].count()}"
            for part in ("prefill", "decode")
        )
    attention = " dp-attention" if run["dp_attention"].value in (True, "true") else ""
    return f"tp={run['tp'].count()} ep={run['ep'].count() or 1}{attention}"


def _seconds(run: Node) -> Record:
    """A raw result whose times are already in seconds; the file's name says the rest."""
    requests, output = run["completed"].number(), run["total_output_tokens"].number()
    if requests == 0:
        raise run.error("has no completed request: no request succeeded")
    model, named = run["model_id"].text(), read_name(run.path.name)
    total = run["total_token_throughput"].number()
    inputs, outputs = run["input_throughput"].number(), run["output_throughput"].number()
    if total is None and inputs is not None and outputs is not None:
        total = inputs + outputs
    return Record(
        workload="llm-serving",
        model=model or NO_MODEL,
        params={
            "input_len": tokens_a_request(run["total_input_tokens"].number(), requests),
            "output_len": tokens_a_request(output, requests),
            "concurrency": run["max_concurrency"].count(),
            "request_rate": "inf"
            if run["request_rate"].value == "inf"
            else run["request_rate"].number(),
            "requests": run["num_prompts"].count(),
        },
        device=_board(named.device),
        chips=named.chips,
        parallelism=named.parallelism,
        dtype=named.dtype or precision_in(model or ""),
        software=run.first("backend", "framework").text(),
        started_at=run["date"].time(),
        figures=measured(
            run,
            (
                *rate("output_tok_s", outputs),
                *rate("input_tok_s", inputs),
                *rate("total_tok_s", total),
                *rate("requests_s", run["request_throughput"].number()),
                *rate("goodput_req_s", run["request_goodput"].number()),
                *_latencies(run),
            ),
        ),
        stated={**_tails(run), "from_file_name": named.said()},
    )


def _board(hardware: str | None) -> str | None:
    """A runner's kind as a device: the chip before its engine (``b200-trt``, ``h200-nv``)."""
    if hardware is None:
        return None
    chip = device_in(hardware) or hardware
    return _BOARDS.get(chip.lower(), chip)


def _latencies(run: Node) -> list[Figure]:
    given = latency("itl_s", run["median_itl"], run["mean_itl"])
    return [
        *latency("ttft_s", run["median_ttft"], run["mean_ttft"]),
        *latency("tpot_s", run["median_tpot"], run["mean_tpot"]),
        *gaps(given, run["mean_itl"].number(), run["mean_tpot"].number()),
        *latency("e2e_s", run["median_e2el"], run["mean_e2el"]),
    ]


def _tails(run: Node) -> dict[str, float | None]:
    pairs = {"ttft_p99_s": "p99_ttft", "tpot_p99_s": "p99_tpot", "e2e_p99_s": "p99_e2el"}
    return {name: run[key].number() for name, key in pairs.items()}
