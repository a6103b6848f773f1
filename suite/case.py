"""What is run, as plain values: a case, the work that it is, where it is built and from what."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.devices.precisions import PRECISIONS
from tpubench.results.fingerprint import canonical_json

if TYPE_CHECKING:
    import torch

DTYPES: dict[str, int] = {
    name: PRECISIONS[name].bits // 8 for name in ("float32", "bfloat16", "float16")
}
"""Precisions a workload may ask for, and their bytes an element."""

WIDENED = {"int8": "bfloat16"}
"""Precision in which weights of one that is only stored are multiplied."""

_UNSAID = {"seed", "weights", "prompt"}
"""Parameters that a label leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fully specified thing to run: nothing about it is left to a default."""

    workload: str
    workload_version: int
    preset: str
    params: Mapping[str, int | str]
    shape: Mapping[str, object] = field(default_factory=dict)
    """Shape of the model, as JSON values; empty for a workload whose parameters say it all."""

    @property
    def dtype(self) -> str:
        return str(self.params["dtype"])

    @property
    def arithmetic_dtype(self) -> str:
        """The precision whose peak this case is held against."""
        return WIDENED.get(self.dtype, self.dtype)

    def number(self, key: str) -> int:
        """An integer parameter."""
        return int(self.params[key])

    @property
    def key(self) -> str:
        """Short stable name of the case, fit for a file name."""
        identity = [
            self.workload,
            self.workload_version,
            self.preset,
            dict(self.params),
            dict(self.shape),
        ]
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]

    def label(self) -> str:
        """What a person reads: ``batch=1 input_len=128 …``."""
        return " ".join(f"{k}={v}" for k, v in self.params.items() if k not in _UNSAID)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one pass of a case (or one phase of it) must do, by closed form.

    items: what a user counts (tokens, samples), in ``unit``.
    flops: model FLOPs, a multiply-add counted as two, attention counted causal.
    bytes: bytes that must move between memory and the cores at least once.

    ValueError where one of the three is no finite number from 0.
    """

    items: int
    unit: str
    flops: int
    bytes: int
    phases: Mapping[str, Work] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, amount in (
            (self.unit, self.items), ("FLOP", self.flops), ("byte", self.bytes)
        ):  # fmt: skip
            if not 0 <= amount < math.inf:
                raise ValueError(f"a pass cannot be {amount} {what}s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of one pass that a compiler sees as one program.

    marks: how often a pass marks its end. runs: runs of the program from one mark to the next.
    """

    marks: int = 1
    runs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One phase as a module on the meta device, ready to be exported: no weight is allocated.

    split: for each parameter, buffer or input that is spread over the chips, the dimension that is
    cut; what it does not name is whole on every chip. result: the same of the result.
    context: positions that attention reads on average, where fewer than the cache holds.
    """

    module: torch.nn.Module
    inputs: tuple[torch.Tensor, ...]
    split: Mapping[str, int] = field(default_factory=dict)
    result: int | None = None
    context: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a step is built, as torch names it, and its place among many.

    shard: spreads the parameters of a module over all ranks, in place. A step that trains calls it
    on each repeated block as soon as its weights exist, and last on the whole module.
    """

    torch_device: str
    rank: int = 0
    ranks: int = 1
    """Processes that run this step together."""
    shard: Callable[[torch.nn.Module], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where a checkpoint and a prompt come from; the default is seeded random weights."""

    path: Path | None = None
    prompt_ids: tuple[int, ...] | None = None
