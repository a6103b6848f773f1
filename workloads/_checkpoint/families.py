"""Model families of Hugging Face folders: what their checkpoints call things, and in which order.

The program turns value i of a head with value i + H/2, the first R/2 of those pairs where only R of
H values turn. Checkpoints store the rows of query and key heads in orders of their own; scores of
attention do not change with the order, if both have the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tpubench.workloads.llama.config import LlamaConfig

_PLAIN = {
    "embedding": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "head": "lm_head.weight",
    "attention_norm": "model.layers.{layer}.input_layernorm.weight",
    "ffn_norm": "model.layers.{layer}.post_attention_layernorm.weight",
    "q": "model.layers.{layer}.self_attn.q_proj.{kind}",
    "k": "model.layers.{layer}.self_attn.k_proj.{kind}",
    "v": "model.layers.{layer}.self_attn.v_proj.{kind}",
    "o": "model.layers.{layer}.self_attn.o_proj.{kind}",
    "q_norm": "model.layers.{layer}.self_attn.q_norm.weight",
    "k_norm": "model.layers.{layer}.self_attn.k_norm.weight",
    "gate": "model.layers.{layer}.mlp.gate_proj.{kind}",
    "up": "model.layers.{layer}.mlp.up_proj.{kind}",
    "down": "model.layers.{layer}.mlp.down_proj.{kind}",
}
_FUSED_QKV = {"qkv": "model.layers.{layer}.self_attn.qkv_proj.{kind}"}
_FUSED_GATE = {"gate_up": "model.layers.{layer}.mlp.gate_up_proj.{kind}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """architecture: the one class whose arithmetic the program has. partial_rotary: the share of
    each head that turns where the file does not say; None where all of it must. interleaved: a
    pair that turns lies together, not half of them apart."""

    architecture: str
    names: Mapping[str, str]
    partial_rotary: float | None = None
    interleaved: bool = False


FAMILIES = {
    "llama": Family(architecture="LlamaForCausalLM", names=_PLAIN),
    "mistral": Family(architecture="MistralForCausalLM", names=_PLAIN),
    "qwen2": Family(architecture="Qwen2ForCausalLM", names=_PLAIN),
    "qwen3": Family(architecture="Qwen3ForCausalLM", names=_PLAIN),
    "phi3": Family(
        architecture="Phi3ForCausalLM",
        names={**_PLAIN, **_FUSED_QKV, **_FUSED_GATE},
        partial_rotary=1.0,
    ),
    "glm": Family(
        architecture="GlmForCausalLM",
        names={**_PLAIN, **_FUSED_GATE},
        partial_rotary=0.5,
        interleaved=True,
    ),
}
"""By ``model_type``."""


def row_order(family: Family, config: LlamaConfig, name: str) -> list[int] | None:
    """Stored row of each of the program's rows of a tensor; None where they are the same."""
    H, R = config.head_dim, config.turned_dim or config.head_dim
    if R == H and not family.interleaved:
        return None
    projection = name.split(".")[-2]
    heads = {
        "q_proj": config.n_heads,
        "k_proj": config.n_kv_heads,
        "qkv_proj": config.n_heads + config.n_kv_heads,
    }.get(projection)
    if heads is None:
        return None
    first = range(0, R, 2) if family.interleaved else range(R // 2)
    second = range(1, R, 2) if family.interleaved else range(R // 2, R)
    middle = R + (H - R) // 2
    head = [*first, *range(R, middle), *second, *range(middle, H)]
    turned = [index * H + row for index in range(heads) for row in head]
    values = config.n_kv_heads * H if projection == "qkv_proj" else 0
    return turned + [len(turned) + row for row in range(values)]
