"""Public decoders by name, and the shape that a size alone implies.

``decoders.csv`` holds public configurations (each model's ``config.json``, checked in the tests
against the stated number of parameters). A model that is not in the table gets the shape that its
size implies, and says so: :attr:`Decoder.known` is False, and an estimate's interval widens.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Mapping
from pathlib import Path

from tpubench.suite.decoder import Decoder

_TABLE = Path(__file__).with_name("decoders.csv")


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


def find_decoder(name: str, params: float | None = None) -> Decoder | None:
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


def derived(name: str, params: float, active: float | None = None) -> Decoder:
    """The usual shape of a model of that size: width 128 × depth, grouped queries of 8."""
    used = active or params
    layers = max(4, round((used / (12 * 128**2)) ** (1 / 3)))
    d_model = 128 * layers
    experts = 0 if active is None else max(8, round(8 * (params - 0.4 * used) / (0.6 * used)))
    return Decoder(
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


def public_sizes(name: str) -> dict[str, int]:
    """Whole numbers of a row of the table, by column; 0 where a model has none of it."""
    (record,) = (r for r in _records() if r["name"] == name)
    return {k: int(v) if v else 0 for k, v in record.items() if not v or v.isdigit()}


@functools.cache
def _records() -> tuple[dict[str, str], ...]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(csv.DictReader(stream))


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], Decoder], ...]:
    return tuple(
        (re.compile(f"{re.escape(words(r['name']))}|{r['match']}"), _shape(r)) for r in _records()
    )


def _shape(record: Mapping[str, str]) -> Decoder:
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
    return Decoder(
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
