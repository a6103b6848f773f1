"""Shapes of Llama-family models, and the FLOPs and bytes they must spend, by closed form.

No torch here: plans and prices need the arithmetic, not the model. Letters used throughout:
B batch, L new tokens, S tokens in the cache, D model width, H head width, N query heads,
K key/value heads, F feed-forward width, V vocabulary,
E routed experts, T tokens that pass together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    ``linear`` divides every frequency by ``factor``. ``llama3`` leaves short wavelengths, divides
    long ones, and interpolates between (Llama 3.1 model card and reference code). ``yarn`` does so
    by the turns that a pair makes within the original context, and magnifies queries and keys
    (Peng et al., YaRN, 2023, section 3).
    """

    kind: Literal["linear", "llama3", "yarn"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192
    fast_turns: float = 32.0
    """yarn: pairs that turn as often keep their frequency (its β)."""
    slow_turns: float = 1.0
    """yarn: pairs that turn no more than this are divided whole (its α)."""
    magnitude: float = 1.0
    """yarn: what rotated queries and keys are multiplied by."""
    whole_pairs: bool = True
    """yarn: whether the two limits are rounded outwards to whole pairs."""


def yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's 0.1·ln(factor) + 1; 1 where nothing is stretched."""
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Feed-forwards beside one another, of which a router gives each token a few.

    A softmax over all of them says how much a token wants each; the ``top_k`` highest are its
    gates.
    """

    routed: int
    top_k: int
    d_ffn: int
    """Width of one expert."""
    shared: int = 0
    """Experts that every token takes, ungated: one feed-forward of so many times the width."""
    normalised: bool = True
    """Whether a token's gates are divided by their sum."""
    dense_layers: int = 0
    """First layers that have one ordinary feed-forward, of the model's ``d_ffn``."""

    def touched(self, tokens: int) -> float:
        """Routed experts of one layer that are expected to get any of so many tokens.

        E·(1 − (1 − k/E)ᵀ): each token takes k of E, evenly and independently of the others.
        """
        return self.routed * (1.0 - (1.0 - self.top_k / self.routed) ** tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Everything that fixes the shape and the arithmetic of a Llama-family decoder."""

    d_model: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_ffn: int
    vocab: int
    tied: bool
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5
    attention_bias: bool = False
    """Biases on the query, key and value projections."""
    output_bias: bool = False
    """Bias on the attention output projection."""
    max_context: int = 131072
    qk_norm: bool = False
    """An RMSNorm over each query and key head, before rotation."""
    experts: Experts | None = None
    mlp_bias: bool = False
    """Biases on the projections of dense feed-forwards."""
    window: int | None = None
    """Tokens back to which some layer attends, where it is not all of them. Cases no longer than
    this are the same as without it; longer ones are refused."""

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values. What a plain Llama lacks is left out: it was not there
        when the first results were stored, and these must remain comparable."""
        values = asdict(self)
        later = {"qk_norm": False, "experts": None, "mlp_bias": False, "window": None}
        if self.rope_scaling is not None and self.rope_scaling.kind != "yarn":
            for name in ("fast_turns", "slow_turns", "magnitude", "whole_pairs"):
                del values["rope_scaling"][name]
        return {k: v for k, v in values.items() if k not in later or v != later[k]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LlamaConfig:
        """Inverse of :meth:`to_json`."""
        scaling, experts = values["rope_scaling"], values.get("experts")
        return cls(
            **{
                **values,
                "rope_scaling": RopeScaling(**scaling) if scaling else None,
                "experts": Experts(**experts) if experts else None,
            }
        )

    def has_experts(self, layer: int) -> bool:
        """Whether the feed-forward of this layer is a mixture of experts."""
        return self.experts is not None and layer >= self.experts.dense_layers

    @property
    def attention_params(self) -> int:
        """Weights of one layer's attention that take part in matrix multiplications."""
        heads = (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
        return self.d_model * heads + self.n_heads * self.head_dim * self.d_model

    @property
    def layer_matmul_params(self) -> int:
        """Weights of one dense layer that take part in matrix multiplications."""
        return self.attention_params + 3 * self.d_model * self.d_ffn

    @property
    def matmul_params(self) -> int:
        """Weights of all layers that take part in matrix multiplications, every expert's too."""
        return self._matmul_params(None if self.experts is None else self.experts.routed)

    @property
    def active_params(self) -> int:
        """Weights of all layers that one token is multiplied by: of the experts, its ``top_k``."""
        return self._matmul_params(None if self.experts is None else self.experts.top_k)

    @property
    def used_params(self) -> int:
        """All parameters that one token uses, what models state as *active*: the embedding and the
        head in full, of the experts its ``top_k``."""
        return self.n_params - self.matmul_params + self.active_params

    def touched_params(self, tokens: int) -> int:
        """Weights of all layers that are read when so many tokens pass together: an expected
        number where there are experts (:meth:`Experts.touched`), all of them otherwise."""
        return self._matmul_params(None if self.experts is None else self.experts.touched(tokens))

    def _matmul_params(self, routed: float | None) -> int:
        """With so many routed experts in each layer that has any."""
        if self.experts is None or routed is None:
            return self.n_layers * self.layer_matmul_params
        dense = min(self.experts.dense_layers, self.n_layers)
        width = self.experts.d_ffn
        each = self.attention_params + self.d_model * (
            self.experts.routed + 3 * width * self.experts.shared
        )
        experts = (self.n_layers - dense) * 3 * self.d_model * width * routed
        return dense * self.layer_matmul_params + (self.n_layers - dense) * each + round(experts)

    @property
    def head_params(self) -> int:
        """Weights of the output head (shared with the embedding when tied)."""
        return self.vocab * self.d_model

    @property
    def n_params(self) -> int:
        """All parameters, a tied head counted once."""
        heads = self.n_heads + 2 * self.n_kv_heads
        biases = heads * self.head_dim * self.attention_bias + self.d_model * self.output_bias
        biases += (2 * self.d_ffn + self.d_model) * self.mlp_bias
        norms = 2 * self.d_model + 2 * self.head_dim * self.qk_norm
        layers = self.matmul_params + self.n_layers * (norms + biases)
        return layers + self.d_model + self.head_params * (1 if self.tied else 2)

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Key/value cache of one token over all layers."""
        return 2 * self.n_layers * self.n_kv_heads * self.head_dim * dtype_bytes


def attention_flops(config: LlamaConfig, batch: int, queries: int, keys: int) -> int:
    """QKᵀ and AV over ``queries`` × ``keys`` pairs, all layers: 2 matmuls, 2 FLOPs a MAC."""
    return 4 * batch * config.n_layers * config.n_heads * config.head_dim * queries * keys


def prefill_flops(config: LlamaConfig, batch: int, length: int, *, causal: bool = True) -> int:
    """Model FLOPs of processing ``length`` prompt tokens, logits for the last one only.

    causal counts the L·(L+1)/2 query-key pairs that are needed; otherwise all L², which is what
    torch's FLOP counter reports (at 8 k tokens 1.13× the causal total for 8B).
    """
    linear = 2 * batch * length * config.active_params
    head = 2 * batch * config.head_params
    pairs = attention_flops(config, batch, length, 1) * (length + 1) // 2
    full = attention_flops(config, batch, length, length)
    return linear + head + (pairs if causal else full)


def decode_flops(config: LlamaConfig, batch: int, keys: int) -> int:
    """Model FLOPs of one token a sequence, with ``keys`` tokens to attend to (itself included)."""
    matmul = 2 * batch * (config.active_params + config.head_params)
    return matmul + attention_flops(config, batch, 1, keys)


def weight_bytes(config: LlamaConfig, dtype_bytes: int, tokens: int | None = None) -> int:
    """Weights that a pass must read at least once: all but an untied embedding table.

    tokens: how many pass together, which decides how many experts are read (:class:`Experts`);
    None reads them all.
    """
    unread = 0 if tokens is None else config.matmul_params - config.touched_params(tokens)
    lookup = 0 if config.tied else config.head_params
    return (config.n_params - lookup - unread) * dtype_bytes


def quantized_saving_bytes(config: LlamaConfig, dtype_bytes: int) -> int:
    """What holding the projections of all layers in one byte a value, and a float32 scale for each
    of their rows, saves of the weights' bytes."""
    heads = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
    rows = heads + config.d_model + 2 * config.d_ffn + config.d_model
    return config.n_layers * (config.layer_matmul_params * (dtype_bytes - 1) - 4 * rows)


def prefill_bytes(config: LlamaConfig, batch: int, length: int, dtype_bytes: int) -> int:
    """Weights read once and the cache written once."""
    cache = batch * length * config.kv_bytes_per_token(dtype_bytes)
    return weight_bytes(config, dtype_bytes, batch * length) + cache


def decode_bytes(config: LlamaConfig, batch: int, keys: int, dtype_bytes: int) -> int:
    """Weights read once, ``keys`` cached tokens a sequence read (the new one written)."""
    cache = batch * keys * config.kv_bytes_per_token(dtype_bytes)
    return weight_bytes(config, dtype_bytes, batch) + cache


def train_flops(config: LlamaConfig, batch: int, length: int, *, causal: bool = True) -> int:
    """Model FLOPs of one training step on ``batch`` sequences: 6·N_matmul a token, plus attention.

    Forward once and backward twice, for the gradients of activations and of weights; nothing
    recomputed. N_matmul holds the output head and not the embedding's lookup (appendix B of the
    PaLM paper, Chowdhery et al., 2022). causal: as in :func:`prefill_flops`.
    """
    matmul = config.n_layers * config.layer_matmul_params + config.head_params
    pairs = length * (length + 1) // 2 if causal else length * length
    return 3 * (2 * batch * length * matmul + attention_flops(config, batch, 1, pairs))


def train_bytes(config: LlamaConfig, dtype_bytes: int) -> int:
    """Bytes that a training step must move at least once, activations left out.

    The forward and the backward pass each read the weights in the arithmetic's precision; the
    gradient, the weight and AdamW's two moments, in float32, are each written and read once.
    """
    lookup = 0 if config.tied else config.head_params
    return 2 * dtype_bytes * (config.n_params - lookup) + 8 * 4 * config.n_params


_LLAMA31 = RopeScaling(kind="llama3", factor=8.0)
_LLAMA32 = RopeScaling(kind="llama3", factor=32.0)

PRESETS: dict[str, LlamaConfig] = {
    "smollm2-135m": LlamaConfig(
        d_model=576, n_layers=30, n_heads=9, n_kv_heads=3, head_dim=64, d_ffn=1536,
        vocab=49152, tied=True, rope_theta=100_000.0, max_context=8192,
    ),
    "llama-3.2-1b": LlamaConfig(
        d_model=2048, n_layers=16, n_heads=32, n_kv_heads=8, head_dim=64, d_ffn=8192,
        vocab=128256, tied=True, rope_theta=500_000.0, rope_scaling=_LLAMA32,
    ),
    "llama-3.1-8b": LlamaConfig(
        d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, head_dim=128, d_ffn=14336,
        vocab=128256, tied=False, rope_theta=500_000.0, rope_scaling=_LLAMA31,
    ),
    "llama-3.1-70b": LlamaConfig(
        d_model=8192, n_layers=80, n_heads=64, n_kv_heads=8, head_dim=128, d_ffn=28672,
        vocab=128256, tied=False, rope_theta=500_000.0, rope_scaling=_LLAMA31,
    ),
    "llama-3.1-405b": LlamaConfig(
        d_model=16384, n_layers=126, n_heads=128, n_kv_heads=8, head_dim=128, d_ffn=53248,
        vocab=128256, tied=False, rope_theta=500_000.0, rope_scaling=_LLAMA31,
    ),
    "tiny": LlamaConfig(
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ffn=128,
        vocab=256, tied=True, rope_theta=10_000.0, max_context=2048,
    ),
}  # fmt: skip
"""Public model configurations (each model's config.json); ``tiny`` is for tests only."""
