"""A figure as a problem to predict: all that was said about how it was obtained.

One type for each kind of program, for what describes a training job does not describe a server.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from tpubench.estimates.roofline import samples
from tpubench.estimates.roofline.chips import Chip
from tpubench.suite.decoder import Decoder

OWN = "tpubench"
"""Source and family of what nobody published: an estimate that is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What every figure has: on what it ran, by whom it was said, in which metric."""

    kind: str
    """training, samples, or of serving: offline, static, decode, prefill, concurrency, server or
    queries (MLPerf's)."""
    metric: str
    chip: Chip
    chips: int
    software: str
    """Family of the software: trtllm, vllm, maxtext, megatron …"""
    source: str
    family: str
    """Source without its version: what two tables of one author share."""
    date: float
    """Year of the source, with fraction; 2025.0 where not stated."""
    model: str
    shape: Decoder | None
    """The decoder; None of what is none."""
    precision: str = "bfloat16"
    precision_stated: bool = True
    scenario: str = ""
    notes: frozenset[str] = field(default_factory=frozenset)

    @property
    def lengths(self) -> tuple[float | None, ...]:
        """Tokens in, out and trained at once: what two figures must share to be compared."""
        return ()


def fields(stated: Problem) -> dict[str, Any]:
    """What every problem has, of one: to be said of a problem of a certain kind too."""
    return {each.name: getattr(stated, each.name) for each in dataclasses.fields(Problem)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Problem):
    """A training step of a decoder, or the time until a benchmark's target."""

    kind: str = "training"
    shape: Decoder
    tensor: int = 1
    expert: int = 1
    pipeline: int = 1
    context: int = 1
    virtual: int = 1
    microbatch: float | None = None
    slices: int = 1
    remat: bool | None = None
    """Whether activations are recomputed; None where not stated."""
    offload: bool = False
    tuning: str = "full"
    """full, lora, or packed-less: what is trained."""
    seq_len: float | None = None
    global_batch: float | None = None
    attention: str = "causal"
    """How the source counts attention in its FLOPs: causal or full."""
    layout_stated: bool = True
    """Whether the source says how the job was spread; if not, well."""
    sharded: bool = True
    """Weights sharded over the data-parallel chips and gathered for each micro-batch."""

    @property
    def lengths(self) -> tuple[float | None, ...]:
        return (self.seq_len,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving(Problem):
    """Prompts and replies of a decoder."""

    shape: Decoder
    kv_precision: str = "bfloat16"
    weight_only: bool = False
    """Narrow weights, arithmetic in bfloat16."""
    tensor: int = 1
    expert: int = 1
    batch: float | None = None
    """Sequences at once (static batch, concurrency); None: as many as the cache holds."""
    requests: float | None = None
    """Requests of a run at a fixed concurrency, all told; None where not stated."""
    qps: float | None = None
    input_len: float | None = None
    output_len: float | None = None
    beams: float = 1.0
    """Tokens decoded for each token of the output (beam search)."""
    variable: bool = False
    """Whether lengths are means of a data set."""

    @property
    def lengths(self) -> tuple[float | None, ...]:
        return self.input_len, self.output_len


@dataclass(frozen=True, slots=True, kw_only=True)
class Images(Problem):
    """Programs that handle samples (images, queries, clips) and not tokens."""

    kind: str = "samples"
    shape: Decoder | None = None
    work: samples.SampleWork
    training: bool = False
    batch: float | None = None
    global_batch: float | None = None
    steps: float | None = None
    """Iterations of the model for one sample; None for those of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLine:
    """A line of the file: a problem and its measured value, or why it cannot be used."""

    line: int
    source: str
    device: str
    value: float | None = None
    problem: Problem | None = None
    skipped: str | None = None
