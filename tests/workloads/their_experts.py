"""Mixtures of experts of transformers beside the same by our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from tpubench.workloads.llama.config import (
    Experts,
    Latent,
    LlamaConfig,
)
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.rope import RopeScaling, yarn_magnitude
from tpubench.workloads.llama.weights import Piece

CONFIG = LlamaConfig(
    d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=16, d_ffn=96, vocab=257,
    tied=False, rope_theta=10_000.0, experts=Experts(routed=8, top_k=2, d_ffn=96),
)  # fmt: skip
MODELS: dict[str, tuple[LlamaConfig, dict[str, Any]]] = {
    "Mixtral": (
        CONFIG,
        {"kind": "Mixtral", "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1e4,
         "sliding_window": None},
    ),
    "Qwen3-MoE": (
        replace(CONFIG, qk_norm=True, experts=Experts(routed=8, top_k=3, d_ffn=40)),
        {"kind": "Qwen3Moe", "num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": True,
         "moe_intermediate_size": 40, "head_dim": 16},
    ),
    "Qwen3-MoE, first layer dense, gates as they are": (
        replace(
            CONFIG,
            qk_norm=True,
            experts=Experts(routed=8, top_k=3, d_ffn=40, normalised=False, dense_layers=1),
        ),
        {"kind": "Qwen3Moe", "num_experts": 8, "num_experts_per_tok": 3, "norm_topk_prob": False,
         "moe_intermediate_size": 40, "head_dim": 16, "mlp_only_layers": [0]},
    ),
}  # fmt: skip


LATENT: dict[str, tuple[LlamaConfig, dict[str, Any]]] = {
    "DeepSeek-V2, compressed queries": (
        replace(
            CONFIG,
            n_kv_heads=4,
            norm_eps=1e-6,
            experts=Experts(
                routed=8, top_k=3, d_ffn=40, shared=2, normalised=False, dense_layers=1
            ),
            latent=Latent(kv_rank=24, rope_dim=8, q_rank=32),
        ),
        {"q_lora_rank": 32},
    ),
    "DeepSeek-V2-Lite, YaRN": (
        replace(
            CONFIG,
            n_kv_heads=4,
            norm_eps=1e-6,
            rope_scaling=RopeScaling(kind="yarn", factor=4.0, original_context=64),
            experts=Experts(routed=8, top_k=3, d_ffn=40, shared=2, normalised=False),
            latent=Latent(kv_rank=24, rope_dim=8, magnitude=yarn_magnitude(4.0, 0.707)),
        ),
        {
            "q_lora_rank": None,
            "first_k_dense_replace": 0,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "mscale": 0.707,
                "mscale_all_dim": 0.707, "original_max_position_embeddings": 64,
                "beta_fast": 32, "beta_slow": 1,
            },
        },
    ),
}  # fmt: skip
SIZES_OF_LATENT: dict[str, Any] = {
    "kind": "DeepseekV2", "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "kv_lora_rank": 24,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16, "n_routed_experts": 8,
    "n_shared_experts": 2, "num_experts_per_tok": 3, "moe_intermediate_size": 40,
    "first_k_dense_replace": 1, "norm_topk_prob": False, "topk_method": "greedy",
}  # fmt: skip
for _name, (_config, _changes) in LATENT.items():
    MODELS[_name] = (_config, {**SIZES_OF_LATENT, **_changes})


def latent_attention(
    config: LlamaConfig, layer: Mapping[str, torch.Tensor], prefix: str
) -> dict[str, torch.Tensor]:
    """Weights of latent attention by our names: theirs rotates adjacent pairs, ours halves."""
    latent = config.latent
    assert latent is not None
    R, N = latent.rope_dim, config.n_heads
    halves = torch.cat((torch.arange(0, R, 2), torch.arange(1, R, 2)))

    def turned(rows: torch.Tensor, plain: int) -> torch.Tensor:
        """Of so many equal groups of rows, the last R of each in our order."""
        return torch.cat((rows[:, :plain], rows[:, plain:][:, halves]), dim=1).flatten(0, 1)

    query = layer[f"{prefix}q_b_proj.weight" if latent.q_rank else f"{prefix}q_proj.weight"]
    both = layer[f"{prefix}kv_a_proj_with_mqa.weight"]
    ours = {
        "attention.q_b" if latent.q_rank else "attention.q": turned(
            query.view(N, -1, query.shape[1]), config.head_dim
        ),
        "attention.kv_a": turned(both.unsqueeze(0), latent.kv_rank),
        "attention.kv_a_norm": layer[f"{prefix}kv_a_layernorm.weight"],
        "attention.kv_b": layer[f"{prefix}kv_b_proj.weight"],
        "attention.out": layer[f"{prefix}o_proj.weight"],
    }
    if latent.q_rank:
        ours["attention.q_a"] = layer[f"{prefix}q_a_proj.weight"]
        ours["attention.q_a_norm"] = layer[f"{prefix}q_a_layernorm.weight"]
    return ours


class Theirs:
    """Weights of a transformers model by our names: a source, as a checkpoint is."""

    def __init__(self, config: LlamaConfig, model: Any, *, gradients: bool = False) -> None:
        """gradients: the weights' gradients in their place."""
        self.config, state = config, model.state_dict()
        if gradients:
            state = {name: parameter.grad for name, parameter in model.named_parameters()}
        self.weights = {
            "embedding.weight": state["model.embed_tokens.weight"],
            "norm.weight": state["model.norm.weight"],
            "head.weight": state["lm_head.weight"],
        }
        for index in range(config.n_layers):
            layer = {
                name.removeprefix(f"model.layers.{index}."): value
                for name, value in state.items()
                if name.startswith(f"model.layers.{index}.")
            }
            ours = {
                "attention_norm": layer["input_layernorm.weight"],
                "ffn_norm": layer["post_attention_layernorm.weight"],
            }
            if config.latent is not None:
                ours |= latent_attention(config, layer, "self_attn.")
            else:
                qkv = [layer[f"self_attn.{name}_proj.weight"] for name in "qkv"]
                ours |= {
                    "attention.qkv": torch.cat(qkv),
                    "attention.out": layer["self_attn.o_proj.weight"],
                }
            if config.qk_norm:
                ours |= {f"attention.{n}_norm": layer[f"self_attn.{n}_norm.weight"] for n in "qk"}
            if config.has_experts(index):
                ours |= {
                    "ffn.router": layer["mlp.gate.weight"],
                    "ffn.gate_up": layer["mlp.experts.gate_up_proj"].flatten(0, 1),
                    "ffn.down": layer["mlp.experts.down_proj"].flatten(0, 1),
                }
                correction = layer.get("mlp.gate.e_score_correction_bias")
                ours |= {} if correction is None else {"ffn.correction": correction}
                shared = "mlp.shared_experts."
                if config.experts is not None and config.experts.shared:
                    both = [layer[f"{shared}{name}_proj.weight"] for name in ("gate", "up")]
                    ours |= {
                        "ffn.shared.gate_up": torch.cat(both),
                        "ffn.shared.down": layer[f"{shared}down_proj.weight"],
                    }
            else:
                both = [layer["mlp.gate_proj.weight"], layer["mlp.up_proj.weight"]]
                ours |= {"ffn.gate_up": torch.cat(both), "ffn.down": layer["mlp.down_proj.weight"]}
            self.weights |= {f"blocks.{index}.{name}.weight": v for name, v in ours.items()}

    def identity(self) -> dict[str, object]:
        return {"config": self.config.to_json()}

    def pieces(self, name: str) -> Any:
        piece: Piece = (0, self.weights[name])
        return iter([piece])

    def model(self) -> Llama:
        model = Llama(self.config, 128, torch.float32)
        model.load_state_dict(self.weights)
        return model.eval()
