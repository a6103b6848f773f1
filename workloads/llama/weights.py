"""Where the weights of a Llama come from: seeded random values, or a checkpoint, piece by piece.

A source yields pieces of rows, so that whoever fills a model, one rank's share of it or one layer
of a reference never holds more than it needs. It gives the same values however often it is asked:
a reference is computed from the source, not from what a backend made of the weights.

Random weights are drawn so that every layer matters and rounding stays small at any depth: each
projection keeps the size of what it multiplies, scores of attention have a standard deviation of
two (a head looks at a few positions, not at all alike), and each of the 2·L branches adds 1/√(2·L)
of the embedding's size to the residual. Norms are not one, so that one left out shows; the last
norm has random signs, or a head tied to the embedding would repeat the last token for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from tpubench.workloads._normal_values import PERIOD, normal_values
from tpubench.workloads.llama.config import Experts, Latent, LlamaConfig
from tpubench.workloads.llama.experts import gates
from tpubench.workloads.llama.model import Llama
from tpubench.workloads.llama.quantized import (
    Held,
    QuantizedLinear,
    dequantized,
    quantize,
    row_scales,
)

Piece = tuple[int, Tensor]
"""First row, and whole rows of one weight."""

CORRECTION_STD = 0.1
"""Size of what is added to the sigmoids of a router, whose own spread is twice as much."""
EMBEDDING_STD = 0.02
"""Size of the residual stream. Small enough for the ε of a norm (1e-5) to be seen in it."""
_SCORE_STD = 2.0
_GATED_STD = 0.6
"""Root mean square of silu(g)·u for standard normal g and u, by integration: 0.596."""
_NORM_SPREAD = 0.25


class Source(Protocol):
    """The weights of one model, by the names that ``llama/model.py`` gives them."""

    config: LlamaConfig

    def identity(self) -> dict[str, object]:
        """What tells these weights from all others, as JSON values."""

    def pieces(self, name: str) -> Iterator[Piece]:
        """Pieces of whole rows of one weight, in any order, that together are all of it."""


def shapes(config: LlamaConfig) -> dict[str, torch.Size]:
    """Shape of every weight, in the order of the model; a tied head has none of its own."""
    with torch.device("meta"):
        model = Llama(config, 1, torch.float32)
    return {name: parameter.shape for name, parameter in model.named_parameters()}


class Drawn:
    """Seeded random weights, the same on every device and for any division among ranks.

    They are cut from one table of normal values drawn on the CPU, because not every device draws
    the same values again from the same seed, and drawing 8 billion would take minutes.
    """

    def __init__(self, config: LlamaConfig, seed: int, device: str = "cpu") -> None:
        """device: where the pieces are made."""
        self.config, self.seed = config, seed
        # A device that compiles each slice at its own offset is given values made on the host.
        where = device if torch.device(device).type in {"cpu", "cuda"} else "cpu"
        self._table = normal_values(seed, where)
        self._shapes = shapes(config)
        self._starts: dict[str, int] = {}
        start = 0
        for name, shape in self._shapes.items():
            self._starts[name] = start
            start += shape.numel()

    def identity(self) -> dict[str, object]:
        return {"config": self.config.to_json(), "seed": self.seed}

    def pieces(self, name: str) -> Iterator[Piece]:
        shape, start = self._shapes[name], self._starts[name]
        width = shape[1:].numel()
        step = max(1, PERIOD // width)
        for first in range(0, shape[0], step):
            rows = min(step, shape[0] - first)
            at = (start + first * width) % PERIOD
            normal = self._table[at : at + rows * width].view(rows, *shape[1:])
            yield first, self._scaled(name, first, normal)

    def _scaled(self, name: str, first: int, normal: Tensor) -> Tensor:
        config = self.config
        D, L = config.d_model, config.n_layers
        width = config.n_heads * config.head_dim
        if name == "norm.weight":
            return normal.clone()
        if "norm" in name:
            return 1.0 + _NORM_SPREAD * normal
        if name.endswith("correction.weight"):
            return CORRECTION_STD * normal
        if name == "embedding.weight" or name.endswith("bias"):
            return EMBEDDING_STD * normal
        branch = EMBEDDING_STD / math.sqrt(2 * L)
        if name.endswith("attention.out.weight"):
            return branch / math.sqrt(width) * normal
        if name.endswith("down.weight"):
            size = branch / (_GATED_STD * math.sqrt(normal.shape[1]))
            if config.experts is not None and config.has_experts(_layer(name)):
                size /= 1.0 if name.endswith("shared.down.weight") else gate_size(config.experts)
            return size * normal
        if config.latent is not None and ".attention." in name:
            return self._latent(config.latent, name, first, normal)
        if name.endswith("attention.qkv.weight"):
            scored = width + config.n_kv_heads * config.head_dim  # query and key rows
            std = torch.full((len(normal), 1), 1 / math.sqrt(D), device=normal.device)
            std[: max(0, scored - first)] *= math.sqrt(_SCORE_STD)
            return std * normal
        return normal / math.sqrt(D)

    def _latent(self, latent: Latent, name: str, first: int, normal: Tensor) -> Tensor:
        """Projections of latent attention: rows of queries and keys are larger, as elsewhere."""
        row = torch.arange(first, first + len(normal), device=normal.device)
        kind = name.removesuffix(".weight").split(".")[-1]
        if kind == "kv_a":  # the compressed part is normed, whatever its size
            scored = row >= latent.kv_rank
        elif kind == "kv_b":  # of each head keys, then values
            scored = row % (2 * self.config.head_dim) < self.config.head_dim
        else:
            scored = (row >= 0) & (kind != "q_a")
        larger = math.sqrt(_SCORE_STD) / latent.magnitude
        std = torch.where(scored, larger, 1.0) / math.sqrt(normal.shape[1])
        return std.unsqueeze(1) * normal


def _layer(name: str) -> int:
    return int(name.split(".")[1])


@lru_cache(maxsize=8)
def gate_size(experts: Experts) -> float:
    """√E[Σ gate²] of a token whose router's scores are standard normal, over 4,096 drawn ones: what
    a sum of equally large experts is multiplied by."""
    generator = torch.Generator().manual_seed(0)
    scores_TE = torch.randn(4096, experts.routed, generator=generator)
    if experts.corrected:
        correction_E = CORRECTION_STD * torch.randn(experts.routed, generator=generator)
        gate_Tk, _ = gates(experts, scores_TE.sigmoid(), correction_E)
    else:
        gate_Tk, _ = gates(experts, scores_TE.softmax(dim=1), None)
    return math.sqrt(float(gate_Tk.square().sum(dim=1).mean()))


class Stored:
    """A checkpoint, read where it lies."""

    def __init__(self, config: LlamaConfig, path: Path) -> None:
        from tpubench.workloads._checkpoint import open_for

        self.config = config
        self._checkpoint, self._placed = open_for(path, config)

    def identity(self) -> dict[str, object]:
        path = self._checkpoint.path
        files = [path] if path.is_file() else sorted(path.iterdir())
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        return {"config": self.config.to_json(), "files": states}

    def pieces(self, name: str) -> Iterator[Piece]:
        stored = {s: p.first_row for s, p in self._placed.items() if p.parameter == name}
        for part, row, rows in self._checkpoint.tensors(stored):
            yield stored[part] + row, rows


def source(config: LlamaConfig, seed: int, path: Path | None, device: str = "cpu") -> Source:
    """The checkpoint at ``path``, or random weights of ``seed``."""
    return Drawn(config, seed, device) if path is None else Stored(config, path)


@torch.no_grad()
def fill(model: nn.Module, weights: Source) -> None:
    """Copy the weights into the parameters of a whole model, one at a time."""
    for name, parameter in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        module = model.get_submodule(owner)
        if isinstance(module, QuantizedLinear) and kind != "bias":
            if kind == "weight":  # and the scale with it
                put(module, weights.pieces(name))
        else:
            as_it_is, where = Held(dtype=parameter.dtype), str(parameter.device)
            parameter.copy_(whole(weights, name, held=as_it_is, device=where))


@torch.no_grad()
def put(module: QuantizedLinear, pieces: Iterator[Piece]) -> None:
    """Quantise whole rows of bfloat16, piece by piece, into a projection."""
    device = module.weight.device
    for first, rows in pieces:
        wide = rows.to(torch.bfloat16)
        scale_R = row_scales(wide, module.kind)
        narrow = quantize(wide, scale_R, module.kind)
        module.scale[first : first + len(rows)] = scale_R.to(device)
        module.weight[first : first + len(rows)] = narrow.to(device)


@torch.no_grad()
def whole(weights: Source, name: str, *, held: Held, device: str) -> Tensor:
    """One weight on ``device`` with the values it has when held in ``held``; in float32 where it is
    quantised, in ``held.dtype`` elsewhere."""

    def as_held(rows: Tensor) -> Tensor:
        if held.quantized is not None and held.quantizes(name):
            return dequantized(rows.to(torch.bfloat16), held.quantized)
        return rows.to(held.dtype)

    pieces = sorted(((first, as_held(rows)) for first, rows in weights.pieces(name)), key=_first)
    # Put together where they were made: a device that compiles would compile each piece's place.
    together = pieces[0][1] if len(pieces) == 1 else torch.cat([rows for _, rows in pieces])
    return together.to(device)


def _first(piece: Piece) -> int:
    return piece[0]
