"""``llama-speculate``: greedy decoding in which a draft proposes and the target verifies.

Each round a draft proposes k tokens, and the target passes over them and the newest token at once.
How many are kept is pinned (``acceptance.py``): random weights would agree by chance alone, and two
devices must do the same work. Everything else is real: the draft's passes, the verification of all
k + 1 positions, the comparison, and the roll-back of both caches.

    tpubench run --workload llama-speculate --preset llama-3.1-8b --set draft=llama-3.2-1b
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from tpubench.suite.workload import (
    DTYPES,
    Case,
    Checks,
    Decoder,
    Device,
    Laps,
    Means,
    Parameter,
    Phase,
    Program,
    Step,
    Timed,
    UsageError,
    Weights,
    Work,
    Workload,
)
from tpubench.workloads.llama.config import PRESETS, LlamaConfig
from tpubench.workloads.llama.infer import LlamaInfer
from tpubench.workloads.llama_speculate import acceptance, arithmetic

DRAFTS: dict[str, LlamaConfig] = {
    "llama-3.2-1b": PRESETS["llama-3.2-1b"],
    "llama-3.1-8b": PRESETS["llama-3.1-8b"],
    "cpu-11m": replace(
        PRESETS["smollm2-135m"], d_model=192, n_layers=4, n_heads=3, n_kv_heads=1, d_ffn=512
    ),
    "tiny-draft": replace(PRESETS["tiny"], d_model=32, n_layers=1, n_heads=2, d_ffn=64),
}
"""Models that propose. The last two are nobody's: the shapes of what a small target would have."""

_USUAL = {
    "tiny": "tiny-draft",
    "smollm2-135m": "cpu-11m",
    "llama-3.1-8b": "llama-3.2-1b",
    "llama-3.1-70b": "llama-3.2-1b",
    "llama-3.1-405b": "llama-3.1-8b",
}
"""The draft of each preset unless ``draft`` says otherwise; none for one that is missing."""


class LlamaSpeculate(LlamaInfer):
    """Speculative decoding with a pinned acceptance."""

    name = "llama-speculate"
    version = 1
    summary = "Llama speculative decoding: a draft proposes, the target verifies, acceptance pinned"
    parameters: ClassVar = {
        "batch": LlamaInfer.parameters["batch"],
        "input_len": LlamaInfer.parameters["input_len"],
        "output_len": Parameter(default=1024, minimum=2, doc="new tokens a sequence, kept ones"),
        "draft": Parameter(
            default="none",
            choices=("none", *DRAFTS),
            doc="model that proposes; none: tokens that cost nothing, as from a look-up of n-grams",
        ),
        "draft_tokens": Parameter(default=4, minimum=1, doc="tokens proposed in each round"),
        "acceptance_percent": Parameter(
            default=70,
            minimum=0,
            doc="how often a proposal is kept whose predecessors were, pinned by the seed",
        ),
        "dtype": Parameter(
            default="bfloat16", choices=tuple(DTYPES), doc="precision of weights and activations"
        ),
        "seed": Parameter(
            default=0, minimum=0, doc="seed of random weights, prompts and the kept lengths"
        ),
    }
    parallelism = None
    takes_prompt = False

    def decoder(self, preset: str) -> Decoder | None:
        """None: what is known of single models says nothing of two that take turns."""
        return None

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        draft = _USUAL.get(preset, "none")
        return [{**case, "draft": draft} for case in super().standard(preset, accelerator)]

    def validate(self, case: Case) -> None:
        super().validate(case)
        if case.number("acceptance_percent") > 100:
            raise UsageError("acceptance_percent is above 100")
        k, config, draft = case.number("draft_tokens"), _config(case), drafting(case)
        longest = min(config.max_context, draft.max_context if draft else config.max_context)
        length = case.number("input_len") + case.number("output_len") + k
        if length > longest:
            raise UsageError(
                f"input_len + output_len + draft_tokens = {length} is longer than the {longest}"
                f" tokens that {case.preset} and its draft were built for"
            )
        if draft is not None and draft.vocab != config.vocab:
            fitting = [name for name, one in DRAFTS.items() if one.vocab == config.vocab]
            raise UsageError(
                f"draft={case.params['draft']} has {draft.vocab} tokens, {case.preset} has"
                f" {config.vocab}: a draft of it is {' or '.join([*fitting, 'none'])}"
            )

    def prepare(self, case: Case, weights: Weights) -> Case:
        if weights.path is not None or weights.prompt_ids is not None:
            raise UsageError(f"{self.name} runs with random weights: drop --weights and --prompt")
        return super().prepare(case, weights)

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        from tpubench.workloads.llama_speculate.step import build

        return build(case, _config(case), drafting(case), device, weights, kept(case))

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        from tpubench.workloads.llama_speculate.parity import checks
        from tpubench.workloads.llama_speculate.step import SpeculativeStep

        assert isinstance(step, SpeculativeStep)
        return checks(case, step, means, kept(case))

    def phases(self, case: Case) -> Mapping[str, Phase]:
        """None: a program of so many layers of one model and so many of another is not exported."""
        return {}

    def depth(self, case: Case) -> int:
        return 1

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        return Workload.program(self, case, phase, depth=depth, chips=chips)

    def work(self, case: Case) -> Work:
        return arithmetic.work(case, _config(case), drafting(case), kept(case))

    def memory_bytes(self, case: Case) -> int:
        """Weights of both models, and their caches of the whole context."""
        size = DTYPES[case.dtype]
        context = case.number("input_len") + case.number("output_len") + case.number("draft_tokens")
        tokens = case.number("batch") * context
        models = [model for model in (_config(case), drafting(case)) if model is not None]
        return sum(m.n_params * size + tokens * m.kv_bytes_per_token(size) for m in models)

    def count(self, case: Case) -> dict[str, int]:
        """FLOPs of a verification and of a draft's passes, the longest, counted on meta tensors."""
        from tpubench.workloads.llama_speculate.step import count

        return count(case, _config(case), drafting(case))

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        batch, prompt = case.number("batch"), case.number("input_len")
        output, timed = case.number("output_len"), windows["pass"]
        samples = {
            "output_tok_s": [batch * output / t for t in timed.passes_s],
            "input_tok_s": [batch * prompt / t for t in timed.passes_s],
            "total_tok_s": [batch * (prompt + output) / t for t in timed.passes_s],
        }
        if "prefill" not in windows:  # an estimate, of the pass as a whole
            return Laps(samples=samples)
        rounds_s = [sum(laps[1:]) for laps in timed.laps_s]
        samples |= {
            "ttft_s": windows["ttft"].passes_s,
            "prefill_tok_s": [batch * prompt / t for t in windows["prefill"].passes_s],
            "tpot_s": [t / (output - 1) for t in rounds_s],
            "decode_tok_s": [batch * (output - 1) / t for t in rounds_s],
        }
        return Laps(samples=samples)


def drafting(case: Case) -> LlamaConfig | None:
    """The model that proposes; None where proposals cost nothing."""
    name = str(case.params["draft"])
    if name == "first layers":  # of a float32 twin: parity.py
        config = _config(case)
        return replace(config, n_layers=max(1, config.n_layers - 1))
    return DRAFTS.get(name)


def kept(case: Case) -> tuple[int, ...]:
    """Proposals that each round keeps."""
    return acceptance.pinned(
        case.number("acceptance_percent") / 100,
        case.number("draft_tokens"),
        case.number("output_len") - 1,
        case.number("seed"),
    )


def _config(case: Case) -> LlamaConfig:
    return LlamaConfig.from_json(case.shape)
