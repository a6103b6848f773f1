"""How the weights of a layer are divided among chips that work on it together.

Each chip holds whole heads and a slice of the feed-forward, of every expert too: projections that
make heads or features are cut by rows, those that read them by columns. What latent attention
compresses to, routers and norms are whole on each.
"""

from __future__ import annotations

from tpubench.workloads.llama.config import LlamaConfig


def by_rows(config: LlamaConfig, layer: int) -> dict[str, list[int]]:
    """Projections of that layer to the parts, one behind another, that their rows make; a chip
    holds a slice of each part."""
    heads, width = config.n_heads, config.n_heads * config.head_dim
    if config.latent is None:
        kept = config.n_kv_heads * config.head_dim
        cut = {"attention.qkv": [width, kept, kept]}
    else:
        turned = heads * (config.head_dim + config.latent.rope_dim)
        query = "attention.q_b" if config.latent.q_rank else "attention.q"
        cut = {query: [turned], "attention.kv_b": [2 * width]}
    experts = config.experts
    if experts is None or not config.has_experts(layer):
        return cut | {"ffn.gate_up": [config.d_ffn, config.d_ffn]}
    shared = experts.shared * experts.d_ffn
    return cut | {
        "ffn.gate_up": [experts.d_ffn] * (2 * experts.routed),
        "ffn.shared.gate_up": [shared, shared],
    }


def by_columns(config: LlamaConfig, layer: int) -> dict[str, int]:
    """Projections of that layer to the features that they read; a chip holds a slice of them."""
    cut = {"attention.out": config.n_heads * config.head_dim}
    experts = config.experts
    if experts is None or not config.has_experts(layer):
        return cut | {"ffn.down": config.d_ffn}
    return cut | {"ffn.down": experts.d_ffn, "ffn.shared.down": experts.shared * experts.d_ffn}
