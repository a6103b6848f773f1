"""Routed experts in training: what their many small products cost beyond their FLOPs.

Bytes that no wide product hides, launches by the host, and copies of tokens sent to other hosts.
"""

from __future__ import annotations

import math

from tpubench.estimates.problem import Training
from tpubench.suite.decoder import Decoder

MEGATRON = frozenset({"nemo", "megatron-bridge"})
"""Trainers built on Megatron and Transformer Engine."""

MOVED = {
    "fp8": ((16.0, 40.0), (16.0, 26.0)),
    "fp4": ((20.0, 46.0), (20.0, 30.0)),
}
"""Bytes moved for each unit of the widths d and f by an expert and token, with a gate and without,
where activations are steps of their own and so are casts, each written for use by rows and by
columns. fp8: 7d + 15f forward (without a gate 7d + 11f), 9d + 25f backward (9d + 15f). NVFP4 reads
what it casts once more, for the largest value (docs.nvidia.com/deeplearning/transformer-engine,
NVFP4 has a scale for each tensor above those of blocks). In two-byte values: 4d + 12f and 8d + 22f
(4d + 8f and 8d + 14f)."""
FUSED = (16.0, 20.0)
"""The same in fp8 where gates and casts of the inner width are part of the products: 7d + 7f and
9d + 13f."""
FUSED_SINCE = 2026.43
"""When Megatron-Bridge began to fuse them in MXFP8 on Blackwell: 7 June 2026, for its release 26.06
(github.com/NVIDIA-NeMo/Megatron-Bridge, issue 2885). Its recipes of that release also exchange
tokens beside arithmetic (moe_a2a_overlap)."""

LAUNCH_S = 2e-6
"""Seconds of the host for one launch, assumed; nothing is queued ahead, since the host must first
learn how many tokens each expert gets."""
LAUNCHES, LAUNCHES_NARROW = 6, 22
"""Launches for one expert and micro-batch where products are launched expert by expert
(github.com/NVIDIA/TransformerEngine, pull request 853: grouped products by cuBLAS on several
streams): two products forward, four backward; in fp8 or fp4 also four casts and the rearranging of
two inputs' scales for each product."""


def fused(problem: Training) -> bool:
    """Whether the trainer fuses casts and gates of experts and hides the exchange of tokens."""
    return (
        problem.software == "megatron-bridge"
        and problem.precision == "fp8"
        and problem.date >= FUSED_SINCE
        and problem.chip.generation.startswith("Blackwell")
        and problem.shape.gated
    )


def seconds(problem: Training, shape: Decoder, products_s: float) -> float:
    """Seconds a token of all experts it uses, whose products alone would take ``products_s``."""
    moved = None
    if fused(problem):
        moved = FUSED
    elif problem.precision in MOVED:
        moved = MOVED[problem.precision][0 if shape.gated else 1]
    peak = problem.chip.peak(problem.precision) or problem.chip.peak_flop_s["bfloat16"]
    tokens = tokens_each(problem, shape)
    speed = shape.experts_speed(peak / problem.chip.hbm_bytes_s, tokens, moved)
    return products_s / speed + _launches_s(problem, shape)


def tokens_each(problem: Training, shape: Decoder) -> float:
    """Tokens of a micro-batch that one expert gets; infinite where no micro-batch is stated."""
    if not problem.microbatch or not shape.experts:
        return math.inf
    return _micro_tokens(problem) * problem.expert * shape.top_k / shape.experts


def copies_sent(problem: Training, shape: Decoder) -> float:
    """Copies of a token that leave its chip for experts elsewhere.

    Within the links of a host at most four, more being sent as one (assumed). Beyond them one for
    each other host where an expert of the token is, routed evenly.
    """
    if problem.expert <= problem.chip.domain:
        return min(shape.top_k, 4) * (1 - 1 / problem.expert)
    hosts = problem.expert / problem.chip.joined
    return (hosts - 1) * float(1 - (1 - 1 / hosts) ** shape.top_k)


def _micro_tokens(problem: Training) -> float:
    """Tokens of a micro-batch on one chip."""
    micro = problem.microbatch or 1.0
    return micro * (problem.seq_len or 4096.0) / problem.tensor / problem.context


def _launches_s(problem: Training, shape: Decoder) -> float:
    """Seconds of launching a chip's experts one by one, for each token."""
    if problem.software not in MEGATRON or not problem.microbatch or fused(problem):
        return 0.0
    each = LAUNCHES_NARROW if problem.precision in MOVED else LAUNCHES
    return shape.experts_of_all_layers / problem.expert * each * LAUNCH_S / _micro_tokens(problem)
