"""``moe-infer``: prefill and greedy decoding of a mixture-of-experts model.

The program is that of ``llama-infer`` but for its feed-forwards: a router sends each token to a few
of many experts, and no token is ever dropped. At a batch, a decode step reads the experts that any
of its tokens took; how many that is on average is part of the work that is counted.

    tpubench run --workload moe-infer --preset mixtral-8x7b --set batch=1,8,64
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Decoder,
    Parameter,
    Program,
    UsageError,
    Weights,
)
from tpubench.workloads.llama.config import decoder
from tpubench.workloads.llama.experts_config import PRESETS
from tpubench.workloads.llama.infer import LlamaInfer


class MoeInfer(LlamaInfer):
    """Greedy generation with a mixture of experts."""

    name = "moe-infer"
    version = 1
    summary = "mixture-of-experts prefill and greedy decode, no token dropped"
    presets: ClassVar = {
        name: f"{config.n_params / 1e9:.3g} B parameters, {config.used_params / 1e9:.3g} B a token"
        for name, config in PRESETS.items()
    }
    parameters: ClassVar = {
        **LlamaInfer.parameters,
        "dtype": Parameter(
            default="bfloat16", choices=tuple(DTYPES), doc="precision of weights and activations"
        ),
    }
    takes_prompt = False

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return "qwen3-30b-a3b", "61 GB in bfloat16: the size for one accelerator"
        return "cpu-20m", "a size that a CPU ends in seconds; nobody's model"

    def shape(self, preset: str) -> Mapping[str, object]:
        return PRESETS[preset].to_json()

    def decoder(self, preset: str) -> Decoder | None:
        return decoder(preset, PRESETS)

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if accelerator or preset.startswith("tiny"):
            return super().standard("tiny" if preset.startswith("tiny") else preset, accelerator)
        return [{"batch": batch, "input_len": 64, "output_len": 16} for batch in (1, 8)]

    def prepare(self, case: Case, weights: Weights) -> Case:
        if weights.path is not None or weights.prompt_ids is not None:
            raise UsageError(f"{self.name} runs with random weights: drop --weights and --prompt")
        return super().prepare(case, weights)

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        if chips > 1:
            raise UsageError(f"{self.name} is not compiled for several chips yet: ask for one")
        return super().program(case, phase, depth=depth, chips=chips)
