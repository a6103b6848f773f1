"""The arithmetic of a decoder: FLOPs, bytes and parameters by closed form, in one place.

A run counts its work, an estimate its seconds and the compiler's estimate its attention with what
is here; none of it needs torch. Letters: B sequences, L tokens, S tokens in the cache.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A decoder-only transformer, dense or with experts. Counts are parameters, not bytes."""

    name: str
    known: bool
    """From the table; False when derived from a number of parameters alone."""
    params: float
    """All parameters, as stated by the model's authors."""
    active: float
    """Parameters that take part in the matrix products of one token, the output head included."""
    experts_total: float
    """Parameters inside routed experts, all of them; 0 for a dense model."""
    experts: int
    top_k: int
    d_expert: int
    """Width of one routed expert; 0 for a dense model."""
    d_routed: int
    """Width of what is sent to routed experts: the model's, or a narrower latent one."""
    gated: bool
    """Whether a block multiplies two projections of its input (SwiGLU and its like)."""
    layers: int
    d_model: int
    heads: int
    head_dim: int
    kv_per_token: float
    """Cached values of one token over all layers, windows not yet considered."""
    kv_heads: int
    """Key-value heads; chips beyond them each keep a copy. 0 for latent attention."""
    attention_layers: int
    """Layers whose attention grows with the context."""
    window: int | None
    """Tokens that a local layer sees; None when every layer is global."""
    global_every: int
    """One layer in this many is global."""
    head: float
    """Parameters of the output head; 0 in a shape that a size alone implies."""
    gelu_gates: float = 0.0
    """Parameters of one token's gates that are GELUs; 0 where they are SiLUs, or none."""
    rotary: int = 64
    """Values of the rotated key that all heads share in latent attention."""
    ahead: int = 0
    """Layers for tokens further ahead that published training recipes add (multi-token prediction,
    DeepSeek-AI 2024, arXiv:2412.19437, section 2.2)."""

    @property
    def head_params(self) -> float:
        """Width of all query heads together: what the attention arithmetic depends on.

        Latent attention (no key-value heads) compares the rotary values more than it sums up, so
        the mean of both products is half of them wider (DeepSeek-AI 2024, arXiv:2405.04434,
        section 2.1.3).
        """
        return self.heads * (self.head_dim + (0.0 if self.kv_heads else self.rotary / 2))

    @property
    def experts_used(self) -> float:
        """Parameters inside the routed experts that one token uses."""
        return self.experts_total * self.top_k / self.experts if self.experts else 0.0

    @property
    def experts_of_all_layers(self) -> float:
        """Routed experts, each layer's counted: their parameters over those of one."""
        one = (3 if self.gated else 2) * self.d_routed * self.d_expert
        return self.experts_total / one if one else 0.0

    @property
    def routed_layers(self) -> float:
        """Layers that have routed experts."""
        return self.experts_of_all_layers / self.experts if self.experts else 0.0

    @property
    def scan_layers(self) -> float:
        """State-space layers of a hybrid whose layers are each one thing: neither attention nor
        experts. 0 for others, hybrids included whose every layer also has a feed-forward part."""
        if self.attention_layers >= self.layers:
            return 0.0
        return max(0.0, self.layers - self.attention_layers - self.routed_layers)

    def looking_ahead(self) -> Decoder:
        """The same with :attr:`ahead` more layers: each a usual one, a product of twice the width
        to the width before it, and the output head once more."""
        layer = (self.active - self.head) / self.layers
        more = self.ahead * (layer + 2 * self.d_model**2 + self.head)
        routed = self.ahead * self.experts_total / max(self.routed_layers, 1.0)
        return replace(
            self,
            layers=self.layers + self.ahead,
            attention_layers=self.attention_layers + self.ahead,
            active=self.active + more,
            experts_total=self.experts_total + routed,
            params=self.params + routed + more * (1 - self.experts_used / self.active),
        )

    def experts_speed(
        self,
        flops_per_byte: float,
        tokens: float = math.inf,
        moved: tuple[float, float] | None = None,
    ) -> float:
        """Speed of the experts' products relative to large ones, ``tokens`` of them an expert.

        What is moved takes time that a wide product hides. An expert of widths d and f moves
        ``moved`` bytes for each unit of them, forward and backward, for 18df FLOPs (12df without
        a gate); by default those of two-byte values, where activations are steps of their own.
        Weights are read twice and their gradients summed in float32: 10 to 12 bytes a weight for
        6 FLOPs a token. None of it is taken to be hidden, before correction. ``flops_per_byte`` is
        the chip's peak over its HBM bandwidth.
        """
        if not self.d_expert:
            return 1.0
        by_d, by_f = moved or ((12.0, 34.0) if self.gated else (12.0, 22.0))
        flops = 18 if self.gated else 12
        bytes_a_flop = by_d / (flops * self.d_expert) + by_f / (flops * self.d_routed)
        return 1 / (1 + flops_per_byte * (bytes_a_flop + 1.8 / tokens))

    def narrowness(self, tensor: float = 1.0) -> tuple[float, float]:
        """Means of 1/n and 1/k over a dense layer's products, n x k weights each.

        Weighted by FLOPs, for the usual layer in units of its width: 1.25 wide into attention
        (grouped queries), 1 out of it, 7 into a gated block, 3.5 out. Over ``tensor`` chips n is
        cut of what goes in, k of what comes out.
        """
        whole = (1.25 + 1 + 7 + 3.5) * self.d_model
        return (1 + 3.5 + 2 * tensor) / whole, (1.25 + 7 + 2 * tensor) / whole

    @property
    def dense_params(self) -> float:
        """Parameters that every token uses."""
        return max(self.params - self.experts_total, 0.05 * self.active)

    def seen(self, context: float) -> float:
        """Average number of tokens a layer attends to, out of ``context`` in the cache."""
        if self.window is None:
            return context
        share = 1 / self.global_every
        return share * context + (1 - share) * min(context, self.window)

    def products_flops(self, tokens: float, logits: float) -> float:
        """Matrix products of ``tokens`` tokens forward, ``logits`` of which meet the output head:
        2 FLOPs a parameter, a multiply-add counted as two."""
        return 2 * ((self.active - self.head) * tokens + self.head * logits)

    def prefill_flops(self, batch: float, length: float, *, causal: bool = True) -> float:
        """Processing ``batch`` prompts, logits for the last token only.

        causal counts the L·(L+1)/2 query-key pairs that are needed; otherwise all L², which is
        what torch's FLOP counter reports (at 8 k tokens 1.13× the causal total for 8B).
        """
        pairs = length * (length + 1) / 2 if causal else length * length
        return self.products_flops(batch * length, batch) + batch * self._pairs_flops(pairs, length)

    def decode_flops(self, batch: float, keys: float) -> float:
        """One token a sequence, with ``keys`` tokens to attend to (itself included)."""
        return self.products_flops(batch, batch) + batch * self.attention_flops(1, keys)

    def train_flops(self, batch: float, length: float, *, causal: bool = True) -> float:
        """A training step: forward once and backward twice, for the gradients of activations and of
        weights; nothing recomputed (Chowdhery et al. 2022, appendix B). causal: as above."""
        pairs = length * (length + 1) / 2 if causal else length * length
        tokens = batch * length
        return 3 * (self.products_flops(tokens, tokens) + batch * self._pairs_flops(pairs, length))

    def _pairs_flops(self, pairs: float, keys: float) -> float:
        """QKᵀ and AV of so many query-key pairs of contexts up to ``keys``, all layers."""
        return 4 * self.attention_layers * self.head_params * pairs * (self.seen(keys) / keys)

    def attention_flops(self, queries: float, keys: float) -> float:
        """QKᵀ and AV of ``queries`` tokens over ``keys`` each, all layers, one sequence."""
        return 4 * self.attention_layers * self.head_params * queries * self.seen(keys)

    def kv_tokens_bytes(self, context: float, value_bytes: float) -> float:
        """Cache of one sequence with ``context`` tokens, bytes."""
        return self.kv_per_token * self.seen(context) * value_bytes

    def experts_touched(self, tokens: float) -> float:
        """Share of the routed experts that ``tokens`` tokens read: 1 − (1 − k/E)ᵀ, each taking
        k of E evenly and independently of the others."""
        if not self.experts:
            return 0.0
        return float(1 - (1 - self.top_k / self.experts) ** max(tokens, 1.0))

    def weights_read(self, tokens: float) -> float:
        """Parameters that one pass over ``tokens`` tokens must read."""
        return self.dense_params + self.experts_total * self.experts_touched(tokens)
