"""A training row of a published table as a problem."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from tpubench.devices.precisions import mentioned
from tpubench.devices.sheets import NVIDIA
from tpubench.estimates.problem import Images, Problem, Training, fields
from tpubench.estimates.published.cells import SkipError, size
from tpubench.estimates.published.common import common
from tpubench.estimates.roofline import samples


def problem(row: Mapping[str, str]) -> Problem:
    """The problem of a training row; SkipError when it cannot be one."""
    metric = row["metric"].strip().lower()
    known = {
        "train_tok_s_per_chip", "train_tok_s", "flop_s_per_chip", "mfu", "hfu",
        "step_time_s", "time_to_train_s", "samples_s", "samples_s_per_chip",
    }  # fmt: skip
    if metric not in known:
        raise SkipError(f"metric {metric[:40]!r} is not modelled")
    shared = common(row)
    notes, layout = row.get("notes", ""), row["parallelism"]
    work = samples.find(row["model"])
    if work is None and shared.shape is None:
        raise SkipError("the model's size is not known")
    precision = mentioned(row["dtype"])
    guess = _training_precision(shared)
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
        global_batch = each * shared.chips / seq_len
    low = row["model"].lower() + " " + layout.lower()
    tuning = "lora" if "lora" in low else "full"
    if metric in {"step_time_s", "time_to_train_s"}:
        if not shared.chips:
            raise SkipError("number of chips is not stated")
        if global_batch is None:
            raise SkipError("a step's batch is not stated")
    if metric == "time_to_train_s" and not row["model"].startswith("mlperf:"):
        raise SkipError("time to train without a benchmark's target")
    sizes = {key: _layout_size(layout, key) for key in ("tp", "pp", "cp", "vp", "ep")}
    tensor = sizes["tp"] or _layout_size(layout, "ici_tensor_parallelism") or 1
    mbs = re.search(r"(?:mbs|microbatch|local batch)[ =](\d+)", layout.lower())
    remat = None
    if re.search(r"act_ckpt=true|full ac|activation ckpt|remat=full", (layout + notes).lower()):
        remat = True
    elif re.search(r"act_ckpt=false|remat=minimal", (layout + notes).lower()):
        remat = False
    stated = replace(
        shared,
        kind="training" if work is None else "samples",
        chips=shared.chips or 8,
        precision=precision or guess,
        precision_stated=precision is not None,
        notes=_flags(layout),
    )
    if work is not None:
        return Images(**fields(stated), work=work, training=True, global_batch=global_batch)
    return Training(
        **fields(stated),
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
        attention=_attention_convention(row, shared),
        layout_stated=bool(re.search(r"fsdp|\btp\s?=|\bpp\s?=|tensor|dp\s?=", layout.lower())),
        sharded="fsdp" in layout.lower() and "fsdp=0" not in layout.lower(),
    )


def _flags(layout: str) -> frozenset[str]:
    words = ("unpacked", "async tp", "vanilla tp", "rowwise", "qlora", "sft", "grad_op")
    return frozenset(w for w in words if w in layout.lower())


def _training_precision(shared: Problem) -> str:
    """What an unlabelled training row ran in: fp8 where the chip has it and the stack uses it."""
    chip = shared.chip
    if shared.family.startswith("mlperf") and chip.name == "tpu-v6e":
        return "int8" if shared.model == "gpt-3-175b" else "bfloat16"
    if shared.family.startswith("mlperf") and chip.name in {"tpu-v5e", "tpu-v5p"}:
        return "int8"
    nvidia = chip.vendor == NVIDIA and chip.peak_flop_s.get("fp8")
    if nvidia and shared.software in {"nemo", "megatron-bridge"}:
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
    match = re.search(r"tokens per device per step = (\d{1,9})", notes)
    return float(match[1]) if match else None


def _layout_size(layout: str, key: str) -> int | None:
    match = re.search(rf"(?<![a-z_]){key}\s?=\s?(\d{{1,5}})", layout.lower())
    return int(match[1]) if match and match[1] != "0" else None


def _slices(layout: str, notes: str) -> int:
    match = re.search(r"slices=(\d{1,3})", layout) or re.search(r"\b(\d{1,3})x-?v\d", notes)
    match = match or re.search(r"(\d{1,3}) (?:pods|slices)", layout + " " + notes)
    return max(1, int(match[1])) if match else 1


def _attention_convention(row: Mapping[str, str], shared: Problem) -> str:
    """Whether the source's FLOPs count all query-key pairs or only the causal half."""
    notes = row.get("notes", "").lower()
    if re.search(r"attention (?:flops )?counted full|predates maxtext causal", notes):
        return "full"
    if "causal" in notes:
        return "causal"
    if shared.software in {"llm-foundry", "levanter", "torchtitan", "torch-xla", "nemo"}:
        return "full"
    ironwood = shared.family == "tpu-recipes-ironwood"
    if shared.software == "maxtext" and shared.date < 2025.5 and not ironwood:
        return "full"
    return "causal"
