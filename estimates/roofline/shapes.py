"""Model shapes and their arithmetic: parameters, FLOPs and bytes by closed form.

``models.csv`` holds public configurations (each model's ``config.json``, checked in the tests
against the stated number of parameters). A model that is not in the table gets the shape that
its size implies, and says so: :attr:`Shape.known` is False and the interval widens.
"""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

_TABLE = Path(__file__).with_name("models.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
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
    ahead: int = 0
    """Layers for tokens further ahead that published training recipes add (multi-token prediction,
    DeepSeek-AI 2024, arXiv:2412.19437, section 2.2)."""

    @property
    def head_params(self) -> float:
        """Width of all query heads together: what the attention arithmetic depends on.

        Latent attention (no key-value heads) compares 64 rotary values more than it sums up, so the
        mean of both products is 32 wider (DeepSeek-AI 2024, arXiv:2405.04434, section 2.1.3).
        """
        return float(self.heads * (self.head_dim + (0 if self.kv_heads else 32)))

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

    def looking_ahead(self) -> Shape:
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

    def attention_flops(self, queries: float, keys: float) -> float:
        """QKᵀ and AV of ``queries`` tokens over ``keys`` each, all layers, one sequence."""
        return 4 * self.attention_layers * self.head_params * queries * self.seen(keys)

    def kv_tokens_bytes(self, context: float, value_bytes: float) -> float:
        """Cache of one sequence with ``context`` tokens, bytes."""
        return self.kv_per_token * self.seen(context) * value_bytes

    def experts_touched(self, tokens: float) -> float:
        """Share of the routed experts that ``tokens`` tokens read, routed evenly."""
        if not self.experts:
            return 0.0
        return float(1 - (1 - self.top_k / self.experts) ** max(tokens, 1.0))

    def weights_read(self, tokens: float) -> float:
        """Parameters that one pass over ``tokens`` tokens must read."""
        return self.dense_params + self.experts_total * self.experts_touched(tokens)


def words(name: str) -> str:
    """A model's name as lower-case words joined by single hyphens, qualifiers removed."""
    name = re.sub(r"\(.*?\)|^mlperf:", " ", name.lower()[:200]).split("/")[-1]
    name = re.sub(
        r"\b(sft|lora|qlora|instruct|chat|base|it|hf|fp8|nvfp4|fp4|w8a8|int8|int4|awq|bf16"
        r"|fp16|mxfp4|meta|openai|nvidia|google)\b",
        " ",
        name.replace("_", "-"),
    )
    name = re.sub(r"[^a-z0-9]+", "-", name).strip("-")
    name = re.sub(r"^llama-?(?=[123])", "llama-", name)
    name = re.sub(r"^llama-(3)(\d)(?=-)", r"llama-\1-\2", name)
    return re.sub(r"-(99|99-9|v0-\d|2407|2501|\d{4})$", "", name)


def parse_size(text: str) -> tuple[float | None, float | None]:
    """(all, active) parameters in a name such as ``Qwen3-235B-A22B`` or ``8x7b``; None if absent.

    An ``8x7b`` name multiplies out; of a mixture only the total is taken.
    """
    low = text.lower().replace("_", "-")
    active = re.search(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)b(?![a-z0-9])", low)
    mixture = re.search(r"(\d+)\s*x\s*(\d+(?:\.\d+)?)b", low)
    total = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)\s*([bmt])(?![a-z0-9])", low)
    size = None
    if mixture:
        size = int(mixture[1]) * float(mixture[2]) * 1e9 * 0.83
    elif total:
        size = float(total[1]) * {"m": 1e6, "b": 1e9, "t": 1e12}[total[2]]
    return size, float(active[1]) * 1e9 if active else None


def find(name: str, params: float | None = None) -> Shape | None:
    """The shape of a model; None when neither the table nor a size gives one.

    ``params`` is the stated number of parameters. It overrules the table when both differ by
    more than a third, since then the name means another model.
    """
    plain = words(name)
    for pattern, shape in _table():
        if pattern.fullmatch(plain):
            if params and not 2 / 3 < params / shape.params < 3 / 2:
                break
            return shape
    size, active = parse_size(name)
    size = params or size
    if size is None or not 1e6 <= size <= 1e14:
        return None
    if active is not None and not active < size:
        active = None
    return derived(name, size, active)


