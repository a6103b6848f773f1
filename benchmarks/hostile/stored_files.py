"""Stored files as somebody careless or hostile might leave them: one seed, one file.

Four families: bytes (flips, cuts, noise), structure (any field of the Parquet footer or of a page
header changed, and the file put together again around it), values (a file whose checksums all hold
and whose rows say something absurd) and things that are no file at all.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hostile import stored_bytes, stored_sizes, stored_structure, stored_values
from hostile.stored import Base


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One hostile file. ``expected``: what its rows are, if it may be read at all."""

    kind: str
    write: Callable[[Path], None]
    """Puts it at a path."""
    expected: list[dict[str, Any]] | None = field(default=None)


BYTES: dict[str, Callable[[Base, random.Random], bytes]] = {
    "bytes: flipped": stored_bytes.flipped,
    "bytes: cut": stored_bytes.cut,
    "bytes: spliced": stored_bytes.spliced,
    "bytes: noise": stored_bytes.noise,
    "bytes: footer length": stored_bytes.footer_length,
    "structure: footer": stored_structure.footer,
    "structure: column types": stored_structure.column_types,
    "structure: offsets": stored_structure.offsets,
    "structure: statistics": stored_structure.statistics,
    "structure: nested": stored_structure.nested,
    "structure: Arrow schema": stored_structure.arrow_schema,
    "structure: page header": stored_structure.page_header,
    "structure: page body": stored_structure.page_body,
    "structure: pages swapped": stored_structure.swapped,
    "size: equal rows": stored_sizes.repeated,
    "size: unpacking bomb": stored_sizes.bomb,
    "size: long dictionary": stored_sizes.long_dictionary,
    "values: columns": stored_values.columns,
    "values: versions": stored_values.versions,
    "values: layouts": stored_values.layouts,
}
WEIGHTS = {
    "bytes: noise": 0.5,
    "structure: footer": 4,
    "structure: page header": 3,
    "structure: page body": 3,
    "structure: column types": 2,
    "structure: offsets": 2,
    "size: equal rows": 0.5,
    "size: unpacking bomb": 0.3,
    "size: long dictionary": 0.3,
    "values: columns": 2,
    "values: versions": 0.5,
    "values: cells": 6,
    "no file": 0.7,
}


def mutant(base: Base, seed: int) -> Mutant:
    """The mutant of this seed."""
    rng = random.Random(f"stored {seed}")
    kinds = [*BYTES, "values: cells", "no file"]
    kind = rng.choices(kinds, [WEIGHTS.get(each, 1.0) for each in kinds])[0]
    if kind == "no file":
        _, maker = stored_bytes.odd(base, rng)
        return Mutant(kind=kind, write=maker)
    if kind == "values: cells":
        data, expected = stored_values.values(base, rng)
        return Mutant(kind=kind, write=_writer(data), expected=expected)
    data = BYTES[kind](base, rng)
    return Mutant(kind=kind, write=_writer(data))


def _writer(data: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(data)

    return write
