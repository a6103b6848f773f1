"""What a cell of a published table says. Cells come from many hands: ``27K``, ``KV-limited max``,
``8192 (default)``, ``amp_bf16``, ``TensorRT-LLM 1.0 (PyTorch backend)``."""

from __future__ import annotations

import math
import re


class SkipError(Exception):
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


def whole(text: str, default: int = 1) -> int:
    """The number of a cell as a count; ``default`` where there is none."""
    value = number(text)
    return int(value) if value is not None and 1 <= value <= 1e6 else default
