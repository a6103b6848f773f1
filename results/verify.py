"""Recompute every stored figure from its own samples, and every $ figure from its price."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tpubench.errors import TpubenchError, UsageError
from tpubench.results import shares
from tpubench.results.figure import derivation
from tpubench.results.fingerprint import sha256
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.own_metrics import of_row, says_how
from tpubench.results.row import Row
from tpubench.results.sealing.check import SealCheck, check
from tpubench.results.statistics import within
from tpubench.results.store import Unreadable, files, iter_rows, load
from tpubench.results.summary import row_key

RELATIVE_TOLERANCE = 1e-9


Siblings = Mapping[tuple[tuple[object, ...], str], Row]
"""Rows of a repetition by metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A stored figure that does not follow from what is stored with it."""

    run_id: str
    metric: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a check of a whole store found."""

    files: int
    rows: int
    damaged: list[Unreadable]
    mismatches: list[Mismatch]
    seals: SealCheck

    @property
    def ok(self) -> bool:
        return not self.damaged and not self.mismatches and self.seals.ok


@dataclass(slots=True, kw_only=True)
class Part:
    """What a check of some of the files found.

    apart: figures derived from rates that are not in the same file. keys: of each row, 16 bytes
    that only the same fact has too.
    """

    rows: int = 0
    damaged: list[Unreadable] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    apart: list[Row] = field(default_factory=list)
    keys: list[bytes] = field(default_factory=list)


def verify_store(
    store: Path, *, allowed: Path | None = None, head: str | None = None
) -> Verification:
    """Read every file of ``store``, one at a time on each core, recompute every figure in it, and
    compare it with its seals: ``allowed`` and ``head`` as in :func:`.check`.

    What was kept of earlier reads is not asked. UsageError when there is nothing to verify.
    """
    listing = files(store)
    seals = check(store, listing, allowed=allowed, head=head)
    if not listing and not listing.unreadable and seals.ok:
        raise UsageError(f"there are no results in {store}")
    paths = listing.files
    parts = shares.spread(check_files, shares.stretches(paths))
    apart = [row for part in parts for row in part.apart]
    mismatches = [each for part in parts for each in part.mismatches]
    mismatches += _twice(paths, parts)
    if apart:
        mismatches += _with_their_rates(paths, apart)
    damaged = [each for part in parts for each in part.damaged]
    return Verification(
        files=len(paths),
        rows=sum(part.rows for part in parts),
        damaged=[*listing.unreadable, *sorted(damaged, key=lambda bad: bad.path)],
        mismatches=mismatches,
        seals=seals,
    )


def check_files(paths: Sequence[Path]) -> Part:
    """Read these files one by one, and recompute what each of them says."""
    part = Part()
    for path in paths:
        try:
            table = load(path)
        except TpubenchError as error:
            part.damaged.append(Unreadable(path=path, error=error))
            part.keys.append(b"")
            continue
        rows = list(iter_rows(table))
        part.rows += len(rows)
        siblings = {(_repetition(row), row.metric): row for row in rows}
        for row in rows:
            rate = _rate_name(row)
            if rate is not None and (_repetition(row), rate) not in siblings:
                part.apart.append(row)
                continue
            problem = _problem(row, siblings)
            if problem:
                part.mismatches.append(_mismatch(row, problem))
        part.keys.append(b"".join(map(_key, rows)))
    return part


