"""Latent attention: what transformers computes, what is cached, and no fault that goes unseen.

Whole models are held to transformers' DeepSeek-V2 in ``test_moe.py`` and ``test_moe_pretrain.py``;
here stand DeepSeek-V3's attention, the cache's bytes, and the defects of ``latent_defects.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from their_experts import CONFIG, latent_attention
from transformers.cache_utils import DynamicCache
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3Attention,
    DeepseekV3Config,
    DeepseekV3RotaryEmbedding,
)

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from latent_defects import DEFECTS, case
from llama_defects import none, outcome

from tpubench.suite import registry
from tpubench.suite.parity import Parity
from tpubench.suite.reference_cache import ReferenceCache
from tpubench.suite.workload import Case, Weights
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama.config import Latent, LlamaConfig
from tpubench.workloads.llama.experts_config import PRESETS
from tpubench.workloads.llama.latent import CachedLatentAttention
from tpubench.workloads.llama.model import KVCache, attention, rope_tables
from tpubench.workloads.llama.quantized import FLOAT32
from tpubench.workloads.llama.step import LlamaStep

SIZES = {"batch": 3, "input_len": 16, "output_len": 8}
DEPTH, WIDTH = 6, 64


@pytest.mark.parametrize("q_rank", [32, 0], ids=["compressed queries", "plain queries"])
def test_a_prompt_and_the_steps_after_it_attend_as_deepseek_v3_does(q_rank: int) -> None:
    config = replace(
        CONFIG, n_kv_heads=4, norm_eps=1e-6, latent=Latent(kv_rank=24, rope_dim=8, q_rank=q_rank)
    )
    settings = DeepseekV3Config(
        hidden_size=64, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=q_rank or None,
        kv_lora_rank=24, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16,
        max_position_embeddings=128, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        attn_implementation="eager", num_hidden_layers=1,
    )  # fmt: skip
    theirs = DeepseekV3Attention(settings, layer_idx=0).float().eval()
    generator = torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.15, generator=generator)
    ours = attention(config, FLOAT32)
    assert isinstance(ours, CachedLatentAttention)
    named = latent_attention(config, theirs.state_dict(), "")
    ours.load_state_dict(
        {f"{name.removeprefix('attention.')}.weight": value for name, value in named.items()}
    )
    cache, kept = DynamicCache(), KVCache(config, 2, 32, torch.float32).layer(0)
    cos, sin = rope_tables(config, 32, torch.float32, torch.device("cpu"))
    x_BLD, turn = torch.randn(2, 20, 64, generator=generator), DeepseekV3RotaryEmbedding(settings)
    for first, last in [(0, 16), *((at, at + 1) for at in range(16, 20))]:
        at, x = torch.arange(first, last), x_BLD[:, first:last]
        mask = torch.zeros(last - first, last).masked_fill(
            torch.arange(last) > at.unsqueeze(1), float("-inf")
        )
        with torch.no_grad():
            right, _ = theirs(x, turn(x, at.unsqueeze(0)), mask[None, None], cache)
            seen = ours(x, (cos[at], sin[at]), kept[:1], at, None, last)
        torch.testing.assert_close(seen, right, rtol=1e-4, atol=1e-5)


def test_a_token_costs_576_values_a_layer() -> None:
    config = PRESETS["deepseek-v2-lite"]
    assert config.kv_bytes_per_token(2) == 27 * (512 + 64) * 2 == 31104
    heads = replace(config, latent=None)
    assert heads.kv_bytes_per_token(2) == 27 * 2 * 16 * 128 * 2, "7.1 times as much without it"
    with torch.device("meta"):
        cache = KVCache(config, 1, 10, torch.bfloat16)
    held = sum(buffer.nbytes for buffer in cache.buffers() if buffer.is_floating_point())
    assert held == 10 * config.kv_bytes_per_token(2)
    keys = arithmetic.decode_bytes(config, 1, 1001, 2) - arithmetic.decode_bytes(config, 1, 1, 2)
    assert keys == 1000 * 31104


def test_a_decode_step_meets_the_cache_as_it_is() -> None:
    """576 values compared and 512 summed for each of 16 heads and each cached token."""
    config = PRESETS["deepseek-v2-lite"]
    more = arithmetic.decode_flops(config, 1, 1001) - arithmetic.decode_flops(config, 1, 1)
    assert more == 1000 * 27 * 16 * 2 * (576 + 512)
    long, short = (arithmetic.prefill_flops(config, 1, n, causal=False) for n in (2000, 1000))
    products = 1000 * 2 * config.active_params
    assert long - short - products == 27 * 16 * 2 * (192 + 128) * (2000**2 - 1000**2)


def test_its_shape_is_kept_as_json_and_others_are_as_they_were() -> None:
    for config in PRESETS.values():
        assert LlamaConfig.from_json(config.to_json()) == config
        assert ("latent" in config.to_json()) == (config.latent is not None)


def judged(
    asked: Case, defect: Callable[[LlamaStep], None], cache: ReferenceCache
) -> dict[str, Parity]:
    return {p.name: p for p in outcome(registry.workload("moe-infer"), asked, defect, cache)}


@pytest.mark.parametrize(("dtype", "q_rank"), [("bfloat16", 32), ("float32", 32), ("bfloat16", 0)])
def test_a_correct_program_passes(dtype: str, q_rank: int, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, q_rank=q_rank, dtype=dtype, **SIZES), none, cache)
    assert len(checks) == 7
    for check in checks.values():
        assert check.ok, check.fault()
    assert checks["float32 twin"].error < 1e-5
    assert checks["poisoned cache"].error == 0


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_caught(name: str, cache: ReferenceCache) -> None:
    checks = judged(case(DEPTH, WIDTH, dtype="bfloat16", **SIZES), DEFECTS[name], cache)
    assert "float32 twin" in {name for name, check in checks.items() if not check.ok}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_its_training_passes_every_check(dtype: str, cache: ReferenceCache) -> None:
    workload = registry.workload("moe-pretrain")
    settings = {"dtype": [dtype], "batch": ["4"], "seq_len": ["32"], "accumulate": ["2"]}
    (asked,) = workload.cases("tiny-latent", {**settings, "balance_weight": ["0.1"]})
    checks = outcome(workload, workload.prepare(asked, Weights()), none, cache)
    assert len(checks) == 8
    for check in checks:
        assert check.ok, check.fault()
