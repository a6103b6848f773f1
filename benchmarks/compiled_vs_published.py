"""How far the compiled estimate is from published TPU figures, and what was fitted to them.

    python benchmarks/compiled_vs_published.py INFERENCE.csv --python ENV/bin/python [--json OUT]

Takes every row of a table in the format of the published inference rows whose device is a TPU that
libtpu compiles for, whose model is a dense decoder of the list below, and whose lengths and batch
are stated. Each distinct decode step and prompt is exported and compiled. A served step is then

    decode + prompts that end in it x prefill + host overhead

The host overhead is fitted, one number for each kind of engine, as is the share of the bandwidth at
which attention reads its cache; every ratio is printed, then the median with those two fitted on
the other sources (leave one source out).
"""

from __future__ import annotations

import csv
import dataclasses
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from published_tpu import NOT_A_TPU, parse, summary, tpu, unusable

from tpubench.errors import TpubenchError
from tpubench.estimates.compiled import timing
from tpubench.estimates.compiled.pipeline import run
from tpubench.estimates.compiled.request import CompileRequest, PhaseEstimate
from tpubench.estimates.compiled.targets import Target, target
from tpubench.suite import registry
from tpubench.suite.workload import Case
from tpubench.workloads.llama.config import PRESETS, LlamaConfig, weight_bytes


def _model(
    d: int, layers: int, heads: int, kv: int, ffn: int, vocab: int, *, tied: bool = False
) -> LlamaConfig:
    return LlamaConfig(
        d_model=d, n_layers=layers, n_heads=heads, n_kv_heads=kv, head_dim=128, d_ffn=ffn,
        vocab=vocab, tied=tied, rope_theta=1e6,
    )  # fmt: skip


MODELS = {
    "Llama-3.1-8B": PRESETS["llama-3.1-8b"],
    "Llama-3.3-70B-Instruct": PRESETS["llama-3.1-70b"],
    "Llama-2-70B": _model(8192, 80, 64, 8, 28672, 32000),
    "LLaMA-65B": _model(8192, 80, 64, 64, 22016, 32000),
    "Qwen3-8B": _model(4096, 36, 32, 8, 12288, 151936),
    "Qwen3-32B": _model(5120, 64, 64, 8, 25600, 151936),
    "Qwen-7B-Chat": _model(4096, 32, 32, 32, 11008, 151936),
    "MiMo-7B-RL": _model(4096, 36, 32, 8, 11008, 151680),
    "gemma-2-27b-it": _model(4608, 46, 32, 16, 36864, 256000, tied=True),
}
"""Public configurations (each model's config.json). Query and key norms, soft caps and windows
longer than the context are left out: they move no weights and no cache."""

