"""Activations of a training step: what a chip keeps for the backward pass, or computes again."""

from __future__ import annotations

from tpubench.estimates.problem import Training
from tpubench.estimates.roofline import experts
from tpubench.suite.decoder import Decoder

FULL = 4 / 3
"""Products with everything computed again: one more forward pass, which is a third of a step."""
UNKNOWN = 1.15
"""The same where nothing is known of recomputing or of the layout."""
LITTLE, MUCH = 1.10, 1.22
"""The same where a source does not say what it recomputes, with room for all activations and with
room for their inputs alone. Assumed: trainers drop first what is cheap (norms, activation
functions), and how short memory is can be told only roughly. Where experts are fused and all fits,
nothing is computed again: recipes of those releases name no module, those before did even where
there was room (github.com/NVIDIA-NeMo/Megatron-Bridge, scripts/performance/configs, DeepSeek-V3 on
GB300: recompute_modules = [] in MXFP8, "mla_up_proj" or "moe_act" else)."""
ROOM = 0.92
"""Share of the memory for state and activations; the rest for exchange and fragments, assumed."""
STATE_BYTES = 16.0
"""State of a parameter with AdamW in mixed precision: weight and gradient of two bytes, and
weight and two moments of four (Rajbhandari et al. 2020, arXiv:1910.02054, section 3.1)."""
HELD_BYTES, SHARED_BYTES = 6.0, 12.0
"""The part of it that every copy of a parameter holds where only the optimizer is sharded, with
gradients of four bytes as Megatron's, and the part that they share."""


def computed_again(problem: Training, shape: Decoder) -> float:
    """Arithmetic of a step relative to one that keeps every activation, 1 to 4/3."""
    if problem.remat is not None:
        return FULL if problem.remat else 1.0
    micro = _micro_batch(problem)
    if micro is None or not problem.layout_stated:
        return UNKNOWN
    tokens = micro * (problem.seq_len or 4096.0) / problem.tensor / problem.context
    kept = kept_bytes(problem, shape, tokens)
    least = 2.0 * tokens * shape.layers * shape.d_model
    short = kept + state_bytes(problem, shape) - ROOM * problem.chip.hbm_bytes
    if short <= 0 and experts.fused(problem):
        return 1.0
    share = min(1.0, max(0.0, short / (kept - least)))
    return LITTLE + (MUCH - LITTLE) * share


def kept_bytes(problem: Training, shape: Decoder, tokens: float) -> float:
    """Bytes of all activations of ``tokens`` tokens on one chip, in two-byte values.

    Each product keeps its input or result as wide as its weights, each layer four values of the
    model's width (two norms and their inputs: Korthikanti et al. 2022, arXiv:2205.05198, section
    4.1), and each expert of a token a copy of it. A pipeline's first stage holds as many
    micro-batches as there are stages, so that depth does not matter, and a part more when its
    chunks are interleaved (the same, section 4.2.3).
    """
    dense = shape.active - shape.experts_used
    width = dense / shape.d_model + 4 * shape.d_model * shape.layers
    if shape.experts:
        width += shape.experts_used / shape.d_routed
        width += shape.routed_layers * shape.top_k * shape.d_routed
    stages = problem.pipeline
    more = (stages - 1) / stages / problem.virtual if problem.virtual > 1 else 0.0
    return 2.0 * tokens * width * (1 + more)


def state_bytes(problem: Training, shape: Decoder) -> float:
    """Bytes of weights, gradients and optimizer on one chip."""
    split = problem.tensor * problem.pipeline
    if problem.tuning == "lora":
        return 2.0 * shape.params / split
    if problem.sharded or split * problem.expert == 1:
        return STATE_BYTES * shape.params / problem.chips
    routed = min(shape.experts_total, shape.params)
    replicas = max(1.0, problem.chips / (split * problem.context))
    of_experts = max(1.0, problem.chips / problem.pipeline / problem.expert)
    dense_each = HELD_BYTES + SHARED_BYTES / replicas
    routed_each = HELD_BYTES + SHARED_BYTES / of_experts
    held = routed / problem.expert / problem.pipeline
    return (shape.params - routed) / split * dense_each + held * routed_each


def _micro_batch(problem: Training) -> float | None:
    """Sequences that go through a copy of the model at once; None where it cannot be told."""
    if problem.microbatch:
        return problem.microbatch
    if not problem.global_batch:
        return None
    if problem.pipeline > 1:
        return 1.0
    return problem.global_batch / max(1.0, problem.chips / (problem.tensor * problem.context))
