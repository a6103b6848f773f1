"""``llama-lora``: one step of fine-tuning low-rank adapters on a frozen model.

The base is held in ``dtype`` and does not move; the adapters of every projection, float32, do, by
AdamW. Gradients go back through the base, none of its own weights has any. Tokens are random.

    tpubench run --workload llama-lora --preset llama-3.1-8b --set batch=4
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
    Weights,
    Work,
)
from tpubench.workloads.llama.config import PRESETS, weight_bytes
from tpubench.workloads.llama_lora import arithmetic
from tpubench.workloads.llama_pretrain import LlamaPretrain, model_trained, more_bytes


class LlamaLora(LlamaPretrain):
    """Fine-tuning steps of low-rank adapters on a Llama-family model."""

    name = "llama-lora"
    version = 1
    summary = "Llama fine-tuning step: low-rank adapters on a frozen base, AdamW"
    presets: ClassVar = {
        name: f"{config.n_params / 1e9:.3g} B frozen parameters"
        for name, config in PRESETS.items()
        if name != "llama-3.1-405b"
    }
    parameters: ClassVar = {
        **LlamaPretrain.parameters,
        "rank": Parameter(default=16, minimum=1, doc="rank of each adapter"),
        "alpha": Parameter(default=32, minimum=1, doc="an adapter counts alpha / rank times"),
    }

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return "llama-3.1-8b", "16 GB of frozen weights, 0.7 GB of adapters"
        return "llama-3.2-1b", "the standard size for a CPU; smollm2-135m is quicker"

    def decoder(self, preset: str) -> Decoder | None:
        """None: what is known of training a whole decoder is not known of its adapters."""
        del preset
        return None

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"batch": 2, "seq_len": 64}]
        return [{} if accelerator else {"seq_len": 128}]

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        from tpubench.workloads.llama_lora.step import build

        return build(case, model_trained(case), device)

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        from tpubench.workloads.llama_lora.model import adapt
        from tpubench.workloads.llama_pretrain.program import program

        rank, alpha = case.number("rank"), case.number("alpha")
        config = replace(model_trained(case), n_layers=depth)
        return program(case, config, chips=chips, change=lambda model: adapt(model, rank, alpha))

    def work(self, case: Case) -> Work:
        config, rank = model_trained(case), case.number("rank")
        batch, length = case.number("batch"), case.number("seq_len")
        size, adapters = DTYPES[case.dtype], arithmetic.adapter_params(config, rank)
        return Work(
            items=batch * length,
            unit="token",
            flops=arithmetic.step_flops(config, rank, batch, length),
            bytes=arithmetic.step_bytes(config, rank, size)
            + more_bytes(case, weight_bytes(config, size) + size * adapters, adapters),
        )

    def memory_bytes(self, case: Case) -> int:
        """The frozen weights in ``dtype``; adapters, gradients and two moments in float32."""
        config = model_trained(case)
        return arithmetic.held_bytes(config, case.number("rank"), DTYPES[case.dtype])

    def count(self, case: Case) -> Mapping[str, int]:
        from tpubench.workloads.llama_lora.step import count

        return count(case, model_trained(case))
