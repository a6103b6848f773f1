"""How far compiled training steps are from published TPU training figures.

    python benchmarks/compiled_training.py TRAINING.csv --python ENV/bin/python [--json OUT]

Takes every row of a table in the format of the published training rows whose device is a TPU slice
that libtpu compiles for, whose model is one of the list below, and whose lengths, batch and
bfloat16 are stated; rows of one run that say the same thing are one. Programs of one layer and of
two are exported and compiled for the whole slice, with each block computed again in the backward
pass and without, and continued to the model's layers. What a source computes again is rarely
stated in full: its own step lies between the two.

Nothing is fitted. A device is compiled with at most ``SEQUENCES`` of its sequences, since the
logits of more do not fit (docs/compile.md), and only two layers' weights are there: the times are
compared, not the memory. Arithmetic grows with the sequences, exchanges of weights do not.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from published_tpu import NOT_A_TPU, parse, summary, tpu, unusable

from tpubench.errors import TpubenchError
from tpubench.estimates.compiled.pipeline import run
from tpubench.estimates.compiled.request import CompileRequest, PhaseEstimate
from tpubench.estimates.compiled.targets import Target, target
from tpubench.estimates.compiled.timing import extrapolate, step_time
from tpubench.suite import registry
from tpubench.workloads.llama.config import PRESETS

MODELS = {
    "Llama-3-8B": "llama-3.1-8b",
    "llama3.1-8b": "llama-3.1-8b",
    "llama3.1-70b": "llama-3.1-70b",
}
"""Presets of the same layers (Llama 3 and 3.1 differ in their rotary tables only)."""

SEQUENCES = 3
"""Sequences of 8192 tokens whose float32 logits a v6e holds beside two layers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
    """One published run, and its step in seconds."""

    source: str
    model: str
    device: str
    chips: int
    batch: int
    length: int
    step_s: float

    @property
    def each(self) -> int:
        """Sequences of a chip."""
        return self.batch // self.chips


def problem(row: dict[str, str]) -> Trained | str:
    """The run behind a row, or why there is none."""
    why, device = unusable(row, MODELS), tpu(row)
    if why is not None or device is None:
        return why or NOT_A_TPU
    if row["dtype"] != "bf16":
        return f"arithmetic in {row['dtype'] or 'an unstated precision'}"
    try:
        batch, chips = int(row["global_batch"]), int(row["chips"])
        length, value = int(row["seq_len"]), float(row["value"])
    except ValueError:
        return "batch or length is not stated"
    if batch % chips:
        return "a sequence is spread over chips"
    tokens = batch * length
    if row["metric"] == "step_time_s":
        step_s = value
    elif row["metric"] == "tokens_per_s_per_chip":
        step_s = tokens / (value * chips)
    else:
        return f"metric {row['metric']} says no time"
    return Trained(
        source=row["source_id"], model=row["model"], device=device, chips=chips, batch=batch,
        length=length, step_s=step_s,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """Seconds of one step on one device."""

    arithmetic_s: float
    collectives_s: float

    @property
    def total_s(self) -> float:
        return self.arithmetic_s + self.collectives_s


def step(trained: Trained, recompute: str, python: str | None, cache: Path) -> Step:
    slice_ = target(trained.device, trained.chips)
    compiled = min(trained.each, SEQUENCES)
    one, two = (_layers(trained, n, compiled, recompute, slice_, python, cache) for n in (1, 2))
    layers = PRESETS[MODELS[trained.model]].n_layers
    assert one.cost is not None
    assert two.cost is not None
    attended = dataclasses.replace(
        two.attention,
        flops=two.attention.flops * layers / 2,
        cache_bytes=two.attention.cache_bytes * layers / 2,
    )
    flops = two.flops + (layers - 2) * (two.flops - one.flops)
    time = step_time(
        extrapolate(one.cost, two.cost, layers),
        attended,
        flops=flops / slice_.devices,
        dtype="bfloat16",
        target=slice_,
    )
    more = trained.each / compiled
    return Step(
        arithmetic_s=(time.dense_s + time.attention_s) * more, collectives_s=time.collectives_s
    )


def _layers(
    trained: Trained,
    layers: int,
    each: int,
    recompute: str,
    slice_: Target,
    python: str | None,
    cache: Path,
) -> PhaseEstimate:
    settings = {"batch": each * trained.chips, "seq_len": trained.length, "layers": layers}
    workload = registry.workload("llama-pretrain")
    (case,) = workload.cases(
        MODELS[trained.model],
        {**{name: [str(value)] for name, value in settings.items()}, "recompute": [recompute]},
        accelerator=True,
    )
    estimated = run(
        CompileRequest(case=case, target=slice_, python=python, cache=cache, timeout_s=3600)
    )
    (phase,) = estimated.phases
    if phase.cost is None:
        raise TpubenchError(f"{layers} layers do not fit: {phase.fit.words}")
    return phase


def main() -> None:
    options = parse(__doc__.splitlines()[0])
    runs: dict[tuple[Any, ...], Trained] = {}
    skipped: dict[str, int] = {}
    with options.table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            case = problem(row)
            if isinstance(case, Trained):
                key = dataclasses.astuple(case)[:-1]
                runs.setdefault(key, case)
            elif case != NOT_A_TPU:
                skipped[case] = skipped.get(case, 0) + 1
    lines = []
    print("source, model, slice, batch, length, published s, again, kept, again without exchange")
    for trained in sorted(runs.values(), key=lambda t: (t.model, t.chips, t.batch)):
        try:
            again, kept = (
                step(trained, recompute, options.python, options.cache)
                for recompute in ("full", "none")
            )
        except TpubenchError as error:
            skipped[str(error)] = skipped.get(str(error), 0) + 1
            continue
        line = {
            **dataclasses.asdict(trained),
            "recomputed": again.total_s / trained.step_s,
            "kept": kept.total_s / trained.step_s,
            "recomputed_without_collectives": again.arithmetic_s / trained.step_s,
        }
        lines.append(line)
        print(
            f"{trained.source}, {trained.model}, {trained.device[4:]}-{trained.chips},"
            f" {trained.batch}, {trained.length}, {trained.step_s:.3f}, {line['recomputed']:.2f},"
            f" {line['kept']:.2f}, {line['recomputed_without_collectives']:.2f}",
            flush=True,
        )
    for name in ("recomputed", "kept", "recomputed_without_collectives"):
        print(f"{name}: {summary([line[name] for line in lines])}")
    for why, count in sorted(skipped.items()):
        print(f"skipped {count}: {why}", file=sys.stderr)
    if options.json is not None:
        kept_ = {"rows": lines, "skipped": skipped}
        options.json.write_text(json.dumps(kept_, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
