"""What serving benchmarks have in common: latencies, rates, and when they mean something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tpubench.errors import UsageError
from tpubench.results.importers._document import Node
from tpubench.results.importers._record import Figure, Imported, Record, Rejected
from tpubench.results.statistics import median

MEAN_NOT_MEDIAN = "mean over requests; the file has no median"
AGREEMENT = 0.2
"""Relative difference between mean gap and time per token above which a gap is no token's."""
SEVERAL_TOKENS_A_GAP = (
    "left out: the file's gaps are between chunks, not tokens"
    " (their mean differs from the time per output token)"
)


def latency(metric: str, middle: Node, mean: Node, scale: float = 1.0) -> list[Figure]:
    """A latency metric from its median, or failing that from its mean, which is then said.

    A time of zero is what tools write where they have no sample: it is no figure.
    """
    value, reason = middle.number(scale), None
    if value is None:
        value, reason = mean.number(scale), MEAN_NOT_MEDIAN
    if value is None:
        return []
    if value == 0:
        return [Figure(metric=metric, reason="the file gives a time of zero")]
    return [Figure(metric=metric, value=value, reason=reason)]


def measured(run: Node, figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """The figures of a run; UsageError when none has a value, since then no request succeeded."""
    kept = tuple(figures)
    if kept and all(figure.value is None and not figure.samples for figure in kept):
        raise run.error("has no figure above zero: no request succeeded")
    return kept


def sampled(metric: str, samples: tuple[float, ...]) -> list[Figure]:
    """A metric from the file's own samples."""
    return [Figure(metric=metric, samples=samples)] if samples and min(samples) > 0 else []


def gaps(figures: list[Figure], mean_gap: float | None, mean_tpot: float | None) -> list[Figure]:
    """``itl_s`` as given, or refused where its gaps are not gaps between tokens.

    A chunk may carry several tokens (speculative decoding, bundling) or none; the mean gap then
    differs from the mean time per output token, which counts tokens.
    """
    if mean_gap and mean_tpot and abs(mean_gap / mean_tpot - 1) > AGREEMENT:
        return [Figure(metric="itl_s", reason=SEVERAL_TOKENS_A_GAP)]
    return figures


def every(root: Node, record: Callable[[Node], Record]) -> Imported:
    """The runs of a file, an object or a list of them; of a list, what fails is left out, named.

    UsageError, the first run's, when all fail.
    """
    if not isinstance(root.value, list):
        return Imported(records=(record(root),))
    records, rejected = [], []
    for run in root.items():
        try:
            records.append(record(run))
        except UsageError as error:
            reason = str(error).removeprefix(f"{run.path}: ").removeprefix(f"{run.where} ")
            rejected.append(Rejected(where=run.where, reason=reason))
    if not records and rejected:
        raise UsageError(f"{root.path}: {rejected[0].where} {rejected[0].reason}")
    return Imported(records=tuple(records), rejected=tuple(rejected))


def rate(metric: str, value: float | None) -> list[Figure]:
    """A rate; nothing where the file has none, a reason where it is zero."""
    if value is None:
        return []
    if value == 0:
        return [Figure(metric=metric, reason="the file gives a rate of zero")]
    return [Figure(metric=metric, value=value)]


def tokens_a_request(total: float | None, requests: float | None) -> float | None:
    """Mean tokens of a request, to a tenth of a token; None when either is not known."""
    if not total or not requests:
        return None
    mean = total / requests
    return round(mean) if round(mean) == mean else round(mean, 1)


def middle(samples: tuple[float, ...]) -> float | None:
    """Median; None of nothing."""
    return median(samples) if samples else None
