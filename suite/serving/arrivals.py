"""When requests are sent: seeded Poisson arrivals, and whether what was sent looks like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWN = 0.05
"""Least p-value of a schedule against its own distribution: one that looks unlike it by chance is
drawn again, so that a p-value below :data:`DELIVERED` is the generator's doing."""
DELIVERED = 0.01
_MOST_DRAWS = 1000


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Seconds at which ``count`` requests are sent, ``rate`` a second: exponential gaps."""
    generator = np.random.default_rng(seed)
    for _ in range(_MOST_DRAWS):
        gaps_s = generator.exponential(1 / rate, count)
        if p_value(gaps_s.tolist(), rate) >= DRAWN:
            return [float(at) for at in np.cumsum(gaps_s)]
    raise AssertionError("one schedule in twenty is refused")


def p_value(gaps_s: Sequence[float], rate: float) -> float:
    """Kolmogorov-Smirnov test of gaps between arrivals against Exponential(rate).

    The chance of gaps at least so unlike it, were they of it; 1 for fewer than two.
    """
    from scipy.stats import kstest

    if len(gaps_s) < 2:
        return 1.0
    return float(kstest(np.asarray(gaps_s), "expon", args=(0, 1 / rate)).pvalue)
