"""``moe-pretrain``: a training step of a mixture-of-experts model.

The step of ``llama-pretrain`` (float32 master weights, AdamW, its options) with the mixtures of
``moe-infer`` in place of feed-forwards, and the auxiliary loss that keeps experts evenly used.
Matrix products take a token's own experts alone; the optimizer moves every weight of all of them.

    tpubench run --workload moe-pretrain --preset qwen3-30b-a3b --set layers=4
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Decoder,
    Device,
    Parameter,
    Program,
    Step,
    UsageError,
    Weights,
    Work,
)
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama.config import decoder
from tpubench.workloads.llama.experts_config import PRESETS
from tpubench.workloads.llama_pretrain import LlamaPretrain, model_trained, more_bytes

_PRESETS = {
    name: config
    for name, config in PRESETS.items()
    if config.experts is None or not config.experts.corrected
}
"""A correction is moved by how many tokens its expert took, and by no gradient: not yet here."""
_SUBSETS = {"mixtral-8x7b": 2, "qwen3-30b-a3b": 4, "deepseek-moe-16b": 5, "deepseek-v2-lite": 5}
"""Layers trained unless ``layers`` says otherwise: 45 to 51 GB of weights and optimizer."""
_BALANCE: Mapping[str, dict[str, int | str]] = {
    "mixtral-8x7b": {"balance": "pooled", "balance_weight": "0.02"},
    "qwen3-30b-a3b": {"balance": "pooled", "balance_weight": "0.001"},
    "deepseek-moe-16b": {"balance": "sequence", "balance_weight": "0.001"},
    "deepseek-v2-lite": {"balance": "sequence", "balance_weight": "0.001"},
}
"""The auxiliary loss of each model's own configuration; ``balance.py`` says where it stands."""


class MoePretrain(LlamaPretrain):
    """Pretraining steps of a mixture-of-experts model."""

    name = "moe-pretrain"
    version = 1
    summary = "mixture-of-experts training step: routed forward and backward, AdamW"
    presets: ClassVar = {
        name: f"{config.n_params / 1e9:.3g} B parameters, {config.used_params / 1e9:.3g} B a token"
        + (f"; {_SUBSETS[name]} of {config.n_layers} layers by default" if name in _SUBSETS else "")
        for name, config in _PRESETS.items()
    }
    parameters: ClassVar = {
        **LlamaPretrain.parameters,
        "seq_len": Parameter(default=4096, minimum=2, doc="tokens a sequence"),
        "balance": Parameter(
            default="pooled",
            choices=("none", "pooled", "sequence"),
            doc="auxiliary loss: over all layers (Mixtral, Qwen3), or by sequence (DeepSeek)",
        ),
        "balance_weight": Parameter(
            default="0.01",
            choices=("0.0001", "0.001", "0.01", "0.02", "0.1"),
            doc="what the auxiliary loss counts beside the other",
        ),
    }

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return "qwen3-30b-a3b", "4 of its 48 layers: 50 GB of training state"
        return "cpu-20m", "a size that a CPU ends in seconds; nobody's model"

    def shape(self, preset: str) -> Mapping[str, object]:
        return _PRESETS[preset].to_json()

    def decoder(self, preset: str) -> Decoder | None:
        return decoder(preset, _PRESETS)

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        layers: dict[str, int | str] = {
            "layers": _SUBSETS.get(preset, 0),
            **_BALANCE.get(preset, {}),
        }
        if preset.startswith("tiny"):
            return [{"batch": 2, "seq_len": 64, **layers}]
        return [layers if accelerator else {"seq_len": 128, **layers}]

    def validate(self, case: Case) -> None:
        super().validate(case)
        experts = model_trained(case).experts
        if experts is not None and model_trained(case).n_layers <= experts.dense_layers:
            raise UsageError(
                f"layers={case.number('layers')}: the first layers of {case.preset} have no"
                f" experts, give at least {experts.dense_layers + 1}"
            )

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        if device.shard is not None and device.ranks == 1:
            # Its compiler aborts when it divides a sorted batch (torch_xla 2.9 on PJRT CPU).
            raise UsageError(
                f"{self.name} is spread over chips by a process for each, and XLA's SPMD has one"
                " for all: ask for one chip, or for backend tpu"
            )
        from tpubench.workloads.moe_pretrain.step import build

        return build(case, model_trained(case), device)

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        if chips > 1:
            raise UsageError(f"{self.name} is not compiled for several chips yet: ask for one")
        from tpubench.workloads.moe_pretrain.program import program

        return program(case, replace(model_trained(case), n_layers=depth))

    def work(self, case: Case) -> Work:
        """A token's own experts are multiplied; what any token took is read; all of it is moved."""
        config = model_trained(case)
        batch, length = case.number("batch"), case.number("seq_len")
        size, tokens = DTYPES[case.dtype], batch * length // case.number("accumulate")
        weight_bytes = arithmetic.weight_bytes(config, size, tokens)
        return Work(
            items=batch * length,
            unit="token",
            flops=arithmetic.train_flops(config, batch, length),
            bytes=arithmetic.train_bytes(config, size, tokens)
            + more_bytes(case, weight_bytes, config.n_params),
        )

    def count(self, case: Case) -> Mapping[str, int]:
        from tpubench.workloads.moe_pretrain.step import count

        return count(case, model_trained(case))
