"""Checkpoints as somebody careless or hostile might leave them: one seed, one folder or file.

A tiny Llama is written by the safetensors, tokenizers and gguf packages, then one thing about it is
changed: bytes, a header's offsets, shapes and types, a JSON file's values, size or encoding, the
lengths and counts inside a GGUF, a tokenizer or a chat template.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hostile import checkpoint_folder, checkpoint_gguf
from hostile.checkpoint import Base


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One hostile checkpoint. ``write`` puts it into an empty folder and says what its path is."""

    kind: str
    write: Callable[[Path], Path]


KINDS: dict[str, tuple[Callable[[Base, Path, random.Random], Path], float]] = {
    "HF: bytes": (checkpoint_folder.hf_bytes, 2),
    "HF: safetensors header": (checkpoint_folder.safetensors_header, 4),
    "HF: config values": (checkpoint_folder.config_values, 3),
    "HF: odd file": (checkpoint_folder.odd_file, 2),
    "HF: index": (checkpoint_folder.index, 1.5),
    "HF: tokenizer": (checkpoint_folder.tokenizer, 3),
    "HF: tokenizer config": (checkpoint_folder.tokenizer_config, 2),
    "chat template": (checkpoint_folder.template, 1.5),
    "GGUF: bytes": (checkpoint_gguf.gguf_bytes, 3),
    "GGUF: header": (checkpoint_gguf.gguf_header, 4),
    "GGUF: tensors": (checkpoint_gguf.gguf_tensors, 3),
    "GGUF: huge": (checkpoint_gguf.gguf_huge, 1.5),
    "GGUF: odd file": (checkpoint_gguf.gguf_odd, 0.5),
}


def mutant(base: Base, seed: int) -> Mutant:
    """The mutant of this seed."""
    rng = random.Random(f"checkpoint {seed}")
    kind = rng.choices(list(KINDS), [weight for _, weight in KINDS.values()])[0]
    make = KINDS[kind][0]
    return Mutant(kind=kind, write=lambda folder: make(base, folder, rng))
