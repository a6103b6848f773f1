"""A published figure as a problem to predict: all that was said about how it was obtained."""

from __future__ import annotations

from dataclasses import dataclass, field

from tpubench.estimates.roofline import samples
from tpubench.estimates.roofline.chips import Chip
from tpubench.suite.decoder import Decoder

OWN = "tpubench"
"""Source and family of what nobody published: an estimate that is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One figure to predict, and all that was said about how it was obtained."""

    kind: str
    """training, offline, static, decode, prefill, concurrency, server, queries or samples."""
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
    shape: Decoder | None = None
    work: samples.Work | None = None
    precision: str = "bfloat16"
    precision_stated: bool = True
    kv_precision: str = "bfloat16"
    weight_only: bool = False
    """Narrow weights, arithmetic in bfloat16."""
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
    batch: float | None = None
    """Sequences at once (static batch, concurrency); None: as many as the cache holds."""
    requests: float | None = None
    """Requests of a run at a fixed concurrency, all told; None where not stated."""
    qps: float | None = None
    input_len: float | None = None
    output_len: float | None = None
    beams: float = 1.0
    """Tokens decoded for each token of the output (beam search)."""
    lengths: str = "fixed"
    """fixed, or variable: means of a data set."""
    seq_len: float | None = None
    global_batch: float | None = None
    attention: str = "causal"
    """How the source counts attention in its FLOPs: causal or full."""
    layout_stated: bool = True
    """Whether the source says how a training job was spread; if not, well."""
    sharded: bool = True
    """Weights sharded over the data-parallel chips and gathered for each micro-batch."""
    scenario: str = ""
    modality: str = "text"
    notes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of the file: a problem and its measured value, or why it cannot be used."""

    line: int
    source: str
    device: str
    value: float | None = None
    problem: Problem | None = None
    skipped: str | None = None