def _twice(paths: Sequence[Path], parts: Iterable[Part]) -> list[Mismatch]:
    """Facts that are stored more than once, named by reading their files again."""
    import numpy as np

    per_file = [key for part in parts for key in part.keys]
    keys = np.frombuffer(b"".join(per_file), dtype=np.dtype([("high", "<u8"), ("low", "<u8")]))
    order = np.lexsort((keys["low"], keys["high"]))
    again = order[1:][keys[order[1:]] == keys[order[:-1]]]
    if not len(again):
        return []
    ends = np.cumsum([len(key) // _KEY_BYTES for key in per_file])
    twice = {keys[place].tobytes() for place in again}
    named: list[Mismatch] = []
    seen: set[bytes] = set()
    # All files of the keys: which of the two is the second is told by the order of the files.
    wanted = np.isin(keys, keys[again])
    for number in np.unique(np.searchsorted(ends, np.flatnonzero(wanted), side="right")):
        for row in iter_rows(load(paths[int(number)])):
            key = _key(row)
            if key in seen:
                problem = f"repetition {row.repetition} is stored twice"
                named.append(_mismatch(row, problem))
            if key in twice:
                seen.add(key)
    return named


def _with_their_rates(paths: Sequence[Path], apart: Sequence[Row]) -> list[Mismatch]:
    """Check figures whose rates lie in other files, which are read again for them."""
    wanted = {(_repetition(row), _rate_name(row)) for row in apart}
    rates: dict[tuple[tuple[object, ...], str], Row] = {}
    for path in paths:
        with contextlib.suppress(TpubenchError):  # it is named already
            for row in iter_rows(load(path)):
                place = (_repetition(row), row.metric)
                if place in wanted:
                    rates[place] = row
    problems = ((row, _problem(row, rates)) for row in apart)
    return [_mismatch(row, problem) for row, problem in problems if problem]


def _rate_name(row: Row) -> str | None:
    """The metric that a figure is derived from, where that needs checking."""
    if row.value is None or row.metric not in METRICS:
        return None
    metric = METRICS[row.metric]
    return metric.per_chip_of or metric.usd_of


def _key(row: Row) -> bytes:
    text = repr(row_key(row)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=_KEY_BYTES).digest()


_KEY_BYTES = 16


def _mismatch(row: Row, problem: str) -> Mismatch:
    return Mismatch(run_id=row.run_id, metric=row.metric, problem=problem)


def verify(rows: Iterable[Row]) -> list[Mismatch]:
    """Every row whose value, interval, per-chip or $ figure cannot be recomputed."""
    rows = list(rows)
    mismatches = []
    seen = set()
    for row in rows:
        if row_key(row) in seen:
            twice = f"repetition {row.repetition} is stored twice"
            mismatches.append(_mismatch(row, twice))
        seen.add(row_key(row))
    siblings = {(_repetition(row), row.metric): row for row in rows}
    for row in rows:
        problem = _problem(row, siblings)
        if problem:
            mismatches.append(_mismatch(row, problem))
    return mismatches


def _problem(row: Row, siblings: Siblings) -> str | None:
    if not _fingerprint_holds(row):
        return "its fingerprint is not that of its environment"
    if row.value is None or not says_how(row):
        return None  # nothing claimed, or another version's metric
    metric = of_row(row)
    if (row.unit, row.better) != (metric.unit, metric.better):
        return f"unit or direction is not that of {metric.name}"
    if not row.samples:
        # An imported figure may come without its samples; our own never does.
        return "a measured value without samples" if row.evidence == "measured" else None
    try:
        estimate = within(metric.aggregate, row.samples)
    except (ValueError, ArithmeticError) as error:
        return f"its samples give no {metric.aggregate.replace('_', ' ')}: {error}"
    for name, stored, again in (
        ("value", row.value, estimate.point),
        ("ci_low", row.ci_low, estimate.low),
        ("ci_high", row.ci_high, estimate.high),
    ):
        if not _same(stored, again):
            return f"{name} is {stored}, its samples give {again}"
    return _derived(row, metric, siblings)


def _fingerprint_holds(row: Row) -> bool:
    """Whether the digest of what must match for two rows to be gated is that of what is stored.

    Rows of other evidence may say a fingerprint without what it is of.
    """
    return row.fingerprint is None or _fingerprint_of(row.environment) in {None, row.fingerprint}


@functools.lru_cache(maxsize=1024)
def _fingerprint_of(environment: str) -> str | None:
    if '"fingerprint"' not in environment:
        return None
    match = json.loads(environment).get("fingerprint")
    return sha256(match) if isinstance(match, dict) else None


def _derived(row: Row, metric: Metric, siblings: Siblings) -> str | None:
    rate_name = metric.per_chip_of or metric.usd_of
    if rate_name is None:
        return None
    rate = siblings.get((_repetition(row), rate_name))
    if rate is None or not rate.samples or not row.samples:
        return f"{rate_name}, which it is derived from, is not stored with it"
    try:
        follows = derivation(metric, row.chips, row.usd_per_chip_hour)
        again = [follows(sample) for sample in rate.samples]
    except UsageError as error:
        return str(error)
    if len(again) != len(row.samples) or not all(map(_same, again, row.samples)):
        return f"its samples do not follow from {rate_name}"
    return None


def _same(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE)


def _repetition(row: Row) -> tuple[object, ...]:
    return (row.run_id, row.repetition, row.workload, row.preset, row.params, row.backend)
