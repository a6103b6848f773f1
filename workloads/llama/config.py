"""Shapes of Llama-family models, and the FLOPs and bytes they must spend.

No torch here: plans and prices need the arithmetic, not the model. The arithmetic is that of every
decoder (:class:`Decoder`); sizes of public models come from its table. Letters used throughout:
B batch, L new tokens, S tokens in the cache, D model width, H head width, N query heads,
K key/value heads, F feed-forward width, V vocabulary,
E routed experts, T tokens that pass together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from tpubench.suite.workload import Decoder, find_decoder, public_sizes
from tpubench.workloads.llama.rope import RopeScaling


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Feed-forwards beside one another, of which a router gives each token a few.

    A softmax over all of them says how much a token wants each; the ``top_k`` highest are its
    gates. With ``sigmoid`` each is wanted by itself, and a learnt correction, which is no part of
    the gates, is added before they are compared; of ``groups`` of equally many those ``top_groups``
    count whose two most wanted sum to most (DeepSeek-AI, 2024, arXiv:2412.19437, section 2.1.2).
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
    scoring: str = "softmax"
    """``softmax``, or ``sigmoid`` with a correction."""
    groups: int = 1
    top_groups: int = 1
    scale: float = 1.0
    """What gates are multiplied by in the end."""

    @property
    def corrected(self) -> bool:
        """Whether there is a correction for each expert."""
        return self.scoring == "sigmoid"

    def to_json(self) -> dict[str, Any]:
        """JSON values; of what came later, only what differs from how all were before."""
        later = {"scoring": "softmax", "groups": 1, "top_groups": 1, "scale": 1.0}
        return {k: v for k, v in asdict(self).items() if k not in later or v != later[k]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Latent attention: keys and values of all heads from one compressed vector a token
    (``latent.py``)."""

    kv_rank: int
    """Values of that vector."""
    rope_dim: int
    """Values of the rotated key that all heads share, and of each query's rotated part; a head's
    other part, and its values, have the model's ``head_dim``."""
    q_rank: int = 0
    """Values of a compressed query; 0 where queries come from the input itself."""
    magnitude: float = 1.0
    """What queries and keys are each multiplied by, YaRN's for contexts that were stretched."""


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
    latent: Latent | None = None
    """Latent attention in place of grouped queries; ``n_kv_heads`` is then ``n_heads``."""
    turned_dim: int | None = None
    """Values of each head that turn, where it is not all: value i with value i + H/2 for the first
    half of so many."""

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values. What a plain Llama lacks is left out: it was not there
        when the first results were stored, and these must remain comparable."""
        values = asdict(self)
        later = {
            "qk_norm": False,
            "experts": None,
            "mlp_bias": False,
            "window": None,
            "latent": None,
            "turned_dim": None,
        }
        if self.rope_scaling is not None:
            values["rope_scaling"] = self.rope_scaling.to_json()
        if self.experts is not None:
            values["experts"] = self.experts.to_json()
        return {k: v for k, v in values.items() if k not in later or v != later[k]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LlamaConfig:
        """Inverse of :meth:`to_json`."""
        scaling, experts = values["rope_scaling"], values.get("experts")
        latent = values.get("latent")
        return cls(
            **{
                **values,
                "rope_scaling": RopeScaling.from_json(scaling) if scaling else None,
                "experts": Experts(**experts) if experts else None,
                "latent": Latent(**latent) if latent else None,
            }
        )

    @property
    def supported_context(self) -> int:
        """Tokens up to which attention and rotary positions are what this program computes."""
        scaling, limits = self.rope_scaling, [self.max_context]
        limits += [self.window] if self.window else []
        limits += [scaling.original_context] if scaling and scaling.kind == "longrope" else []
        return min(limits)

    def has_experts(self, layer: int) -> bool:
        """Whether the feed-forward of this layer is a mixture of experts."""
        return self.experts is not None and layer >= self.experts.dense_layers

    @property
    def rotary_dim(self) -> int:
        """Width of what is rotated of a head."""
        return self.head_dim if self.latent is None else self.latent.rope_dim

    @property
    def cached_values(self) -> int:
        """Values that one layer caches of one token."""
        if self.latent is not None:
            return self.latent.kv_rank + self.latent.rope_dim
        return 2 * self.n_kv_heads * self.head_dim

    @property
    def attention_params(self) -> int:
        """Weights of one layer's attention that take part in matrix multiplications."""
        if self.latent is not None:
            rank, query = self.latent.q_rank, self.n_heads * (self.head_dim + self.rotary_dim)
            compressed = self.d_model * (self.latent.kv_rank + self.rotary_dim)
            expanded = 2 * self.latent.kv_rank * self.n_heads * self.head_dim
            queries = rank * (self.d_model + query) if rank else self.d_model * query
            return queries + compressed + expanded + self.n_heads * self.head_dim * self.d_model
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
        number where there are experts (:meth:`Decoder.experts_touched`), all of them otherwise."""
        return self.matmul_params - self.unread_params(tokens)

    def unread_params(self, tokens: int) -> int:
        """Weights of experts that none of so many tokens is sent to, an expected number."""
        decoder = self.decoder
        return round(decoder.experts_total * (1 - decoder.experts_touched(tokens)))

    @property
    def decoder(self) -> Decoder:
        """The same model as the arithmetic knows it."""
        experts = self.experts
        routed_layers = 0 if experts is None else max(0, self.n_layers - experts.dense_layers)
        each = 0 if experts is None else 3 * self.d_model * experts.d_ffn
        return Decoder(
            name="",
            known=True,
            params=float(self.n_params),
            active=float(self.active_params + self.head_params),
            experts_total=float(routed_layers * each * (experts.routed if experts else 0)),
            experts=experts.routed if experts else 0,
            top_k=experts.top_k if experts else 0,
            d_expert=experts.d_ffn if experts else 0,
            d_routed=self.d_model,
            gated=True,
            layers=self.n_layers,
            d_model=self.d_model,
            heads=self.n_heads,
            head_dim=self.head_dim,
            kv_per_token=float(self.n_layers * self.cached_values),
            kv_heads=self.n_kv_heads if self.latent is None else 0,
            rotary=self.rotary_dim,
            attention_layers=self.n_layers,
            window=None,
            global_every=1,
            head=float(self.head_params),
        )

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
        norms += 0 if self.latent is None else self.latent.kv_rank + self.latent.q_rank
        layers = self.matmul_params + self.n_layers * (norms + biases)
        if self.experts is not None and self.experts.corrected:
            layers += max(0, self.n_layers - self.experts.dense_layers) * self.experts.routed
        return layers + self.d_model + self.head_params * (1 if self.tied else 2)

    def kv_bytes_per_token(self, dtype_bytes: int) -> int:
        """Key/value cache of one token over all layers."""
        return int(self.decoder.kv_tokens_bytes(1, dtype_bytes))


def prefill_flops(config: LlamaConfig, batch: int, length: int, *, causal: bool = True) -> int:
    """:meth:`Decoder.prefill_flops` of this model."""
    return round(config.decoder.prefill_flops(batch, length, causal=causal))


def decode_flops(config: LlamaConfig, batch: int, keys: int) -> int:
    """:meth:`Decoder.decode_flops` of this model. With latent attention queries meet the cache as
    it is, kv_rank + rope_dim wide in QKᵀ and kv_rank wide in AV, where whole heads would be
    narrower but would have to be made of every cached token again."""
    wider = 0
    if config.latent is not None:
        cached = 2 * config.latent.kv_rank + config.latent.rope_dim
        wider = 2 * (cached - 2 * config.head_dim - config.latent.rope_dim)
    more = batch * keys * config.n_layers * config.n_heads * wider
    return round(config.decoder.decode_flops(batch, keys)) + more


def weight_bytes(config: LlamaConfig, dtype_bytes: int, tokens: int | None = None) -> int:
    """Weights that a pass must read at least once: all but an untied embedding table.

    tokens: how many pass together, which decides how many experts are read (:class:`Experts`);
    None reads them all.
    """
    unread = 0 if tokens is None else config.unread_params(tokens)
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
    """:meth:`Decoder.train_flops` of this model: 6·N_matmul a token, plus attention."""
    return round(config.decoder.train_flops(batch, length, causal=causal))


def train_bytes(config: LlamaConfig, dtype_bytes: int, tokens: int | None = None) -> int:
    """Bytes that a training step must move at least once, activations left out.

    The forward and the backward pass each read the weights in the arithmetic's precision; the
    gradient, the weight and AdamW's two moments, in float32, are each written and read once: of
    every expert, whether or not a token came. tokens: as in :func:`weight_bytes`.
    """
    return 2 * weight_bytes(config, dtype_bytes, tokens) + 8 * 4 * config.n_params


_LLAMA31 = RopeScaling(kind="llama3", factor=8.0)
_LLAMA32 = RopeScaling(kind="llama3", factor=32.0)


def public(name: str, **more: Any) -> LlamaConfig:
    """The configuration of a model of the table of public decoders, whose sizes are said there
    alone; ``more`` is what a program needs besides."""
    sizes = public_sizes(name)
    return LlamaConfig(
        d_model=sizes["d_model"],
        n_layers=sizes["layers"],
        n_heads=sizes["heads"],
        n_kv_heads=sizes["kv_heads"],
        head_dim=sizes["head_dim"],
        d_ffn=sizes["d_ffn"],
        vocab=sizes["vocab"],
        tied=bool(sizes["tied"]),
        **more,
    )


def public_experts(name: str, *, normalised: bool = True) -> Experts:
    """Its experts."""
    sizes = public_sizes(name)
    return Experts(
        routed=sizes["experts"],
        top_k=sizes["top_k"],
        d_ffn=sizes["d_expert"],
        shared=sizes["shared_experts"],
        normalised=normalised,
        dense_layers=sizes["dense_layers"],
    )


PRESETS: dict[str, LlamaConfig] = {
    "smollm2-135m": public("smollm2-135m", rope_theta=100_000.0, max_context=8192),
    "llama-3.2-1b": public("llama-3.2-1b", rope_theta=500_000.0, rope_scaling=_LLAMA32),
    "llama-3.1-8b": public("llama-3.1-8b", rope_theta=500_000.0, rope_scaling=_LLAMA31),
    "llama-3.1-70b": public("llama-3.1-70b", rope_theta=500_000.0, rope_scaling=_LLAMA31),
    "llama-3.1-405b": public("llama-3.1-405b", rope_theta=500_000.0, rope_scaling=_LLAMA31),
    "tiny": LlamaConfig(
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ffn=128,
        vocab=256, tied=True, rope_theta=10_000.0, max_context=2048,
    ),
}  # fmt: skip
"""Public model configurations; ``tiny`` is for tests only."""


def decoder(name: str, presets: Mapping[str, LlamaConfig]) -> Decoder | None:
    """The decoder that a name stands for: a public one, a preset, or one of the size in a name."""
    public_one = find_decoder(name)
    if name in presets and (public_one is None or not public_one.known):
        return replace(presets[name].decoder, name=name)
    return public_one