def derived(name: str, params: float, active: float | None = None) -> Shape:
    """The usual shape of a model of that size: width 128 × depth, grouped queries of 8."""
    used = active or params
    layers = max(4, round((used / (12 * 128**2)) ** (1 / 3)))
    d_model = 128 * layers
    experts = 0 if active is None else max(8, round(8 * (params - 0.4 * used) / (0.6 * used)))
    return Shape(
        name=name,
        known=False,
        params=params,
        active=used,
        experts_total=0.0 if active is None else params - 0.4 * used,
        experts=experts,
        top_k=8 if active is not None else 0,
        d_expert=0 if active is None else 2048,
        d_routed=d_model,
        gated=True,
        layers=layers,
        d_model=d_model,
        heads=max(1, d_model // 128),
        head_dim=128,
        kv_per_token=2.0 * layers * min(8, max(1, d_model // 128)) * 128,
        kv_heads=min(8, max(1, d_model // 128)),
        attention_layers=layers,
        window=None,
        global_every=1,
        head=0.0,
    )


def names() -> list[str]:
    """Every model of the table."""
    return [shape.name for _, shape in _table()]


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], Shape], ...]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            (re.compile(f"{re.escape(words(r['name']))}|{r['match']}"), _shape(r))
            for r in csv.DictReader(stream)
        )


def _shape(record: Mapping[str, str]) -> Shape:
    def number(column: str, default: int = 0) -> int:
        return int(record[column]) if record[column] else default

    d, heads, kv, width = (number(c) for c in ("d_model", "heads", "kv_heads", "head_dim"))
    layers, dense = number("layers"), number("dense_layers")
    attention_layers = number("attention_layers", layers)
    gated = record["gated"] != "0"
    mlp = 3 if gated else 2
    if record["mla_q_lora"]:
        attention, kv_layer = _latent_attention(d, heads, width, number("mla_q_lora"))
    else:
        attention, kv_layer = d * (2 * heads + 2 * kv) * width, 2 * kv * width
    experts, top_k = number("experts"), number("top_k")
    params = float(record["params_b"]) * 1e9
    head, forward = number("vocab") * d, 0
    if record["active_b"] and record["attention_layers"]:  # a hybrid: no closed form here
        active = float(record["active_b"]) * 1e9
        experts_total = params - 0.4 * active
    elif record["active_b"]:
        expert = mlp * d * number("d_expert")
        sparse = layers - dense
        experts_total = float(expert * experts * sparse)
        forward = sparse * expert * (top_k + number("shared_experts"))
        forward += dense * mlp * d * number("d_ffn")
        active = float(layers * attention + forward + sparse * d * experts + head)
    else:
        experts_total = 0.0
        forward = layers * mlp * d * number("d_ffn")
        active = float(layers * attention + forward + head)
    return Shape(
        name=record["name"],
        known=True,
        params=params,
        active=active,
        experts_total=experts_total,
        experts=experts,
        top_k=top_k,
        d_expert=number("d_expert"),
        d_routed=number("d_latent", d),
        gated=gated,
        layers=layers,
        d_model=d,
        heads=heads,
        head_dim=width,
        kv_per_token=float(attention_layers * kv_layer),
        kv_heads=0 if record["mla_q_lora"] else kv,
        attention_layers=attention_layers,
        window=number("window") or None,
        global_every=number("global_every", 1),
        head=float(head),
        gelu_gates=forward / 3 if record["gated"] == "gelu" else 0.0,
        ahead=number("ahead"),
    )


def _latent_attention(d: int, heads: int, width: int, q_lora: int) -> tuple[int, int]:
    """(parameters, cached values) of one multi-head latent attention layer, DeepSeek-V2/V3:
    512 compressed key/value values and 64 rotary ones cached, heads of 128 + 64."""
    query = d * q_lora + q_lora * heads * (width + 64) if q_lora else d * heads * (width + 64)
    compressed = d * (512 + 64) + 512 * heads * 2 * width
    return query + compressed + heads * width * d, 512 + 64
