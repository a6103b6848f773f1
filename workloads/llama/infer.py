"""``llama-infer``: prefill, then greedy decoding one token at a time, over a static cache.

One pass is one batch of requests: the prompts are processed, the first token comes out, and each
further token is fed back. Passes follow one another, and give the throughput of both phases
together and, by the marks between tokens, of decoding. Two windows of their own give the time to
the first token, from an idle device to the host, and the rate of prefills back to back.

    tpubench run --workload llama-infer --preset smollm2-135m --set batch=1,8
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
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

_QUANTIZED = ("fp8", "int8")
"""Held in one byte a value, everything else in bfloat16: ``quantized.py``."""


class LlamaInfer(Workload):
    """Greedy generation with a Llama-family model."""

    name = "llama-infer"
    version = 2
    summary = "Llama prefill and greedy decode with a static key/value cache"
    presets: ClassVar = {
        name: f"{config.n_params / 1e9:.3g} B parameters" for name, config in PRESETS.items()
    }
    parameters: ClassVar = {
        "batch": Parameter(default=1, minimum=1, doc="sequences processed together"),
        "input_len": Parameter(default=1024, minimum=1, doc="prompt tokens a sequence"),
        "output_len": Parameter(default=1024, minimum=1, doc="new tokens a sequence"),
        "dtype": Parameter(
            default="bfloat16",
            choices=(*DTYPES, *_QUANTIZED),
            doc="precision of weights and activations; fp8 and int8 of the layers' projections",
        ),
        "seed": Parameter(default=0, minimum=0, doc="seed of random weights and prompts"),
    }
    shorthands: ClassVar = {
        "lengths": {
            "1k/1k": {"input_len": 1024, "output_len": 1024},
            "8k/1k": {"input_len": 8192, "output_len": 1024},
            "1k/8k": {"input_len": 1024, "output_len": 8192},
        }
    }
    fractions: ClassVar = {"mfu": "prefill", "mbu": "decode"}
    primary_metric = "output_tok_s"
    parallelism: ClassVar[str | None] = "tp"
    takes_prompt = True

    def default_preset(self, accelerator: bool) -> tuple[str, str]:
        if accelerator:
            return "llama-3.1-8b", "the standard size for one accelerator"
        return "smollm2-135m", "the standard size for a CPU: larger presets take minutes a pass"

    def shape(self, preset: str) -> Mapping[str, object]:
        return PRESETS[preset].to_json()

    def decoder(self, preset: str) -> Decoder | None:
        return decoder(preset, PRESETS)

    def standard(self, preset: str, accelerator: bool) -> list[dict[str, int | str]]:
        if preset == "tiny":
            return [{"batch": batch, "input_len": 16, "output_len": 8} for batch in (1, 2)]
        if accelerator:
            return [{"batch": batch} for batch in (1, 8, 64)]
        return [{"batch": batch, "input_len": 128, "output_len": 64} for batch in (1, 8)]

    def validate(self, case: Case) -> None:
        length = case.number("input_len") + case.number("output_len")
        config = _config(case)
        longest, window = config.max_context, config.window
        if window is not None and length > window:
            raise UsageError(
                f"input_len + output_len = {length} is longer than the sliding window of {window}"
                f" tokens of {case.preset}: attention within a window is not supported"
            )
        if length > longest:
            raise UsageError(
                f"input_len + output_len = {length} is longer than the {longest} tokens"
                f" that {case.preset} was built for"
            )
        if length > config.supported_context:
            raise UsageError(
                f"input_len + output_len = {length} is longer than the {config.supported_context}"
                f" tokens of {case.preset}'s original context: longrope's factors for longer ones"
                " are not supported"
            )

    def prepare(self, case: Case, weights: Weights) -> Case:
        shape, preset, params = case.shape, case.preset, {**case.params, "weights": "random"}
        if weights.path is not None:
            from tpubench.workloads._checkpoint import digest, read_config

            shape = read_config(weights.path).to_json()
            preset = weights.path.resolve().name
            params["weights"] = f"{preset} {digest(weights.path)}"
        if weights.prompt_ids is not None:
            ids = ",".join(map(str, weights.prompt_ids)).encode()
            prompt = hashlib.sha256(ids).hexdigest()[:16]
            params |= {"batch": 1, "input_len": len(weights.prompt_ids), "prompt": prompt}
            _check_prompt(weights.prompt_ids, LlamaConfig.from_json(shape).vocab)
        case = replace(case, preset=preset, params=params, shape=shape)
        self.validate(case)
        return case

    def encode(self, prompt: str, weights: Weights) -> tuple[int, ...]:
        if weights.path is None:
            raise UsageError("--prompt needs --weights: random weights have no tokenizer")
        from tpubench.workloads._tokenizer.child import encode_chat

        return tuple(encode_chat(weights.path, prompt))

    def decode(self, ids: Sequence[int], weights: Weights) -> str | None:
        if weights.path is None:
            return None
        from tpubench.workloads._tokenizer.child import decode

        try:
            return decode(weights.path, ids)
        except UsageError:
            return None  # token ids need no tokenizer; then there is no text to show

    def build(self, case: Case, device: Device, weights: Weights) -> Step:
        from tpubench.workloads.llama.step import build

        return build(case, _config(case), device, weights)

    def checks(self, case: Case, step: Step, means: Means) -> Checks:
        from tpubench.workloads.llama.parity import checks
        from tpubench.workloads.llama.step import LlamaStep

        assert isinstance(step, LlamaStep)
        return checks(case, step, means)

    def phases(self, case: Case) -> Mapping[str, Phase]:
        steps = case.number("output_len") - 1
        return {"prefill": Phase(), **({"decode": Phase(marks=steps)} if steps else {})}

    def depth(self, case: Case) -> int:
        return _config(case).n_layers

    def program(self, case: Case, phase: str, *, depth: int, chips: int) -> Program:
        from tpubench.workloads.llama.program import program

        return program(case, _config(case), phase, depth=depth, chips=chips)

    def work(self, case: Case) -> Work:
        config = _config(case)
        size, saved = _bytes(case, config)
        batch, prompt = case.number("batch"), case.number("input_len")
        output = case.number("output_len")
        prefill = Work(
            items=batch * prompt,
            unit="token",
            flops=arithmetic.prefill_flops(config, batch, prompt),
            bytes=arithmetic.prefill_bytes(config, batch, prompt, size) - saved,
        )
        keys = range(prompt + 1, prompt + output)
        decode = Work(
            items=batch * (output - 1),
            unit="token",
            flops=sum(arithmetic.decode_flops(config, batch, n) for n in keys),
            bytes=sum(arithmetic.decode_bytes(config, batch, n, size) - saved for n in keys),
        )
        return Work(
            items=batch * output,
            unit="token",
            flops=prefill.flops + decode.flops,
            bytes=prefill.bytes + decode.bytes,
            phases={"prefill": prefill, "decode": decode},
        )

    def memory_bytes(self, case: Case) -> int:
        """Weights, and the cache of the whole context."""
        config = _config(case)
        size, saved = _bytes(case, config)
        tokens = case.number("batch") * (case.number("input_len") + case.number("output_len"))
        return config.n_params * size - saved + tokens * config.kv_bytes_per_token(size)

    def count(self, case: Case) -> dict[str, int]:
        """FLOPs and bytes of one prefill and of the last decode step, counted on meta tensors."""
        from tpubench.workloads.llama.step import count

        return count(case, _config(case))

    def measure(self, case: Case, windows: Mapping[str, Timed]) -> Laps:
        batch, prompt = case.number("batch"), case.number("input_len")
        output = case.number("output_len")
        timed = windows["pass"]
        pass_s = timed.passes_s
        gaps_s = [laps[1:] for laps in timed.laps_s]
        prefill_s = windows["prefill"].passes_s
        samples = {
            # An estimate knows no idle device: its first token comes when the prompt is processed.
            "ttft_s": windows.get("ttft", windows["prefill"]).passes_s,
            "output_tok_s": [batch * output / t for t in pass_s],
            "input_tok_s": [batch * prompt / t for t in pass_s],
            "total_tok_s": [batch * (prompt + output) / t for t in pass_s],
            "prefill_tok_s": [batch * prompt / t for t in prefill_s],
        }
        missing = {}
        if output > 1:
            samples["tpot_s"] = [sum(gaps) / len(gaps) for gaps in gaps_s]
            samples["itl_s"] = [gap for gaps in gaps_s for gap in gaps]
            samples["decode_tok_s"] = [batch * len(gaps) / sum(gaps) for gaps in gaps_s]
        else:
            for metric in ("tpot_s", "itl_s", "decode_tok_s"):
                missing[metric] = "one output token: there is no second one to time"
        return Laps(samples=samples, missing=missing)


def _config(case: Case) -> LlamaConfig:
    return LlamaConfig.from_json(case.shape)


def _bytes(case: Case, config: LlamaConfig) -> tuple[int, int]:
    """Bytes of one value, and what quantised projections save of all weights."""
    if case.dtype in _QUANTIZED:
        size = DTYPES["bfloat16"]
        return size, arithmetic.quantized_saving_bytes(config, size)
    return DTYPES[case.dtype], 0


def _check_prompt(prompt: Sequence[int], vocab: int) -> None:
    if not prompt:
        raise UsageError("the prompt is empty: give at least one token")
    for token in prompt:
        if not 0 <= token < vocab:
            raise UsageError(f"prompt id {token} is outside the vocabulary (0 … {vocab - 1})")
