"""The timed program of ``llama-lora``: a training step that moves the adapters alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from tpubench.suite.workload import Case, Device
from tpubench.workloads.llama.config import LlamaConfig
from tpubench.workloads.llama.reference import Place
from tpubench.workloads.llama.weights import Drawn
from tpubench.workloads.llama_lora.adapters import DrawnAdapters, Lora
from tpubench.workloads.llama_lora.model import adapt
from tpubench.workloads.llama_pretrain.model import TrainedLlama
from tpubench.workloads.llama_pretrain.reference import Get, settings_of
from tpubench.workloads.llama_pretrain.step import (
    TrainStep,
    count_of,
    drawn_tokens,
    fill,
    plain_model,
)


class LoraStep(TrainStep):
    """Forward, backward through the frozen base, and AdamW on the adapters."""

    weights: DrawnAdapters

    def plain_weights(self, get: Get) -> Get:
        return self.weights.lora.plain_weights(get)

    def own_gradients(
        self, get: Get, named: Iterator[tuple[str, Tensor]], place: Place
    ) -> Iterator[tuple[str, Tensor]]:
        return self.weights.lora.own_gradients(get, named, place)


def build(case: Case, config: LlamaConfig, device: Device) -> LoraStep:
    """Model, optimizer and batch of ``case`` on ``device``, all from its seed."""
    tokens_BL = drawn_tokens(case, config, device)
    seed, where = case.number("seed"), device.torch_device
    lora = Lora(config=config, rank=case.number("rank"), alpha=case.number("alpha"))
    with torch.device("meta"):
        model = adapted_model(case, config)
    weights = DrawnAdapters(Drawn(config, seed, where), lora, seed, model.dtype)
    fill(model, weights, device)
    accumulate = case.number("accumulate")
    return LoraStep(model, tokens_BL, device, weights, settings_of(case), accumulate)


def adapted_model(case: Case, config: LlamaConfig) -> TrainedLlama:
    """The model of ``case``, to be made on the meta device."""
    model = plain_model(case, config)
    adapt(model, case.number("rank"), case.number("alpha"))
    return model


def count(case: Case, config: LlamaConfig) -> Mapping[str, int]:
    """FLOPs and bytes of one step, counted on meta tensors; attention as if not causal."""
    with torch.device("meta"):
        return count_of(adapted_model(case, config), case)
