"""``llama-serve``: a language model behind an OpenAI-compatible server, asked as users ask.

Prompts are token ids drawn from a seed, so that the server counts exactly the lengths asked for
whatever its tokenizer, and no prompt is in its cache unless the shape shares it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from tpubench.suite.serving.service import Ask, Load, Parameter, Service, UsageError
from tpubench.workloads.llama_serve import prompts, settings, trace
from tpubench.workloads.llama_serve.shapes import SHAPES, Shape


class LlamaServe(Service):
    """Shapes of requests, at a rate, at a concurrency, or as a trace recorded them."""

    name = "llama-serve"
    version = 1
    summary = "a language model's server under load: latencies, goodput and $ at an SLO"
    presets: ClassVar[Mapping[str, str]] = {name: each.summary for name, each in SHAPES.items()}
    parameters: ClassVar[Mapping[str, Parameter]] = settings.PARAMETERS

    def loads(self, preset: str, settings_: Mapping[str, Sequence[str]]) -> list[Load]:
        if preset not in SHAPES:
            raise UsageError(f"{self.name} has no preset {preset!r}; it has {', '.join(SHAPES)}")
        chosen = settings.parse(settings_)
        shape = SHAPES[preset]
        if shape.traced:
            return [self._traced(preset, chosen)]
        if chosen.trace is not None:
            raise UsageError("--set trace=FILE goes with --preset trace")
        base = self._shaped(preset, shape, chosen)
        rates = [replace(base, request_rate=rate) for rate in chosen.request_rate]
        closed = [replace(base, concurrency=count) for count in chosen.concurrency]
        return [*closed, *rates] or [base]

    def _shaped(self, preset: str, shape: Shape, chosen: settings.Settings) -> Load:
        prefix = shape.prefix_len if chosen.prefix_len is None else chosen.prefix_len
        input_len = chosen.input_len or shape.input_len
        if prefix >= input_len:
            raise UsageError(f"prefix_len={prefix} leaves nothing of input_len={input_len}")
        return Load(
            shape=preset,
            input_len=input_len,
            output_len=chosen.output_len or shape.output_len,
            requests=chosen.requests or shape.requests,
            warm_up=shape.warm_up if chosen.warm_up is None else chosen.warm_up,
            seed=chosen.seed,
            about={"prefix_len": prefix} if prefix else {},
        )

    def _traced(self, preset: str, chosen: settings.Settings) -> Load:
        if chosen.trace is None:
            raise UsageError("--preset trace needs --set trace=FILE (JSONL, as Mooncake records)")
        if chosen.concurrency or len(chosen.request_rate) > 1 or chosen.prefix_len is not None:
            raise UsageError("a trace is replayed as recorded, or at one --set request_rate=R")
        recorded = trace.read(chosen.trace)
        warm_up = chosen.warm_up or 0
        count = min(chosen.requests or len(recorded.lines) - warm_up, len(recorded.lines) - warm_up)
        if count < 1:
            raise UsageError(f"{chosen.trace} has {len(recorded.lines)} requests: too few")
        lines = recorded.lines[: warm_up + count]
        return Load(
            shape=preset,
            input_len=round(sum(line.input_len for line in lines) / len(lines)),
            output_len=round(sum(line.output_len for line in lines) / len(lines)),
            requests=count,
            warm_up=warm_up,
            seed=chosen.seed,
            traced=True,
            about={
                "trace": recorded.name,
                "trace_sha256": recorded.sha256,
                **({"rescaled_to": chosen.request_rate[0]} if chosen.request_rate else {}),
            },
        )

    def asks(self, load: Load, seed: int) -> list[Ask]:
        total = load.warm_up + load.requests
        if SHAPES[load.shape].traced:
            lines = trace.recalled(str(load.about["trace_sha256"])).lines[:total]
            return trace.asks(lines, load.about.get("rescaled_to"), seed)
        prefix_len = int(load.about.get("prefix_len", 0))
        texts = prompts.drawn(total, load.input_len, prefix_len, seed)
        return [Ask(prompt=text, output_len=load.output_len) for text in texts]
