"""``llama-prefill``: prompts alone, to the first token. The program is that of ``llama-infer``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tpubench.suite.workload import Case, Laps, Parameter, Timed
from tpubench.workloads.llama.infer import LlamaInfer


class LlamaPrefill(LlamaInfer):
    """``llama-infer`` with one output token: what compute-bound serving spends its time on."""

    name = "llama-prefill"
    version = 1
    summary = "Llama prefill alone: prompts of 1k, 8k and 32k tokens to their first token"
    parameters: ClassVar = {
        **LlamaInfer.parameters,
        "output_len": Parameter(default=1, choices=("1",), doc="the first token and no more"),
    }
    shorthands: ClassVar = {}
    fractions: ClassVar = {"mfu": "prefill"}
    primary_metric = "prefill_tok_s"

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"input_len": 16}]
        longest = int(str(self.shape(preset)["max_context"]))
        lengths = (1024, 8192, 32768) if accelerator else (128, 512)
        return [{"input_len": length} for length in lengths if length < longest]

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        samples = super().measure(case, windows).samples
        return Laps(samples={name: samples[name] for name in ("prefill_tok_s", "ttft_s")})