METRICS = {"output_tokens_per_s", "tpot_ms", "itl_ms", "ttft_ms", "output_tokens_per_s_per_chip"}
MEMORY_SHARE = 0.9
"""Part of HBM that a server gives to weights and cache (vLLM's default; sglang-jax is close)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
    """One published row as a problem: what was served, and the figure."""

    source: str
    model: str
    device: str
    chips: int
    batch: int
    prompt: int
    output: int
    int8: bool
    metric: str
    value: float
    server: bool

    @property
    def setup(self) -> tuple[Any, ...]:
        return (self.model, self.device, self.chips, self.batch, self.prompt, self.output,
                self.int8)  # fmt: skip


def problem(row: dict[str, str]) -> Served | str:
    """The problem behind a row, or why it is none."""
    why, device = unusable(row, MODELS), tpu(row)
    if why is not None or device is None:
        return why or NOT_A_TPU
    if row["metric"] not in METRICS:
        return f"metric {row['metric']} is not one of a step"
    if row["metric"] == "ttft_ms" and "queued" not in row["notes"]:
        return "how prompts queue is not stated, and with it the time to the first token"
    static = row["scenario"].startswith("decode-only")
    try:
        batch, chips = int(row["batch_or_concurrency"]), int(row["chips"])
        output = int(row["output_len"] or 1)
        prompt = int(row["input_len"] or (1024 if static else ""))
    except ValueError:
        return "batch or lengths are not stated"
    dtype = row["weight_dtype"]
    if dtype != "bf16" and not dtype.startswith("int8"):
        return f"weights in {dtype or 'an unstated precision'}"
    return Served(
        source=row["source_id"], model=row["model"], device=device, chips=chips, batch=batch,
        prompt=prompt, output=output, int8=dtype.startswith("int8"), metric=row["metric"],
        value=float(row["value"]), server=not static,
    )  # fmt: skip


def case(config: LlamaConfig, name: str, batch: int, prompt: int, output: int, dtype: str) -> Case:
    params: dict[str, int | str] = {"batch": batch, "input_len": prompt, "output_len": output}
    params |= {"dtype": dtype, "seed": 0}
    workload = registry.workload("llama-infer")
    return Case(
        workload=workload.name, workload_version=workload.version, preset=name, params=params,
        shape=config.to_json(),
    )  # fmt: skip


def held(config: LlamaConfig, served: Served, slice_: Target) -> int:
    """Sequences that fit beside the weights, at their full length; at most the concurrency."""
    sheet = slice_.generation.sheet
    room = MEMORY_SHARE * sheet.hbm_bytes * served.chips
    room -= weight_bytes(config, 1 if served.int8 else 2) + config.head_params * 2
    each = config.kv_bytes_per_token(2) * (served.prompt + served.output)
    return max(1, min(served.batch, int(room / each)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    batch: int
    decode: PhaseEstimate
    prefill: PhaseEstimate
    target: Target

    def phase_s(self, phase: PhaseEstimate, kv_share: float) -> float:
        assert phase.time is not None and phase.cost is not None
        cache = phase.attention.cache_bytes / self.target.devices
        at_kv = cache / (self.target.hbm_bytes_s * kv_share)
        peak = self.target.peak_flop_s("bfloat16") * timing.ATTENTION_FLOP_SHARE
        attention_s = max(at_kv, phase.attention.flops / self.target.devices / peak)
        return phase.time.dense_s + phase.time.collectives_s + attention_s

    def predict(self, served: Served, kv_share: float, host_s: float) -> float:
        """The row's figure, in the row's unit."""
        decode_s = self.phase_s(self.decode, kv_share)
        prefill_s = self.phase_s(self.prefill, kv_share)
        ending = self.batch / served.output if served.server else 0.0
        step_s = decode_s + ending * prefill_s + (host_s if served.server else 0.0)
        if served.metric == "ttft_ms":  # the whole queue of one prompt each
            return 1e3 * served.batch * (prefill_s + host_s)
        if served.metric in {"tpot_ms", "itl_ms"}:
            return 1e3 * step_s
        rate = self.batch / step_s
        return rate / (served.chips if served.metric.endswith("per_chip") else 1)


def compiled(served: Served, python: str | None, cache: Path) -> Compiled:
    config, slice_ = MODELS[served.model], target(served.device, served.chips)
    batch = held(config, served, slice_)

    def phase(name: str, size: int) -> PhaseEstimate:
        dtype = "int8" if served.int8 else "bfloat16"
        wanted = case(config, served.model, size, served.prompt, max(served.output, 2), dtype)
        estimated = run(
            CompileRequest(
                case=wanted,
                target=slice_,
                phases=(name,),
                python=python,
                cache=cache,
                timeout_s=3600,
            )
        )
        return estimated.phases[0]

    return Compiled(
        batch=batch, decode=phase("decode", batch), prefill=phase("prefill", 1), target=slice_
    )


def ratios(rows: list[tuple[Served, Compiled]], kv_share: float, host_s: float) -> list[float]:
    """Predicted time over published time, so that above 1 is too slow."""
    out = []
    for served, figures in rows:
        ratio = figures.predict(served, kv_share, host_s) / served.value
        out.append(ratio if served.metric.endswith("_ms") else 1 / ratio)
    return out


def fit(rows: list[tuple[Served, Compiled]]) -> tuple[float, float]:
    """The share and the overhead with the least median distance, on a grid."""
    import math

    grid = [(0.35 + 0.05 * i, 1e-3 * j) for i in range(13) for j in range(9)]
    return min(
        grid,
        key=lambda p: (
            statistics.mean(abs(math.log(ratio)) for ratio in ratios(rows, *p)),
            p,
        ),
    )


def main() -> None:
    options = parse(__doc__.splitlines()[0])
    rows: list[tuple[Served, Compiled]] = []
    skipped: dict[str, int] = {}
    answers: dict[tuple[Any, ...], Compiled | str] = {}
    with options.table.open(encoding="utf-8", newline="") as stream:
        problems = [problem(row) for row in csv.DictReader(stream)]
    for served in problems:
        if isinstance(served, str):
            if served != NOT_A_TPU:
                skipped[served] = skipped.get(served, 0) + 1
            continue
        if served.setup not in answers:
            try:
                answers[served.setup] = compiled(served, options.python, options.cache)
            except TpubenchError as error:
                answers[served.setup] = str(error)
            print(".", end="", file=sys.stderr, flush=True)
        figures = answers[served.setup]
        if isinstance(figures, str) or figures.decode.time is None or figures.prefill.time is None:
            why = figures if isinstance(figures, str) else "does not fit at its own batch"
            skipped[why] = skipped.get(why, 0) + 1
            continue
        rows.append((served, figures))
    show(rows, skipped, options.json)


def show(rows: list[tuple[Served, Compiled]], skipped: dict[str, int], out: Path | None) -> None:
    kv_share, host_s = fit(rows)
    print(
        f"\nfitted on all: cache at {kv_share:.2f} of the bandwidth, {host_s * 1e3:.0f} ms a step"
    )
    plain = ratios(rows, timing.ATTENTION_HBM_SHARE, 0.0)
    fitted = ratios(rows, kv_share, host_s)
    print("source, model, slice, batch (held), lengths, metric, published, ratio fitted, as given")
    lines = []
    for (served, figures), with_fit, without in zip(rows, fitted, plain, strict=True):
        line = (
            f"{served.source}, {served.model}{' int8' if served.int8 else ''},"
            f" {served.device[4:]}-{served.chips}, {served.batch} ({figures.batch}),"
            f" {served.prompt}/{served.output}, {served.metric}, {served.value:g},"
            f" {with_fit:.2f}, {without:.2f}"
        )
        print(line)
        lines.append({**dataclasses.asdict(served), "held": figures.batch, "ratio": with_fit,
                      "ratio_without_host": without})  # fmt: skip
    summaries: dict[str, Any] = {"all": summary(fitted), "without_host_overhead": summary(plain)}
    for metric in sorted({served.metric for served, _ in rows}):
        summaries[metric] = summary(
            [ratio for (served, _), ratio in zip(rows, fitted, strict=True)
             if served.metric == metric]
        )  # fmt: skip
    left_out = []
    for source in sorted({served.source for served, _ in rows}):
        others = [row for row in rows if row[0].source != source]
        own = [row for row in rows if row[0].source == source]
        if others:
            chosen = fit(others)
            shares = ratios(own, *chosen)
            left_out += shares
            summaries[f"without {source}: {chosen[0]:.2f}, {chosen[1] * 1e3:.0f} ms"] = summary(
                shares
            )
    if left_out:
        summaries["leave one source out"] = summary(left_out)
    for name, figures_ in summaries.items():
        print(f"{name}: {figures_}")
    for why, count in sorted(skipped.items()):
        print(f"skipped {count}: {why}")
    if out is not None:
        kept = {"kv_share": kv_share, "host_s": host_s, "rows": lines, "summary": summaries,
                "skipped": skipped}  # fmt: skip
        out.write_text(json.dumps(kept, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
