"""Real weights into the Llama program, from a Hugging Face folder or a GGUF file.

``read_config`` imports no torch and reads headers only, yet checks that every tensor the program
needs is there in the right shape: a header that lies about its sizes is refused before anything is
allocated for it. ``load`` then copies tensor by tensor out of the mapped file, so beyond the model
itself it needs the memory of about one tensor.

Supported: dense Llama decoders, the Mistral, Qwen2 and Phi-3 ones whose arithmetic is the same,
Qwen3 and GLM; rotary positions of a part of each head; rotary scalings linear, llama3, yarn, and
longrope within its original context; sliding windows, for contexts that lie within them. All else
(experts, quantised safetensors …) is refused by name.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tpubench.suite.workload import UsageError, open_regular
from tpubench.workloads._checkpoint.header import PICKLED, is_file, is_folder, quoted, refused
from tpubench.workloads.llama.config import LlamaConfig

if TYPE_CHECKING:
    from torch import Tensor

    from tpubench.workloads.llama.model import Llama


class Checkpoint(Protocol):
    """An opened checkpoint, whatever its format."""

    @property
    def path(self) -> Path: ...

    @property
    def config(self) -> LlamaConfig: ...

    @property
    def names(self) -> Mapping[str, str]:
        """The format's name of each part in :func:`placements`, with ``{layer}`` and ``{kind}``."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every stored tensor that the program may need, rows first."""

    def tensors(self, names: Collection[str]) -> Iterator[tuple[str, int, Tensor]]:
        """(name, first row, rows) of each named tensor, in pieces of bounded size, on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a stored tensor of ``shape`` goes: to ``parameter``, from ``first_row`` on."""

    parameter: str
    shape: tuple[int, ...]
    first_row: int = 0


def read_config(path: Path) -> LlamaConfig:
    """Shape and arithmetic of the checkpoint at ``path``; no torch, no weights read.

    path: a folder with config.json and ``*.safetensors``, or a ``.gguf`` file. UsageError (one
    line, naming the file) when it is missing, damaged, incomplete or of an unsupported kind.
    """
    checkpoint = _open(path)
    _check_tensors(checkpoint)
    return checkpoint.config


def load(path: Path, model: Llama) -> None:
    """Copies the checkpoint's weights into ``model``, cast to its precision, on its device.

    The model must have been built for ``read_config(path)``. UsageError as there.
    """
    import torch

    checkpoint, placed = open_for(path, model.config)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, row, rows in checkpoint.tensors(placed.keys()):
            first = placed[name].first_row + row
            parameters[placed[name].parameter][first : first + len(rows)].copy_(rows)


def open_for(path: Path, config: LlamaConfig) -> tuple[Checkpoint, dict[str, Placement]]:
    """The checkpoint of a model of this configuration, and where its tensors go.

    UsageError as in :func:`read_config`.
    """
    checkpoint = _open(path)
    _check_tensors(checkpoint)
    # How long a context the model is built for does not change its weights.
    if replace(checkpoint.config, max_context=1) != replace(config, max_context=1):
        raise refused(path, "describes another model than the one built: read its config first")
    return checkpoint, placements(checkpoint.config, checkpoint.names)


