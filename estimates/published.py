"""A row of a published table as a problem that the model can solve, or the reason why not.

Two layouts, those of ``inference.csv`` and ``training.csv``: one figure a line with its source,
device, software, model, precision, lengths and batch. Cells come from many hands: ``27K``,
``KV-limited max``, ``QPS=8``, ``8 devices, ep 8``, ``8192 (default)``.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tpubench.estimates import curated, samples, shapes
from tpubench.estimates.chips import Chip, resolve
from tpubench.estimates.datasets import BEAMS, Lengths, dataset
from tpubench.estimates.shapes import Shape
from tpubench.results.errors import UsageError

TRAINING_COLUMNS = ("source_id", "device", "chips", "software", "model", "params_b", "seq_len",
                    "global_batch", "dtype", "parallelism", "metric", "value", "unit")  # fmt: skip
INFERENCE_COLUMNS = ("source_id", "device", "chips", "software", "model", "params_b",
                     "weight_dtype", "tensor_parallel", "scenario", "batch_or_concurrency",
                     "input_len", "output_len", "metric", "value", "unit")  # fmt: skip
MOST_ROWS = 100_000
MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One figure to predict, and all that was said about how it was obtained."""

    kind: str
    """training, offline, static, decode, prefill, concurrency, server, queries or samples."""
    metric: str
    chip: Chip
    chips: int
    software: str
    """Family of the software: trtllm, vllm, maxtext, megatron …"""
    source: str
    family: str
    """Source without its version: what two tables of one author share."""
    date: float
    """Year of the source, with fraction; 2025.0 where not stated."""
    model: str
    shape: Shape | None = None
    work: samples.Work | None = None
    precision: str = "bfloat16"
    precision_stated: bool = True
    kv_precision: str = "bfloat16"
    weight_only: bool = False
    """Narrow weights, arithmetic in bfloat16."""
    tensor: int = 1
    expert: int = 1
    pipeline: int = 1
    context: int = 1
    virtual: int = 1
    microbatch: float | None = None
    slices: int = 1
    remat: bool | None = None
    """Whether activations are recomputed; None where not stated."""
    offload: bool = False
    tuning: str = "full"
    """full, lora, or packed-less: what is trained."""
    batch: float | None = None
    """Sequences at once (static batch, concurrency); None: as many as the cache holds."""
    qps: float | None = None
    input_len: float | None = None
    output_len: float | None = None
    beams: float = 1.0
    """Tokens decoded for each token of the output (beam search)."""
    lengths: str = "fixed"
    """fixed, or variable: means of a data set."""
    seq_len: float | None = None
    global_batch: float | None = None
    attention: str = "causal"
    """How the source counts attention in its FLOPs: causal or full."""
    layout_stated: bool = True
    """Whether the source says how a training job was spread; if not, well."""
    sharded: bool = True
    """Weights sharded over the data-parallel chips and gathered for each micro-batch."""
    scenario: str = ""
    modality: str = "text"
    notes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the file: a problem and its measured value, or why it cannot be used."""

    line: int
    source: str
    device: str
    value: float | None = None
    problem: Problem | None = None
    skipped: str | None = None


def read(path: Path) -> list[Entry]:
    """Every line of a published table; UsageError for a file that is not one."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path}: larger than {MOST_BYTES // 2**20} MiB; not a table of rows")
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be read ({reason})") from None
    if "\0" in text:
        raise UsageError(f"{path}: holds NUL characters; not a CSV table")
    try:
        records = list(csv.reader(text.splitlines(), strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: not a CSV table ({error})") from None
    if not records:
        raise UsageError(f"{path}: empty; the first line must name the columns")
    header = [name.strip() for name in records[0]]
    columns = _layout(path, header)
    if len(records) - 1 > MOST_ROWS:
        raise UsageError(f"{path}: {len(records) - 1} rows; at most {MOST_ROWS}")
    found = []
    for line, record in enumerate(records[1:], start=2):
        if not any(cell.strip() for cell in record):
            continue
        if len(record) != len(header):
            why = f"{len(record)} cells under {len(header)} columns"
            found.append(Entry(line=line, source="", device="", skipped=why))
            continue
        row = {k: v.strip() for k, v in zip(header, record, strict=True)}
        training = columns is TRAINING_COLUMNS
        if columns is curated.COLUMNS:
            row, training = curated.translate(row)
        found.append(entry(line, row, training=training))
    return found


def _layout(path: Path, header: Sequence[str]) -> tuple[str, ...]:
    if len(set(header)) != len(header):
        raise UsageError(f"{path}: a column is named twice")
    for columns in (TRAINING_COLUMNS, INFERENCE_COLUMNS, curated.COLUMNS):
        if set(columns) <= set(header):
            return columns
    missing = min(
        (sorted(set(c) - set(header)) for c in (TRAINING_COLUMNS, INFERENCE_COLUMNS)), key=len
    )
    raise UsageError(f"{path}: not a published table, columns missing: {', '.join(missing)}")


def entry(line: int, row: Mapping[str, str], *, training: bool) -> Entry:
    """One line, parsed as far as it goes."""
    source, device = row["source_id"] or "unnamed", row["device"]
    value = number(row["value"])
    common = {"line": line, "source": source[:80], "device": device[:80]}
    if value is None or value <= 0:
        return Entry(**common, skipped="value is not a positive number")  # type: ignore[arg-type]
    try:
        problem = _training(row) if training else _inference(row)
    except _SkipError as reason:
        return Entry(**common, value=value, skipped=str(reason))  # type: ignore[arg-type]
    common["device"] = problem.chip.name
    return Entry(**common, value=value, problem=problem)  # type: ignore[arg-type]


class _SkipError(Exception):
    """Why a row cannot be predicted."""


def number(text: str) -> float | None:
    """The first number of a cell; ``27K`` is 27,000. None when there is none or it is huge."""
    match = re.search(r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d{1,3})?", text[:200])
    if match is None:
        return None
    try:
        value = float(match[0].replace(",", ""))
    except ValueError:
        return None
    if re.match(r"\s?[kK](?![a-zA-Z])", text[match.end() :]):
        value *= 1000
    return value if math.isfinite(value) and abs(value) < 1e18 else None


def size(text: str) -> float | None:
    """A length, a batch or a rate: the number of a cell where it can be one; None otherwise."""
    value = number(text)
    return value if value is not None and 1e-3 <= value <= 1e12 else None


def year(text: str) -> float:
    """Year with fraction of a date such as ``2025-02 (data v0.14)`` or ``26.04.01``."""
    match = re.search(r"(20\d\d)-(\d\d)", text) or re.search(r"(?<!\d)(2\d)\.(\d\d)(?!\d)", text)
    if match:
        whole = int(match[1]) if len(match[1]) == 4 else 2000 + int(match[1])
        return whole + (min(max(int(match[2]), 1), 12) - 0.5) / 12
    match = re.search(r"20\d\d", text)
    return float(match[0]) + 0.5 if match else 2025.0


_SOFTWARE = (
    ("gptsession", "gptsession"),
    ("triton", "trtllm-server"),
    (r"tensorrt-?llm.*pytorch", "trtllm-pytorch"),
    (r"tensorrt-?llm|trt-?llm", "trtllm"),
    ("sglang-?jax", "sglang-jax"),
    ("sglang", "sglang"),
    ("vllm.*tpu|tpu.*vllm", "vllm-tpu"),
    ("vllm", "vllm"),
    ("jetstream", "jetstream"),
    ("gpt-fast", "gpt-fast"),
    ("tensorrt", "tensorrt"),
    ("maxtext", "maxtext"),
    ("maxdiffusion", "maxdiffusion"),
    ("pax", "maxtext"),
    ("megatron-?bridge", "megatron-bridge"),
    ("nemo|megatron", "nemo"),
    ("torchtitan", "torchtitan"),
    ("torchtune", "torchtune"),
    ("llm-foundry|composer|mosaic", "llm-foundry"),
    ("levanter", "levanter"),
    ("torchax|torch_xla|pytorch/?xla|torch-xla", "torch-xla"),
    ("deepspeed", "deepspeed"),
    ("saxml|sax", "saxml"),
    ("flax|jax", "jax"),
    ("pytorch|torch", "pytorch"),
)


def software_family(text: str) -> str:
    """The family that a software string belongs to; ``other`` for one never seen."""
    low = text.lower()[:300]
    for pattern, name in _SOFTWARE:
        if re.search(pattern, low):
            return name
    return "other"


def source_family(source: str) -> str:
    """A source's name without its version: mlperf_inf_v5.1 and v4.1 are one family."""
    return re.sub(r"[-_.]?v?\d+([._]\d+)*", "", source.lower()).strip("-_. ") or source.lower()


_PRECISION = (
    (r"fp4|nvfp4|mxfp4", "fp4"),
    (r"fp8|mxfp8|e4m3", "fp8"),
    (r"int4|w4a16|awq|gptq", "int4"),
    (r"int8|w8a8|w8a16|aqt", "int8"),
    (r"fp16|float16|half", "float16"),
    (r"bf16|bfloat16|amp", "bfloat16"),
    (r"fp32|float32|tf32", "float32"),
)


def precision(text: str) -> str | None:
    """The narrowest precision named in a cell; None when none is."""
    low = text.lower()[:200]
    for pattern, name in _PRECISION:
        if re.search(pattern, low):
            return name
    return None


def _whole(text: str, default: int = 1) -> int:
    value = number(text)
    return int(value) if value is not None and 1 <= value <= 1e6 else default


def _common(row: Mapping[str, str]) -> dict[str, object]:
    chip = resolve(row["device"])
    if chip is None:
        raise _SkipError("no data sheet for the device")
    chips = number(row["chips"])
    if chips is not None and not 1 <= chips <= 1e6:
        raise _SkipError("number of chips out of range")
    params = size(row["params_b"])
    text = row["model"]
    shape = shapes.find(text, params * 1e9 if params else None)
    active = re.search(r"active params B=(\d+(?:\.\d+)?)", row.get("notes", ""))
    if active and params and not (shape and shape.known):
        shape = shapes.derived(text, params * 1e9, float(active[1]) * 1e9)
    return {
        "chip": chip,
        "chips": int(chips) if chips else 0,
        "software": software_family(row["software"]),
        "source": row["source_id"] or "unnamed",
        "family": source_family(row["source_id"] or "unnamed"),
        "date": year(row.get("source_date", "")),
        "model": shape.name if shape and shape.known else shapes.words(text) or text,
        "shape": shape,
        "work": samples.find(text),
    }


def _training(row: Mapping[str, str]) -> Problem:
    metric = row["metric"].strip().lower()
    known = {
        "tokens_per_s_per_chip", "tokens_per_s", "tflops_per_chip", "mfu_pct", "hfu_pct",
        "step_time_s", "time_to_train_min", "samples_per_s", "samples_per_s_per_chip",
    }  # fmt: skip
    if metric not in known:
        raise _SkipError(f"metric {metric[:40]!r} is not modelled")
    common = _common(row)
    notes, layout = row.get("notes", ""), row["parallelism"]
    work = common["work"]
    if work is None and common["shape"] is None:
        raise _SkipError("the model's size is not known")
    found = precision(row["dtype"])
    guess = _training_precision(common)
    seq_len, global_batch = size(row["seq_len"]), size(row["global_batch"])
    seq_cells = re.findall(r"\d+", row["seq_len"])
    if len(seq_cells) > 1 and "or" in row["seq_len"]:
        seq_len = float(seq_cells[-1])
        global_batch = None
    if work is not None:
        seq_len = None
    elif seq_len is None:
        seq_len = _default_seq_len(row)
    if global_batch is None and seq_len and (each := _tokens_per_device(notes)):
        global_batch = each * common["chips"] / seq_len  # type: ignore[operator]
    low = row["model"].lower() + " " + layout.lower()
    tuning = "lora" if "lora" in low else "full"
    if metric in {"step_time_s", "time_to_train_min"}:
        if not common["chips"]:
            raise _SkipError("number of chips is not stated")
        if global_batch is None:
            raise _SkipError("a step's batch is not stated")
    if metric == "time_to_train_min" and not row["model"].startswith("mlperf:"):
        raise _SkipError("time to train without a benchmark's target")
    sizes = {key: _layout_size(layout, key) for key in ("tp", "pp", "cp", "vp", "ep")}
    tensor = sizes["tp"] or _layout_size(layout, "ici_tensor_parallelism") or 1
    mbs = re.search(r"(?:mbs|microbatch|local batch)[ =](\d+)", layout.lower())
    remat = None
    if re.search(r"act_ckpt=true|full ac|activation ckpt|remat=full", (layout + notes).lower()):
        remat = True
    elif re.search(r"act_ckpt=false|remat=minimal", (layout + notes).lower()):
        remat = False
    return Problem(
        kind="training" if work is None else "samples",
        metric=metric,
        precision=found or guess,
        precision_stated=found is not None,
        tensor=tensor,
        pipeline=sizes["pp"] or 1,
        context=sizes["cp"] or 1,
        virtual=sizes["vp"] or 1,
        expert=sizes["ep"] or 1,
        microbatch=float(mbs[1]) if mbs and mbs[1] != "0" else None,
        slices=_slices(layout, notes),
        remat=remat,
        offload="offload" in (layout + notes).lower() and "cpu_offload=false" not in layout.lower(),
        tuning=tuning,
        seq_len=seq_len,
        global_batch=global_batch,
        attention=_attention_convention(row, common),
        notes=_flags(layout),
        layout_stated=bool(re.search(r"fsdp|\btp\s?=|\bpp\s?=|tensor|dp\s?=", layout.lower())),
        sharded="fsdp" in layout.lower() and "fsdp=0" not in layout.lower(),
        modality="text" if work is None else "training-samples",
        **{**common, "chips": common["chips"] or 8},  # type: ignore[arg-type]
    )


def _flags(layout: str) -> frozenset[str]:
    words = ("unpacked", "async tp", "vanilla tp", "rowwise", "qlora", "sft", "grad_op")
    return frozenset(w for w in words if w in layout.lower())


def _training_precision(common: Mapping[str, object]) -> str:
    """What an unlabelled training row ran in: fp8 where the chip has it and the stack uses it."""
    chip = common["chip"]
    assert isinstance(chip, Chip)
    if str(common["family"]).startswith("mlperf") and chip.name == "tpu-v6e":
        return "int8" if common["model"] == "gpt-3-175b" else "bfloat16"
    if str(common["family"]).startswith("mlperf") and chip.name in {"tpu-v5e", "tpu-v5p"}:
        return "int8"
    nvidia = chip.vendor == "NVIDIA" and chip.peak_flop_s.get("fp8")
    if nvidia and common["software"] in {"nemo", "megatron-bridge"}:
        return "fp8"
    return "bfloat16"


def _default_seq_len(row: Mapping[str, str]) -> float:
    """Sequence length of a row that does not state one: that of the benchmark or model family."""
    model = row["model"].lower()
    if "llama2_70b_lora" in model:
        return 8192.0  # MLPerf training rules: GovReport packed to 8192 tokens
    if "gpt-2" in model or "gpt2" in model:
        return 1024.0
    if "llama3" in model or "llama-3" in model:
        return 8192.0
    return 4096.0


def _tokens_per_device(notes: str) -> float | None:
    found = re.search(r"tokens per device per step = (\d{1,9})", notes)
    return float(found[1]) if found else None


def _layout_size(layout: str, key: str) -> int | None:
    match = re.search(rf"(?<![a-z_]){key}\s?=\s?(\d{{1,5}})", layout.lower())
    return int(match[1]) if match and match[1] != "0" else None


def _slices(layout: str, notes: str) -> int:
    found = re.search(r"slices=(\d{1,3})", layout) or re.search(r"\b(\d{1,3})x-?v\d", notes)
    found = found or re.search(r"(\d{1,3}) (?:pods|slices)", layout + " " + notes)
    return max(1, int(found[1])) if found else 1


def _attention_convention(row: Mapping[str, str], common: Mapping[str, object]) -> str:
    """Whether the source's FLOPs count all query-key pairs or only the causal half."""
    notes = row.get("notes", "").lower()
    if re.search(r"attention (?:flops )?counted full|predates maxtext causal", notes):
        return "full"
    if "causal" in notes:
        return "causal"
    software, date = common["software"], common["date"]
    assert isinstance(date, float)
    if software in {"llm-foundry", "levanter", "torchtitan", "torch-xla", "nemo"}:
        return "full"
    if software == "maxtext" and date < 2025.5 and common["family"] != "tpu-recipes-ironwood":
        return "full"
    return "causal"


def _inference(row: Mapping[str, str]) -> Problem:
    metric = row["metric"].strip().lower()
    common = _common(row)
    scenario = row["scenario"].lower()
    work, shape = common["work"], common["shape"]
    if "prefix cached" in scenario:
        raise _SkipError("cached prefixes: the work done is not stated")
    chips = common["chips"] or _whole(row["tensor_parallel"], 0)
    if not chips:
        raise _SkipError("number of chips is not stated")
    common["chips"] = chips
    weights, kv = precision(row["weight_dtype"]), precision(row.get("kv_dtype", ""))
    guess = _serving_precision(common, row)
    chip = common["chip"]
    assert isinstance(chip, Chip) and isinstance(chips, int)
    stated = weights is not None
    weights = weights or guess
    shared = {
        "metric": metric,
        "precision": weights,
        "precision_stated": stated,
        "kv_precision": kv or _cache_precision(weights, chip, str(common["software"])),
        "weight_only": "weight-only" in row["weight_dtype"].lower() or weights == "int4",
        "scenario": _scenario(scenario),
        **common,
    }
    if isinstance(work, samples.Work):
        return _samples(row, metric, shared, work)
    if shape is None:
        raise _SkipError("the model's size is not known")
    if metric not in {
        "output_tokens_per_s", "output_tokens_per_s_per_chip", "peak_output_tokens_per_s",
        "ttft_ms", "itl_ms", "tpot_ms", "samples_per_s", "achieved_mem_bw_gbps_per_chip",
        "prefill_tokens_per_s", "total_tokens_per_s", "total_tokens_per_s_per_chip",
        "mean_latency_ms", "requests_per_s", "e2e_latency_ms",
    }:  # fmt: skip
        raise _SkipError(f"metric {metric[:40]!r} is not modelled")
    kind = _kind(scenario, row["batch_or_concurrency"], metric)
    if chips > 1 and "per system vs per gpu" in row.get("notes", "").lower():
        shared["metric"] = metric = "output_tokens_per_s_per_chip"
    tensor, expert = _tensor(row["tensor_parallel"], chips, chip, kind)
    batch_cell = row["batch_or_concurrency"]
    qps = size(batch_cell) if batch_cell.upper().startswith("QPS") else None
    if batch_cell.upper().replace(" ", "") in {"QPS=INF", "INF"}:
        qps = math.inf
    batch = None if batch_cell.upper().startswith(("QPS", "KV")) else size(batch_cell)
    ends = Lengths(size(row["input_len"]), size(row["output_len"]), "fixed")
    modality = "text"
    if "mlperf" in scenario:
        ends = dataset(str(common["model"]), str(common["source"])) or ends
        modality = "mlperf"
    elif kind == "concurrency" and ends.inputs is None and "sharegpt" in scenario:
        ends = Lengths(230.0, 250.0, "variable")  # mean lengths, jetstream's ShareGPT sampling
    if kind == "decode":
        ends = Lengths(ends.inputs or 256.0, ends.outputs or 200.0, ends.kind)
        batch = batch or 1.0
    if ends.inputs is None or (ends.outputs is None and kind != "prefill"):
        raise _SkipError("prompt or output length is not stated")
    if metric == "samples_per_s" and "token" in row["unit"].lower():
        shared["metric"] = "output_tokens_per_s"
    if metric == "mean_latency_ms" and modality == "mlperf":
        raise _SkipError("latency of a queue whose length is not stated")
    if kind in {"static", "concurrency", "prefill"} and batch is None:
        raise _SkipError("batch or concurrency is not stated")
    if kind == "server" and qps is None:
        raise _SkipError("the request rate is not stated")
    return Problem(
        kind=kind,
        tensor=tensor,
        expert=expert,
        batch=batch,
        qps=qps,
        input_len=ends.inputs,
        output_len=ends.outputs or 1.0,
        lengths=ends.kind,
        beams=BEAMS.get(str(common["model"]), 1.0) if modality == "mlperf" else 1.0,
        modality=modality,
        notes=frozenset(_burst(row.get("notes", ""))),
        **shared,  # type: ignore[arg-type]
    )


def _burst(notes: str) -> list[str]:
    return ["burst"] if re.search(r"queued prefills|output_len=1\b", notes) else []


def _samples(
    row: Mapping[str, str], metric: str, shared: Mapping[str, object], work: samples.Work
) -> Problem:
    known = {"samples_per_s", "samples_per_s_per_chip", "batch_time_s", "seconds_per_image",
             "queries_per_s"}  # fmt: skip
    if metric not in known:
        raise _SkipError(f"metric {metric[:40]!r} of {work.name} is not modelled")
    steps = size(row["output_len"]) if "step" in row["output_len"] else None
    return Problem(
        kind="samples",
        batch=size(row["batch_or_concurrency"]),
        output_len=steps,
        modality="mlperf" if "mlperf" in row["scenario"] else "image",
        notes=frozenset(re.findall(r"ctx|fsdp|ddp", row["tensor_parallel"].lower())),
        **shared,  # type: ignore[arg-type]
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
    return "decode" if metric in {"tpot_ms", "itl_ms"} and size(batch) == 1 else "concurrency"


def _scenario(text: str) -> str:
    plain = re.sub(r"\(.*?\)", " ", text)
    plain = re.sub(r"[^a-z]+", "-", plain).strip("-")
    for word in ("interactive", "server", "offline"):
        if "mlperf" in text and word in text:
            return f"mlperf-{word}"
    return "prefix-cached" if "prefix" in text else plain[:40]


def _serving_precision(common: Mapping[str, object], row: Mapping[str, str]) -> str:
    """What an unlabelled serving row ran in: the narrowest that chip and stack submit with."""
    chip = common["chip"]
    assert isinstance(chip, Chip)
    if "mlperf" in row["scenario"].lower():
        if chip.peak_flop_s.get("fp4") and common["software"] in {"tensorrt", "trtllm"}:
            return "fp4"
        if chip.is_tpu:
            return "int8" if common["shape"] is not None else "bfloat16"
        return "fp8" if chip.peak_flop_s.get("fp8") else "int8"
    name = precision(row["model"])
    return name or "bfloat16"


def _cache_precision(weights: str, chip: Chip, software: str) -> str:
    """Precision of the KV cache where not stated: TensorRT-LLM's narrow checkpoints cache fp8."""
    if weights in {"fp8", "fp4"} and chip.peak_flop_s.get("fp8") and software.startswith("t"):
        return "fp8"
    return "bfloat16"


def _tensor(text: str, chips: int, chip: Chip, kind: str) -> tuple[int, int]:
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
