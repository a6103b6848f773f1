"""Which files hold rows that look like rows that were sealed elsewhere, in 16 bytes a row.

Naming what was done to a row needs its seal and those of its likes, about 2 kB a row; in a store
where nothing was done no row has a like. So files are first told apart by eight bytes of each
row's digest and of its shape: rows that are alike agree in them, and only their files are looked
at again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tpubench.results.sealing.row_seal import RowSeal

if TYPE_CHECKING:
    import numpy as np

Unread = tuple[Path, str | None]
"""A file whose rows may have homes elsewhere, and the manifest that lists it, if one does."""

_HEX = 16
"""Digits of eight bytes."""


@dataclass(slots=True)
class Likeness:
    """Files and the marks of their rows, in the same order."""

    files: list[Unread] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    digests: array[int] = field(default_factory=lambda: array("Q"))
    shapes: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, file: Unread, rows: Sequence[RowSeal]) -> None:
        """A file to look at."""
        self.files.append(file)
        self.digests.extend(_mark(row.digest) for row in rows)
        self.shapes.extend(_mark(row.shape) for row in rows)
        self.ends.append(len(self.digests))

    def alike(self, sealed: Iterable[tuple[str, str, Sequence[RowSeal]]]) -> list[Unread]:
        """The files of which a row may have a like among all that was sealed: of a file that a
        manifest lists, another than itself.
        """
        import numpy as np

        if not self.files:
            return []
        digests, shapes = array("Q"), array("Q")
        for _, _, rows in sealed:
            digests.extend(_mark(row.digest) for row in rows)
            shapes.extend(_mark(row.shape) for row in rows if row.shape is not None)
        counts = np.maximum(_counts(self.digests, digests), _counts(self.shapes, shapes))
        alike, start = [], 0
        for file, end in zip(self.files, self.ends, strict=True):
            own = 0 if file[1] is None else 1
            if bool((counts[start:end] > own).any()):
                alike.append(file)
            start = end
        return alike


def _mark(digest: str | None) -> int:
    return 0 if digest is None else int(digest[:_HEX], 16)


def _counts(marks: array[int], sealed: array[int]) -> np.ndarray[Any, Any]:
    """How often each of these marks was sealed."""
    import numpy as np

    every = np.frombuffer(sealed, dtype=np.uint64) if sealed else np.zeros(0, dtype=np.uint64)
    every = np.sort(every)
    mine = np.frombuffer(marks, dtype=np.uint64) if marks else np.zeros(0, dtype=np.uint64)
    return np.searchsorted(every, mine, side="right") - np.searchsorted(every, mine, side="left")
