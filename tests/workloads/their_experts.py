"""Mixtures of experts of transformers beside the same by our names."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tpubench.workloads.llama.config import Experts, LlamaConfig
from tpubench.workloads.llama.model import Llama
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
                "attention.qkv": torch.cat([layer[f"self_attn.{n}_proj.weight"] for n in "qkv"]),
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
