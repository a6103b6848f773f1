"""Exact rank tests and their estimates, on logarithms of ratios: what the gate's verdicts rest on.

No normality is assumed and no table is copied: the null distributions are enumerated. Ties and
values exactly on the bound always count against the claim that is to be proved, so a p-value is
never too small.

Sources: Wilcoxon (1945) signed rank; Mann & Whitney (1947); Hodges & Lehmann (1963) for the
estimates that go with them; Holm (1979) for several hypotheses at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

from tpubench.results.statistics import CONFIDENCE, Estimate, median

PairedTest = Literal["signed-rank", "sign"]

EFFICIENCY: dict[str, float] = {"signed-rank": 3 / math.pi, "sign": 2 / math.pi}
"""Asymptotic relative efficiency against a t test under normal noise (Pitman)."""


def paired_p(values: Sequence[float], bound: float, test: PairedTest) -> float:
    """P-value of the claim that paired differences centre above ``bound``; 1.0 without values.

    ``signed-rank`` assumes differences symmetric around their centre, ``sign`` nothing at all.
    """
    differences = [value - bound for value in values]
    n = len(differences)
    if n == 0:
        return 1.0
    if test == "sign":
        above = sum(difference > 0 for difference in differences)
        return math.fsum(_binomial_counts(n)[above:]) / (1 << n)
    # Of tied magnitudes the negative ones take the higher ranks: against the claim.
    order = sorted(range(n), key=lambda i: (abs(differences[i]), differences[i] <= 0))
    rank_sum = sum(rank for rank, i in enumerate(order, 1) if differences[i] > 0)
    return math.fsum(_signed_rank_counts(n)[rank_sum:]) / (1 << n)


@cache
def _signed_rank_counts(n: int) -> tuple[int, ...]:
    """How many of the 2ⁿ sign patterns have each rank sum, 0 … n(n+1)/2."""
    counts = [1]
    for rank in range(1, n + 1):
        longer = counts + [0] * rank
        for total, count in enumerate(counts):
            longer[total + rank] += count
        counts = longer
    return tuple(counts)


@cache
def critical(n: int, level: float, test: PairedTest) -> int:
    """Least statistic of :func:`paired_p` whose p-value is at most ``level``.

    Rank sum or number of values above; beyond the largest there is when none is small enough.
    """
    counts = _signed_rank_counts(n) if test == "signed-rank" else _binomial_counts(n)
    tail, value = 0, len(counts)
    while value > 0 and (tail + counts[value - 1]) / (1 << n) <= level:
        value -= 1
        tail += counts[value]
    return value


def _binomial_counts(n: int) -> tuple[int, ...]:
    return tuple(math.comb(n, k) for k in range(n + 1))


def paired_estimate(values: Sequence[float], test: PairedTest) -> Estimate:
    """Centre of paired differences and its 95 % interval, by inverting the same test.

    Signed rank: median of the Walsh averages (Hodges-Lehmann). Sign: median, order statistics.
    ValueError without values; no ends while n is too small for 95 %.
    """
    if not values:
        raise ValueError("no values")
    n, tail = len(values), (1 - CONFIDENCE) / 2
    if test == "sign":
        points = sorted(values)
        counts = _binomial_counts(n)
    else:
        points = sorted((values[i] + values[j]) / 2 for i in range(n) for j in range(i, n))
        counts = _signed_rank_counts(n)
    low, high = _inverted(points, [count / (1 << n) for count in counts], tail)
    return Estimate(point=median(points), low=low, high=high, n=n)


def shift_p(upper: Sequence[float], lower: Sequence[float], bound: float) -> float:
    """P-value of the claim that ``upper`` lies above ``lower`` by more than ``bound``.

    Two independent samples (Mann-Whitney); 1.0 when either is empty.
    """
    if not upper or not lower:
        return 1.0
    wins = sum(a - b > bound for a in upper for b in lower)
    counts = _mann_whitney_counts(len(upper), len(lower))
    return math.fsum(counts[wins:]) / math.comb(len(upper) + len(lower), len(upper))


@cache
def _mann_whitney_counts(m: int, n: int) -> tuple[int, ...]:
    """How many of the arrangements of m and n values have each number of wins, 0 … m·n.

    Coefficients of the Gaussian binomial: the product over i ≤ m of (1 − q^(n+i)) ÷ (1 − q^i).
    """
    counts = [0] * (m * n + 1)
    counts[0] = 1
    for i in range(1, m + 1):
        for total in range(m * n, n + i - 1, -1):
            counts[total] -= counts[total - n - i]
        for total in range(i, m * n + 1):
            counts[total] += counts[total - i]
    return tuple(counts)


def shift_estimate(upper: Sequence[float], lower: Sequence[float]) -> Estimate:
    """Shift between two independent samples and its 95 % interval (Hodges-Lehmann).

    ``n`` is the smaller size. ValueError when either is empty; no ends while the sizes are too
    small for 95 %.
    """
    if not upper or not lower:
        raise ValueError("no values")
    points = sorted(a - b for a in upper for b in lower)
    arrangements = math.comb(len(upper) + len(lower), len(upper))
    shares = [count / arrangements for count in _mann_whitney_counts(len(upper), len(lower))]
    low, high = _inverted(points, shares, (1 - CONFIDENCE) / 2)
    return Estimate(point=median(points), low=low, high=high, n=min(len(upper), len(lower)))


def smallest_p(m: int, n: int) -> float:
    """The least p-value that :func:`shift_p` can give for samples of these sizes."""
    return 1 / math.comb(m + n, m) if m and n else 1.0


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which claims hold together, the chance of any false one being at most ``level``."""
    held = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > level / (len(p_values) - place):
            break
        held[index] = True
    return held


def _inverted(
    points: Sequence[float], shares: Sequence[float], tail: float
) -> tuple[float | None, float | None]:
    """The ordered ``points`` that cut off at most ``tail`` of the null distribution each side."""
    cut, below = 0, 0.0
    while below + shares[cut] <= tail:
        below += shares[cut]
        cut += 1
    # ``cut`` steps of the statistic are rejected, so the first ``cut`` points lie outside.
    return (points[cut - 1], points[-cut]) if cut else (None, None)
