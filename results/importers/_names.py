"""What a file's or a system's name says of a run: chips, how it was spread, precision, device.

Benchmark scripts put into the name what the file itself leaves out:
``gptoss_fp4_h200_tp2_conc64_isl1024_osl1024.json``, ``…_tep8_…`` (tensor and expert parallel),
``…_dep8_…`` (data-parallel attention, expert parallel), ``…_tp8-pp1-ep8-dpafalse_…_mi355x_0``,
``results_concurrency_64_gpus_24_ctx_8_gen_16.json``, ``…_ctx3_dep4_gen1_dep32_…``. (SemiAnalysisAI/
InferenceX, benchmark scripts; NVIDIA/TensorRT-LLM, performance test names; read 2026-11-28.)
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PRECISION = re.compile(
    r"(?<![a-z0-9])(?<!kv[-_.])(nvfp4|mxfp4|fp4|mxfp8|fp8|bf16|fp16|int8|int4)(?![a-z0-9])"
)
_PARALLEL = re.compile(r"(?<![a-z0-9])(tp|pp|pcp|dp|ep|tep|dep)[-_=]?(\d{1,5})(?![a-z0-9])")
_TOTALS = (
    re.compile(r"(?<![a-z0-9])gpus?[-_=]?(\d{1,5})(?![a-z0-9])"),
    re.compile(r"(?<![a-z0-9])(\d{1,5})[-_]?gpus?(?![a-z0-9])"),
)
_POOLS = re.compile(
    r"(?<![a-z0-9])ctx[-_]?(\d{1,3})[-_](?:tp|tep|dep|dp|pp)(\d{1,4})"
    r".*?[-_]gen[-_]?(\d{1,3})[-_](?:tp|tep|dep|dp|pp)(\d{1,4})(?![a-z0-9])"
)
_APART = re.compile(r"(?<![a-z0-9])(?:ctx|gen|prefill|decode|\d+p\d+d)(?![a-z])")
_DEVICE = re.compile(
    r"(?<![a-z0-9])(?:\d{1,3}x)?("
    r"(?:gb[23]00|b[23]00|gh200|h[12]00|a100)(?:[-_](?:sxm\d?|pcie|nvl)(?!\d*x?\d*nvl))?"
    r"(?:[-_]\d{2,3}gb)?"
    r"|mi\d{3}[a-z]?|l40s?|l4"
    r"|tpu[-_]?v?\d[a-z]*(?:[-_]\d{1,5})?|trillium|ironwood"
    r")(?:x\d{1,4})?(?![a-z0-9])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a name says; None where it says nothing, or two things at once."""

    chips: int | None = None
    parallelism: str | None = None
    dtype: str | None = None
    device: str | None = None

    def said(self) -> str | None:
        """What was taken from the name, for the reader of a row."""
        words = [self.device, self.dtype, self.parallelism, self.chips and f"{self.chips} chips"]
        return " ".join(str(word) for word in words if word) or None


def read_name(name: str) -> Named:
    """What the name of a benchmark's file says."""
    text = name.lower().removesuffix(".json")
    degrees = _degrees(text)
    return Named(
        chips=_chips(text, degrees),
        parallelism=" ".join(f"{kind}={degree}" for kind, degree in (degrees or {}).items())
        or None,
        dtype=precision_in(text),
        device=device_in(text),
    )


def precision_in(text: str) -> str | None:
    """The first precision named, a key-value cache's apart."""
    match = _PRECISION.search(text.lower())
    return match[1] if match else None


def device_in(text: str) -> str | None:
    """The one device named, most fully. A bare H100 or A100 stays so: its board is not said."""
    kinds = {match[1].replace("_", "-") for match in _DEVICE.finditer(text.lower())}
    fullest = max(kinds, key=len, default="")
    return fullest or None if all(fullest.startswith(kind) for kind in kinds) else None


def _degrees(text: str) -> Mapping[str, int] | None:
    """Degree of each kind of parallelism; None where a kind has two (prefill and decode apart)."""
    degrees: dict[str, int] = {}
    for kind, digits in _PARALLEL.findall(text):
        if degrees.setdefault(kind, int(digits)) != int(digits):
            return None
    return degrees


def _chips(text: str, degrees: Mapping[str, int] | None) -> int | None:
    for pattern in _TOTALS:
        total = pattern.search(text)
        if total:
            return int(total[1]) or None
    pools = _POOLS.search(text)
    if pools:
        prefill, each_prefill, decode, each_decode = (int(part) for part in pools.groups())
        return prefill * each_prefill + decode * each_decode or None
    if not degrees or _APART.search(text):
        return None
    joint = [degrees[kind] for kind in ("tep", "dep") if kind in degrees]
    stages = degrees.get("pp", 1) * degrees.get("pcp", 1)
    if joint:
        return joint[0] * stages or None if len(joint) == 1 else None
    tensor, data = degrees.get("tp", 1), degrees.get("dp", 1)
    if tensor > 1 and data > 1:
        # vLLM multiplies them, SGLang puts data-parallel attention on the same chips.
        return None
    experts = degrees.get("ep", 1)
    if not degrees.keys() & {"tp", "dp"}:
        return math.prod((experts, stages)) or None
    held = tensor * data * stages
    # Experts lie on the chips that are there already; more of them than chips makes no sense.
    return held if held and experts <= held else None
