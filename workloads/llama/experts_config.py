"""Shapes of mixture-of-experts models: public configurations, each from its config.json.

The arithmetic is that of ``config.py``, where experts are a part of the configuration.
"""

from __future__ import annotations

from dataclasses import replace

from tpubench.workloads.llama.config import (
    Experts,
    Latent,
    LlamaConfig,
    public,
    public_experts,
)
from tpubench.workloads.llama.rope import RopeScaling, yarn_magnitude

PRESETS: dict[str, LlamaConfig] = {
    "mixtral-8x7b": public(
        "mixtral-8x7b", rope_theta=1_000_000.0, max_context=32768,
        experts=public_experts("mixtral-8x7b"),
    ),
    "qwen3-30b-a3b": public(
        "qwen3-30b-a3b", rope_theta=1_000_000.0, norm_eps=1e-6, max_context=40960,
        qk_norm=True, experts=public_experts("qwen3-30b-a3b"),
    ),
    "deepseek-moe-16b": LlamaConfig(
        d_model=2048, n_layers=28, n_heads=16, n_kv_heads=16, head_dim=128, d_ffn=10944,
        vocab=102400, tied=False, rope_theta=10_000.0, norm_eps=1e-6, max_context=4096,
        experts=Experts(
            routed=64, top_k=6, d_ffn=1408, shared=2, normalised=False, dense_layers=1
        ),
    ),
    "deepseek-v2-lite": public(
        "deepseek-v2-lite", rope_theta=10_000.0, norm_eps=1e-6, max_context=163840,
        rope_scaling=RopeScaling(kind="yarn", factor=40.0, original_context=4096),
        experts=public_experts("deepseek-v2-lite", normalised=False),
        latent=Latent(kv_rank=512, rope_dim=64, magnitude=yarn_magnitude(40.0, 0.707)),
    ),
    "deepseek-v3": public(
        "deepseek-v3", rope_theta=10_000.0, norm_eps=1e-6, max_context=163840,
        rope_scaling=RopeScaling(kind="yarn", factor=40.0, original_context=4096),
        experts=replace(
            public_experts("deepseek-v3"), scoring="sigmoid", groups=8, top_groups=4, scale=2.5
        ),
        latent=Latent(
            kv_rank=512, rope_dim=64, q_rank=1536, magnitude=yarn_magnitude(40.0, 1.0)
        ),
    ),
    "cpu-20m": LlamaConfig(
        d_model=256, n_layers=4, n_heads=4, n_kv_heads=2, head_dim=64, d_ffn=1024,
        vocab=16384, tied=True, rope_theta=10_000.0, max_context=8192,
        qk_norm=True, experts=Experts(routed=8, top_k=2, d_ffn=512, shared=1),
    ),
    "tiny": LlamaConfig(
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ffn=128,
        vocab=256, tied=True, rope_theta=10_000.0, max_context=2048,
        qk_norm=True,
        experts=Experts(
            routed=8, top_k=2, d_ffn=32, shared=1, normalised=True, dense_layers=1
        ),
    ),
    "tiny-latent": LlamaConfig(
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=4, head_dim=16, d_ffn=128,
        vocab=256, tied=True, rope_theta=10_000.0, max_context=2048,
        experts=Experts(
            routed=8, top_k=2, d_ffn=32, shared=1, normalised=False, dense_layers=1
        ),
        latent=Latent(kv_rank=24, rope_dim=8, q_rank=32),
    ),
    "tiny-grouped": LlamaConfig(
        d_model=64, n_layers=2, n_heads=4, n_kv_heads=4, head_dim=16, d_ffn=128,
        vocab=256, tied=True, rope_theta=10_000.0, max_context=2048,
        experts=Experts(
            routed=16, top_k=4, d_ffn=32, shared=1, dense_layers=1, scoring="sigmoid",
            groups=4, top_groups=2, scale=2.5,
        ),
        latent=Latent(kv_rank=24, rope_dim=8, q_rank=32),
    ),
}  # fmt: skip
"""``cpu-20m`` is nobody's model: a size that a CPU ends in seconds. Those called tiny are
for tests only."""
