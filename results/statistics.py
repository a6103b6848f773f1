"""Point and interval of a sample. No bare number is compared anywhere in tpubench.

Noise on shared machines lives between processes, not between the iterations of one: an interval
over iterations understates the spread from run to run (8-9 times was measured). So there are two
levels, never mixed: :func:`within` for the samples of one repetition, and :func:`between` for the
values of several repetitions, which is the one that tables and charts show.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Aggregate = Literal["median", "mean", "harmonic_mean", "max", "total", "p90", "p99"]

CONFIDENCE = 0.95
PERCENTILE_TAIL_RISK = 0.0013
"""Chance that no sample at all lies beyond the percentile, above which the percentile is refused.

It asks for 64 samples for a p90 and 662 for a p99 (``0.99**662 <= 0.0013``), the three-sigma tail.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A point with its 95 % interval; the ends are None when n is too small to give one, or when
    the samples scatter so much that an end is beyond every number.
    """

    point: float
    low: float | None
    high: float | None
    n: int


def median(samples: Sequence[float]) -> float:
    """Middle of the sorted samples (mean of the two middle ones); ValueError when empty."""
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("no samples")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _mean(samples: Sequence[float]) -> float:
    return math.fsum(samples) / len(samples)


def _harmonic_mean(samples: Sequence[float]) -> float:
    if min(samples) <= 0:
        raise ValueError("a rate must be positive")
    return len(samples) / math.fsum(1 / sample for sample in samples)


QUANTILES = {"p90": 0.9, "p99": 0.99}


def _tail(name: str) -> Callable[[Sequence[float]], float]:
    def point(samples: Sequence[float]) -> float:
        estimate = percentile(samples, QUANTILES[name])
        if estimate is None:
            raise ValueError(f"a {name} needs {percentile_minimum(QUANTILES[name])} samples")
        return estimate.point

    return point


_POINT: dict[str, Callable[[Sequence[float]], float]] = {
    **{name: _tail(name) for name in QUANTILES},
    "median": median,
    "mean": _mean,
    "harmonic_mean": _harmonic_mean,
    "max": max,
    "total": math.fsum,
}


def aggregate(how: Aggregate, samples: Sequence[float]) -> float:
    """The samples of one repetition as one value.

    ``harmonic_mean`` is right for a rate whose samples each cover the same amount of work: it
    equals all work ÷ all time. ValueError when there are no samples, or too few for a percentile.
    """
    if not samples:
        raise ValueError("no samples")
    return float(_POINT[how](samples))


def within(how: Aggregate, samples: Sequence[float]) -> Estimate:
    """Value and interval of one repetition's own samples.

    Median and percentiles: order statistics. Mean: Student's t. Harmonic mean: Student's t on the
    reciprocals. Maximum and total: no interval.
    """
    point = aggregate(how, samples)
    n = len(samples)
    ends: tuple[float, float] | None = None
    if how == "median":
        ends = _order_interval(samples, 0.5)
    elif how in QUANTILES:
        ends = _order_interval(samples, QUANTILES[how])
    elif how == "mean":
        ends = _t_interval(samples)
    elif how == "harmonic_mean":
        inverse = _t_interval([1 / sample for sample in samples])
        if inverse is not None and inverse[0] > 0:
            ends = (1 / inverse[1], 1 / inverse[0])
    low, high = ends if ends is not None else (None, None)
    return Estimate(point=point, low=low, high=high, n=n)


def between(values: Sequence[float]) -> Estimate:
    """Geometric mean and Student's t interval, on logarithms, of several repetitions' values.

    Timings scatter by factors, so the interval is a ratio. Values that are not all positive fall
    back to the arithmetic mean. One repetition has no interval.
    """
    if not values:
        raise ValueError("no values")
    if min(values) <= 0:
        ends = _t_interval(values)
        low, high = ends if ends is not None else (None, None)
        return Estimate(point=_mean(values), low=low, high=high, n=len(values))
    logs = [math.log(value) for value in values]
    low, high = exponentials(_t_interval(logs))
    return Estimate(point=math.exp(_mean(logs)), low=low, high=high, n=len(values))


def exponentials(ends: tuple[float, float] | None) -> tuple[float, float] | tuple[None, None]:
    """The interval whose logarithms are ``ends``; none where an end is beyond every number."""
    if ends is None:
        return None, None
    try:
        return math.exp(ends[0]), math.exp(ends[1])
    except OverflowError:
        return None, None


def percentile(samples: Sequence[float], q: float) -> Estimate | None:
    """The q-quantile (0 < q < 1) with its order-statistic interval; None when n is too small."""
    if not 0 < q < 1:
        raise ValueError(f"quantile {q} is not between 0 and 1")
    if len(samples) < percentile_minimum(q):
        return None
    ordered = sorted(samples)
    point = ordered[math.ceil(q * len(ordered)) - 1]
    ends = _order_interval(ordered, q)
    low, high = ends if ends is not None else (None, None)
    return Estimate(point=point, low=low, high=high, n=len(ordered))


def percentile_minimum(q: float) -> int:
    """Fewest samples for which the q-quantile is given at all (p90: 64, p99: 662)."""
    extreme = max(q, 1 - q)
    return math.ceil(math.log(PERCENTILE_TAIL_RISK) / math.log(extreme))


def _t_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    n = len(samples)
    if n < 2:
        return None
    centre = _mean(samples)
    variance = math.fsum((sample - centre) ** 2 for sample in samples) / (n - 1)
    half = _student(n - 1) * math.sqrt(variance / n)
    return centre - half, centre + half


@functools.lru_cache(maxsize=4096)
def _student(freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _order_interval(samples: Sequence[float], q: float) -> tuple[float, float] | None:
    """Order statistics whose coverage of the q-quantile is at least 95 %, distribution-free.

    Takes the symmetric pair of binomial tail ranks; None when even the extremes cover less.
    """
    ranks = _ranks(len(samples), q)
    if ranks is None:
        return None
    ordered = sorted(samples)
    return ordered[ranks[0]], ordered[ranks[1]]


@functools.lru_cache(maxsize=4096)
def _ranks(n: int, q: float) -> tuple[int, int] | None:
    from scipy.special import bdtr

    tail = (1 - CONFIDENCE) / 2
    # bdtr(k, n, q) = P(at most k of n samples lie below the quantile).
    lower = -1
    while lower + 1 < n and float(bdtr(lower + 1, n, q)) <= tail:
        lower += 1
    upper = n
    while upper > 0 and 1 - float(bdtr(upper - 1, n, q)) <= tail:
        upper -= 1
    if lower < 0 or upper >= n:
        return None
    return lower, upper
