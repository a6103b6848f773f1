"""``llama-pretrain``: forward, backward and AdamW, the step that pretraining repeats.

Weights, gradients and both moments are float32; the arithmetic is bfloat16 unless ``dtype`` says
otherwise (``model.py`` says how the two meet). Nothing is recomputed in the backward pass
unless ``recompute=full``. Tokens are random, from a seed: the speed does not depend on them.

    tpubench run --workload llama-pretrain --preset smollm2-135m --set seq_len=512

``layers`` trains a model of fewer layers than the preset's, where the whole would not fit: its row
says so in its preset, and has no tokens a second and no price, which would be another model's.
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
from tpubench.workloads.llama import config as arithmetic
from tpubench.workloads.llama.config import PRESETS, LlamaConfig, decoder

_SUBSETS = {"llama-3.1-70b": 4, "llama-3.1-405b": 1}
"""Layers trained unless ``layers`` says otherwise: 88 GB and 118 GB of weights and optimizer."""
_RATES = ("train_tok_s", "train_tok_s_per_chip", "usd_per_train_mtok")


class LlamaPretrain(Workload):
    """Pretraining steps of a Llama-family model."""

    name = "llama-pretrain"
    version = 2
    summary = "Llama training step: forward, backward, AdamW on float32 master weights"
    presets: ClassVar = {
        name: f"{config.n_params / 1e9:.3g} B parameters"
        + (f"; {_SUBSETS[name]} of {config.n_layers} layers by default" if name in _SUBSETS else "")
        for name, config in PRESETS.items()
    }
    parameters: ClassVar = {
        "batch": Parameter(default=1, minimum=1, doc="sequences a step, all chips together"),
        "seq_len": Parameter(default=8192, minimum=2, doc="tokens a sequence"),
        "layers": Parameter(default=0, minimum=0, doc="decoder layers trained; 0 is all of them"),
        "dtype": Parameter(
            default="bfloat16", choices=("float32", "bfloat16"), doc="precision of the arithmetic"
        ),
        "recompute": Parameter(
            default="none",
            choices=("none", "full"),
            doc="full: each layer's activations are computed again in the backward pass",
        ),
        "clip": Parameter(
            default="none",
            choices=("none", "0.1", "0.25", "0.5", "1.0"),
            doc="the most that the norm of all gradients together may be",
        ),
        "schedule": Parameter(
            default="constant",
            choices=("constant", "cosine"),
            doc="cosine: the learning rate falls to a tenth in the 1000 steps after the warm-up",
        ),
        "warmup": Parameter(
            default=0, minimum=0, doc="steps over which the learning rate rises to its full value"
        ),
        "accumulate": Parameter(
            default=1,
            minimum=1,
            doc="parts of the batch that pass one after another before the optimizer moves",
        ),
        "seed": Parameter(default=0, minimum=0, doc="seed of random weights and tokens"),
    }
    fractions: ClassVar = {"mfu": "pass"}
    primary_metric = "step_time_s"
    parallelism = "fsdp"
    trains = True

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return (
                "llama-3.2-1b",
                "20 GB of training state; llama-3.1-8b has 128 GB, more than most chips hold",
            )
        return "smollm2-135m", "the standard size for a CPU: larger presets take minutes a step"

    def shape(self, preset: str) -> Mapping[str, object]:
        return PRESETS[preset].to_json()

    def decoder(self, preset: str) -> Decoder | None:
        return decoder(preset, PRESETS)

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        layers: dict[str, int | str] = {"layers": _SUBSETS.get(preset, 0)}
        if preset == "tiny":
            return [{"batch": 2, "seq_len": 64, **layers}]
        return [layers if accelerator else {"seq_len": 128, **layers}]

    def validate(self, case: Case) -> None:
        whole = LlamaConfig.from_json(case.shape)
        longest = whole.supported_context
        if case.number("seq_len") > longest:
            raise UsageError(
                f"seq_len={case.number('seq_len')} is longer than the {longest} tokens"
                f" that {case.preset} was built for"
            )
        if case.number("batch") % case.number("accumulate"):
            raise UsageError(
                f"batch={case.number('batch')} does not divide into"
                f" accumulate={case.number('accumulate')} parts"
            )
        if case.number("layers") > whole.n_layers:
            raise UsageError(f"layers={case.number('layers')}: {case.preset} has {whole.n_layers}")

    def prepare(self, case: Case, weights: Weights) -> Case:
        case = super().prepare(case, weights)
        layers, whole = model_trained(case).n_layers, LlamaConfig.from_json(case.shape).n_layers
        preset = case.preset if layers == whole else f"{case.preset} ({layers} of {whole} layers)"
        return replace(case, preset=preset, params={**case.params, "layers": layers})

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        del weights
        from tpubench.workloads.llama_pretrain.step import build

        return build(case, model_trained(case), device)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        from tpubench.workloads.llama_pretrain.parity import checks
        from tpubench.workloads.llama_pretrain.step import TrainStep

        assert isinstance(step, TrainStep)
        return checks(case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        return {"step": Phase()}

    def depth(self, case: Case) -> int:
        return model_trained(case).n_layers

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        from tpubench.workloads.llama_pretrain.program import program

        return program(case, replace(model_trained(case), n_layers=depth), chips=chips)

    def work(self, case: Case) -> Work:
        config = model_trained(case)
        batch, length = case.number("batch"), case.number("seq_len")
        weight_bytes = arithmetic.weight_bytes(config, DTYPES[case.dtype])
        return Work(
            items=batch * length,
            unit="token",
            flops=arithmetic.train_flops(config, batch, length),
            bytes=arithmetic.train_bytes(config, DTYPES[case.dtype])
            + more_bytes(case, weight_bytes, config.n_params),
        )

    def memory_bytes(self, case: Case) -> int:
        """Weights, gradients and the two moments of AdamW, all float32."""
        return 4 * DTYPES["float32"] * model_trained(case).n_params

    def count(self, case: Case) -> Mapping[str, int]:
        """FLOPs and bytes of one step, counted on meta tensors."""
        from tpubench.workloads.llama_pretrain.step import count

        return count(case, model_trained(case))

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        tokens = case.number("batch") * case.number("seq_len")
        step_s = windows["pass"].passes_s
        samples = {"step_time_s": step_s}
        layers, whole = model_trained(case).n_layers, LlamaConfig.from_json(case.shape).n_layers
        if layers < whole:
            why = f"{layers} of {whole} layers: the figure would be another model's"
            return Laps(samples=samples, missing=dict.fromkeys(_RATES, why))
        return Laps(samples={**samples, "train_tok_s": [tokens / t for t in step_s]})


def more_bytes(case: Case, weight_bytes: int, trained: int) -> int:
    """Bytes that clipping and accumulation move at least, beside those of a plain step.

    Each further part of a batch reads the weights forward and backward and adds to the gradients,
    which are read and written in float32; their norm has to be known before any weight moves.
    weight_bytes: what one direction reads. trained: parameters that have a gradient.
    """
    parts = case.number("accumulate") - 1
    norm = 0 if case.params["clip"] == "none" else 4 * trained
    return parts * (2 * weight_bytes + 8 * trained) + norm


def model_trained(case: Case) -> LlamaConfig:
    """The preset, with as many layers as are trained."""
    whole = LlamaConfig.from_json(case.shape)
    return replace(whole, n_layers=case.number("layers") or whole.n_layers)
