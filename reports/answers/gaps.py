"""A kind of work without like-for-like evidence: what is there, what is not, and how to get it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tpubench.devices.vendors import is_gpu, is_tpu, label
from tpubench.reports.answers.works import KINDS, kind_of
from tpubench.reports.findings import Findings, short
from tpubench.reports.pairs import RATES, TIME, DevicePair, title
from tpubench.results.model_names import model_key
from tpubench.results.summary import Summary

_LENGTHS = ("seq_len", "input_len", "output_len")
_LOADS = ("load", "batch", "concurrency", "request_rate", "scenario", "round")
_IMPORTS = {
    "serving": (
        "tpubench import vllm-bench TPU.json --device v6e --chips 8 --dtype bfloat16",
        "tpubench import vllm-bench GPU.json --device h100-sxm --chips 8 --dtype bfloat16",
    ),
    "images": ("tpubench import mlperf-inference TREE",),
    "other": ("tpubench import list",),
}
_PROGRAMS = {"training": "llama-pretrain", "batch": "llama-infer"}
_PRESET = "llama-3.1-8b"
_SEARCHED = 150
"""Results of each side that the nearest pair is looked for among."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A kind of work that has no verdict."""

    kind: str
    reason: str
    nearest: str
    """The pair that comes closest and what keeps it from being one; may be empty."""
    commands: tuple[str, ...]
    tpus: tuple[str, ...]
    gpus: tuple[str, ...]


def by_kind(findings: Findings) -> dict[str, list[Summary]]:
    """Rates of programs that really ran or were published or computed, by kind of work."""
    groups: dict[str, list[Summary]] = {kind: [] for kind in KINDS}
    for metric in (*RATES, TIME):
        for summary in findings.of(metric):
            if summary.first.backend != "fake":
                kind = kind_of(summary.first, summary.params.get("scenario"))
                groups[kind].append(summary)
    return groups


def gap(kind: str, summaries: Sequence[Summary], near: Sequence[DevicePair]) -> Gap:
    """Why ``summaries`` of this kind give no verdict. ``near`` are its pairs that are not like."""
    tpus = _devices(s for s in summaries if is_tpu(s.first.device))
    gpus = _devices(s for s in summaries if is_gpu(s.first.device))
    nearest = ""
    if not summaries:
        reason = "nothing measured, published or computed here"
    elif not tpus or not gpus:
        names = _devices(summaries)
        lacking = " and ".join(
            name for name, side in (("no TPU", tpus), ("no GPU", gpus)) if not side
        )
        reason = f"only {_listed(names)}: {lacking} did this work"
    else:
        reason = f"{_listed(tpus)} and {_listed(gpus)} did it, no TPU and GPU in the same way"
        nearest = _nearest(summaries, near)
    return Gap(
        kind=kind,
        reason=reason,
        nearest=nearest,
        commands=tuple(_commands(kind, summaries, bool(tpus), bool(gpus))),
        tpus=tuple(tpus),
        gpus=tuple(gpus),
    )


def _devices(summaries: Iterable[Summary]) -> list[str]:
    return list(dict.fromkeys(label(s.first.device) for s in summaries))


def _listed(names: list[str]) -> str:
    names = [short(name, 32) for name in names]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more"]
    return ", ".join(names)


def _nearest(summaries: Sequence[Summary], near: Sequence[DevicePair]) -> str:
    if near:
        pair = min(near, key=lambda p: len(p.differences))
        names = f"{label(pair.tpu.rate.first.device)} and {label(pair.gpu.rate.first.device)}"
        return f"{pair.title}, {names}: {'; '.join(pair.differences)}"
    best: tuple[int, str] | None = None
    tpus = [s for s in summaries if is_tpu(s.first.device)][:_SEARCHED]
    gpus = [s for s in summaries if is_gpu(s.first.device)][:_SEARCHED]
    for tpu in tpus:
        for gpu in gpus:
            apart = _apart(tpu, gpu)
            if best is None or len(apart) < best[0]:
                names = f"{label(tpu.first.device)} and {label(gpu.first.device)}"
                best = (len(apart), f"{title(tpu)}, {names}: {'; '.join(apart)}")
    return best[1] if best else ""


def _apart(tpu: Summary, gpu: Summary) -> list[str]:
    a, b = tpu.first, gpu.first
    pairs: list[tuple[str, object, object]] = [
        ("evidence", a.evidence, b.evidence),
        ("program", a.workload, b.workload),
        ("figure", a.metric, b.metric),
        ("precision", a.dtype, b.dtype),
    ]
    if model_key(a.preset) != model_key(b.preset):
        pairs.append(("model", a.preset, b.preset))
    pairs += [(n, tpu.params.get(n), gpu.params.get(n)) for n in (*_LENGTHS, *_LOADS)]
    return [
        f"{name.replace('_', ' ')} {_word(left)} ↔ {_word(right)}"
        for name, left, right in pairs
        if left != right
    ]


def _word(value: object) -> str:
    return "not stated" if value is None else short(str(value), 40)


def _commands(kind: str, summaries: Sequence[Summary], tpu: bool, gpu: bool) -> Iterable[str]:
    program = _PROGRAMS.get(kind)
    if program is None:
        yield from _IMPORTS[kind]
        return
    mine = [s for s in summaries if s.first.workload == program]
    own = min(mine, key=lambda s: not is_tpu(s.first.device), default=None)
    preset = _PRESET if own is None else own.first.preset
    case = ""
    if own is not None:
        names = ("batch", *_LENGTHS)
        case = "".join(
            f" --set {n}={shlex.quote(str(own.params[n]))}" for n in names if own.params.get(n)
        )
    base = f"tpubench run --workload {program} --preset {shlex.quote(preset)}{case}"
    if not tpu or gpu:
        yield f"{base} --backend tpu"
    if not gpu or tpu:
        yield f"{base} --backend cuda"
