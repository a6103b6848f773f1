"""What was done to rows that are not as they were sealed: the name of each kind of tampering."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tpubench.results.sealing.row_seal import RowSeal

Kind = Literal[
    "edited", "rescaled", "moved", "replayed", "renumbered", "deleted", "added", "forged"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tampering:
    """What was done to a file or run, and to which of its rows. detail: the rest of a sentence."""

    kind: Kind
    where: str
    detail: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Home:
    """Where a row was sealed, and in which manifest."""

    where: str
    manifest: str
    row: RowSeal


@dataclass(slots=True, kw_only=True)
class Stray:
    """Rows of a file that its seals do not account for, and those that they do and it lacks.

    sealed: whether somebody sealed the file. Then each row of it must be accounted for. lost: what
    to say of those that lack. manifest: that which lists the rows, if one does: what one process
    wrote twice, it meant.
    """

    where: str
    sealed: bool
    rows: list[RowSeal]
    lacking: list[RowSeal] = field(default_factory=list)
    lost: str = "rows that were sealed are gone"
    manifest: str | None = None


@dataclass(slots=True, kw_only=True)
class Index:
    """Homes of rows that look like some of those asked for, and digests of all rows that lack."""

    lacking: set[str]
    by_digest: dict[str, list[Home]] = field(default_factory=dict)
    by_shape: dict[str, list[Home]] = field(default_factory=dict)

    def elsewhere(self, stray: Stray, row: RowSeal) -> Home | None:
        """Another place of the same row, or of one whose samples are in the same ratios."""
        for home in self.by_digest.get(row.digest, ()):
            if home.where != stray.where and home.manifest != stray.manifest:
                return home
        for home in self.by_shape.get(row.shape or "", ()):
            other = home.where != stray.where or home.row.digest != row.digest
            if other and home.manifest != stray.manifest:
                return home
        return None


def index(
    strays: Sequence[Stray],
    lacking: set[str],
    sealed: Iterable[tuple[str, str, Sequence[RowSeal]]],
) -> Index:
    """Of what is sealed, all that one needs to name these strays."""
    digests = {row.digest for stray in strays for row in stray.rows}
    shapes = {row.shape for stray in strays for row in stray.rows if row.shape is not None}
    known = Index(lacking=lacking)
    for where, manifest, rows in sealed:
        for row in rows:
            if row.digest in digests:
                known.by_digest.setdefault(row.digest, []).append(Home(where, manifest, row))
            if row.shape in shapes:
                known.by_shape.setdefault(str(row.shape), []).append(Home(where, manifest, row))
    return known


def name(stray: Stray, known: Index) -> Iterator[Tampering]:
    """Each thing that was done to the file, with the rows that it was done to."""
    grouped: dict[tuple[Kind, str], list[str]] = {}
    lacking = list(stray.lacking)
    for row in stray.rows:
        said = _one(stray, row, lacking, known)
        if said is not None:
            grouped.setdefault(said, []).append(row.name)
    for row in lacking:
        grouped.setdefault(("deleted", stray.lost), []).append(row.name)
    for (kind, detail), rows in grouped.items():
        yield Tampering(kind=kind, where=stray.where, detail=detail, rows=tuple(rows))


def _one(
    stray: Stray, row: RowSeal, lacking: list[RowSeal], known: Index
) -> tuple[Kind, str] | None:
    """What was done to a row; the one that it was is taken off those that lack."""
    home = known.elsewhere(stray, row)
    if home is not None and home.row.digest == row.digest:
        moved = row.digest in known.lacking
        return ("moved" if moved else "replayed"), f"rows that were sealed in {home.where}"
    same_body = [other for other in lacking if other.body == row.body]
    if same_body:
        lacking.remove(same_body[0])
        was = same_body[0].repetition
        if was == row.repetition:
            return "edited", "run id or start time is not what was sealed"
        return "renumbered", f"repetition {row.repetition} was sealed as {was}"
    key = row[:3]
    same_key = [other for other in lacking if other[:3] == key]
    if same_key:
        lacking.remove(same_key[0])
        return _altered(row, same_key[0])
    same_shape = [other for other in lacking if row.shape and other.shape == row.shape]
    if same_shape:
        lacking.remove(same_shape[0])
        return "edited", f"sealed as {same_shape[0].name}"
    if home is not None:
        factor = _factor(row.value, home.row.value)
        times = "" if factor is None else f", times {factor:.6g}"
        moved = home.row.digest in known.lacking
        how: Kind = "moved" if moved else "replayed"
        return how, f"samples of {home.row.name} in {home.where}{times}"
    return ("added", "rows that were not sealed") if stray.sealed else None


def _altered(row: RowSeal, was: RowSeal) -> tuple[Kind, str]:
    factor = _factor(row.value, was.value)
    if factor is None:
        return "edited", "cells beside the value are not what was sealed"
    if row.shape is not None and row.shape == was.shape:
        return "rescaled", f"value and samples are {factor:.6g} times what was sealed"
    return "edited", f"value {row.value:.9g} was sealed as {was.value:.9g}"


def _factor(value: float | None, was: float | None) -> float | None:
    """How many times what it was; None where it is the same or there is none."""
    if not value or not was or math.isclose(value, was, rel_tol=1e-12):
        return None
    return value / was


def difference(
    sealed: Sequence[RowSeal], actual: Sequence[RowSeal]
) -> tuple[list[RowSeal], list[RowSeal]]:
    """Rows that lack, and rows that were not sealed; equal ones are counted off."""
    return _without(sealed, actual), _without(actual, sealed)


def _without(rows: Sequence[RowSeal], others: Sequence[RowSeal]) -> list[RowSeal]:
    left = Counter(row.digest for row in others)
    kept = []
    for row in rows:
        if left[row.digest] > 0:
            left[row.digest] -= 1
        else:
            kept.append(row)
    return kept
