"""``llama-decode``: new tokens at a context, one after another. The program of ``llama-infer``.

The context is a prompt that every pass prefills first; the figures are of the steps after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tpubench.suite.workload import Case, Laps, Parameter, Timed
from tpubench.workloads.llama.infer import LlamaInfer


class LlamaDecode(LlamaInfer):
    """``llama-infer`` with few tokens after a long prompt: what reads weights and cache."""

    name = "llama-decode"
    version = 1
    summary = "Llama decode alone: 64 steps at a context of 1k or 8k tokens, batch swept"
    parameters: ClassVar = {
        **LlamaInfer.parameters,
        "input_len": Parameter(default=1024, minimum=1, doc="context before the first step"),
        "output_len": Parameter(default=64, minimum=2, doc="new tokens a sequence"),
    }
    shorthands: ClassVar = {}
    fractions: ClassVar = {"mbu": "decode"}
    primary_metric = "decode_tok_s"

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"input_len": 16, "output_len": 8}]
        if not accelerator:
            return [{"batch": batch, "input_len": 512, "output_len": 16} for batch in (1, 8)]
        longest = int(str(self.shape(preset)["max_context"]))
        contexts = [length for length in (1024, 8192) if length + 64 <= longest]
        return [{"batch": b, "input_len": c} for c in contexts for b in (1, 8, 64)]

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        samples = super().measure(case, windows).samples
        return Laps(samples={name: samples[name] for name in ("decode_tok_s", "tpot_s", "itl_s")})
