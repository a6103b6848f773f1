"""Shapes of Llama-family models, and the FLOPs and bytes they must spend, by closed form.

No torch here: plans and prices need the arithmetic, not the model. Letters used throughout:
B batch, L new tokens, S tokens in the cache, D model width, H head width, N query heads,
K key/value heads, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the trained context.

    ``linear`` divides every frequency by ``factor``. ``llama3`` leaves short wavelengths, divides
    long ones, and interpolates between (Llama 3.1 model card and reference code).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context: int = 8192


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

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LlamaConfig:
        """Inverse of :meth:`to_json`."""
        scaling = values["rope_scaling"]
        return cls(**{**values, "rope_scaling": RopeScaling(**scaling) if scaling else None})

    @property
    def layer_matmul_params(self) -> int:
        """Weights of one layer that take part in matrix multiplications."""
        heads = (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
        attention = self.d_model * heads + self.n_heads * self.head_dim * self.d_model
        return attention + 3 * self.d_model * self.d_ffn

    @property
    def head_params(self) -> int:
        """Weights of the output head (shared with the embedding when tied)."""
        return self.vocab * self.d_model

    @property
    def n_params(self) -> int:
        """All parameters, a tied head counted once."""
        heads = self.n_heads + 2 * self.n_kv_heads
        biases = heads * self.head_dim * self.attention_bias + self.d_model * self.output_bias
        layers = self.n_layers * (self.layer_matmul_params + 2 * self.d_model + biases)
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
    linear = 2 * batch * length * config.n_layers * config.layer_matmul_params
    head = 2 * batch * config.head_params
    pairs = attention_flops(config, batch, length, 1) * (length + 1) // 2
    full = attention_flops(config, batch, length, length)
    return linear + head + (pairs if causal else full)


def decode_flops(config: LlamaConfig, batch: int, keys: int) -> int:
    """Model FLOPs of one token a sequence, with ``keys`` tokens to attend to (itself included)."""
    matmul = 2 * batch * (config.n_layers * config.layer_matmul_params + config.head_params)
    return matmul + attention_flops(config, batch, 1, keys)


def weight_bytes(config: LlamaConfig, dtype_bytes: int) -> int:
    """Weights that a pass must read at least once: all but an untied embedding table."""
    biases_and_norms = config.n_params - config.n_layers * config.layer_matmul_params
    biases_and_norms -= config.head_params * (1 if config.tied else 2)
    matmul = config.n_layers * config.layer_matmul_params + config.head_params
    return (matmul + biases_and_norms) * dtype_bytes


def quantized_saving_bytes(config: LlamaConfig, dtype_bytes: int) -> int:
    """What holding the projections of all layers in one byte a value, and a float32 scale for each
    of their rows, saves of the weights' bytes."""
    heads = (config.n_heads + 2 * config.n_kv_heads) * config.head_dim
    rows = heads + config.d_model + 2 * config.d_ffn + config.d_model
    return config.n_layers * (config.layer_matmul_params * (dtype_bytes - 1) - 4 * rows)


def prefill_bytes(config: LlamaConfig, batch: int, length: int, dtype_bytes: int) -> int:
    """Weights read once and the cache written once."""
    cache = batch * length * config.kv_bytes_per_token(dtype_bytes)
    return weight_bytes(config, dtype_bytes) + cache


def decode_bytes(config: LlamaConfig, batch: int, keys: int, dtype_bytes: int) -> int:
    """Weights read once, ``keys`` cached tokens a sequence read (the new one written)."""
    cache = batch * keys * config.kv_bytes_per_token(dtype_bytes)
    return weight_bytes(config, dtype_bytes) + cache


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