def placements(config: LlamaConfig, names: Mapping[str, str]) -> dict[str, Placement]:
    """Stored name of every tensor the program needs, and where it goes.

    The program fuses query, key and value into one projection, and gate and up into another, in
    that order; most checkpoints keep them apart.
    """
    D, F = config.d_model, config.d_ffn
    Q, K = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    stored = (
        # part, parameter, first row, rows, columns, has a bias
        ("qkv", "attention.qkv", 0, Q + 2 * K, D, config.attention_bias),
        ("gate_up", "ffn.gate_up", 0, 2 * F, D, config.mlp_bias),
        ("q", "attention.qkv", 0, Q, D, config.attention_bias),
        ("k", "attention.qkv", Q, K, D, config.attention_bias),
        ("v", "attention.qkv", Q + K, K, D, config.attention_bias),
        ("o", "attention.out", 0, D, Q, config.output_bias),
        ("gate", "ffn.gate_up", 0, F, D, config.mlp_bias),
        ("up", "ffn.gate_up", F, F, D, config.mlp_bias),
        ("down", "ffn.down", 0, D, F, config.mlp_bias),
    )
    # Where a file has the whole, it has no parts.
    apart = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
    projections = [one for one in stored if one[0] in names and apart.get(one[0]) not in names]
    placed = {
        names["embedding"]: Placement(parameter="embedding.weight", shape=(config.vocab, D)),
        names["norm"]: Placement(parameter="norm.weight", shape=(D,)),
    }
    if not config.tied:
        placed[names["head"]] = Placement(parameter="head.weight", shape=(config.vocab, D))
    for layer in range(config.n_layers):
        for norm in ("attention_norm", "ffn_norm"):
            placed[names[norm].format(layer=layer)] = Placement(
                parameter=f"blocks.{layer}.{norm}.weight", shape=(D,)
            )
        for norm in ("q_norm", "k_norm") if config.qk_norm else ():
            placed[names[norm].format(layer=layer)] = Placement(
                parameter=f"blocks.{layer}.attention.{norm}.weight", shape=(config.head_dim,)
            )
        for part, parameter, first, rows, columns, biased in projections:
            kinds = {"weight": (rows, columns)} | ({"bias": (rows,)} if biased else {})
            for kind, shape in kinds.items():
                placed[names[part].format(layer=layer, kind=kind)] = Placement(
                    parameter=f"blocks.{layer}.{parameter}.{kind}", shape=shape, first_row=first
                )
    return placed


def _open(path: Path) -> Checkpoint:
    if path.suffix.lower() in PICKLED:
        raise refused(path, "a pickled checkpoint runs code when read: convert it to safetensors")
    try:
        if is_folder(path):
            from tpubench.workloads._checkpoint.hf import open_folder

            return open_folder(path)
        if path.suffix.lower() == ".gguf":
            from tpubench.workloads._checkpoint.from_gguf import open_gguf

            return open_gguf(path)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"reading {path} needs the package {error.name}: pip install 'tpubench[cpu]'"
        ) from None
    if path.suffix.lower() == ".safetensors":
        raise refused(path, "name the folder that holds it and its config.json")
    if not is_file(path):
        raise refused(path, "there is no such file or folder")
    raise refused(path, "neither a folder with config.json and *.safetensors nor a .gguf file")


def _check_tensors(checkpoint: Checkpoint) -> None:
    """UsageError naming the first tensor that is missing, foreign or wrongly shaped."""
    placed = placements(checkpoint.config, checkpoint.names)
    shapes = checkpoint.shapes
    for name, place in placed.items():
        if name not in shapes:
            raise refused(checkpoint.path, f"tensor {quoted(name)} is missing: it is incomplete")
        if shapes[name] != place.shape:
            raise refused(
                checkpoint.path,
                f"tensor {quoted(name)} has shape {list(shapes[name])}, "
                f"but its header asks for {list(place.shape)}",
            )
    for name in shapes:
        if name not in placed:
            raise refused(
                checkpoint.path,
                f"tensor {quoted(name)} has no place in the dense Llama decoder it describes",
            )


def digest(path: Path) -> str:
    """Sixteen hex digits that tell one checkpoint's files from another's.

    SHA-256 over each file's name, size and 64 samples of 64 KiB spread over it: reading all of a
    large checkpoint would take minutes, and two trained models differ everywhere. UsageError when
    one cannot be read.
    """
    sha = hashlib.sha256()
    parts = sorted(path.glob("*.safetensors")) if is_folder(path) else [path]
    for part in parts:
        try:
            with open_regular(part) as stream:
                size = os.fstat(stream.fileno()).st_size
                sha.update(f"{part.name} {size};".encode("utf-8", "surrogateescape"))
                for sample in range(_DIGEST_SAMPLES):
                    stream.seek(max(0, size - _DIGEST_BYTES) * sample // (_DIGEST_SAMPLES - 1))
                    sha.update(stream.read(_DIGEST_BYTES))
        except OSError as error:
            raise refused(part, f"cannot be read ({error.strerror})") from None
    return sha.hexdigest()[:16]


_DIGEST_SAMPLES, _DIGEST_BYTES = 64, 64 * 1024
