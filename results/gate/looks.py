"""Sequential looks at paired runs: when to stop, and what may be said.

The pairs are looked at 10, 15, 20, 30 and 40 strong. At each look both claims are tested, each at
the share of its error that a Pocock-type spending function frees by then (Lan & DeMets 1983):
α(t) = α·ln(1 + (e − 1)·t) at information fraction t. The shares are added up, not correlated away,
so the promise holds whatever the dependence between looks (Bonferroni); that costs a little power
and needs no table and no simulation.

All values are logarithms of ratios, positive when the candidate is worse.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from statistics import stdev
from typing import TYPE_CHECKING, Literal

from tpubench.results.gate.policy import Policy
from tpubench.results.gate.tests import PairedTest, critical, paired_estimate, paired_p
from tpubench.results.statistics import Estimate, median

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Verdict = Literal["regressed", "ok", "inconclusive"]

_SERIES = 1000
_LARGEST_LOG = 5.0

LOOKS = (10, 15, 20, 30, 40)
"""Numbers of pairs after which a verdict may be given."""

_FUTILE, _FUTILE_Z = 0.05, 0.5
"""Chosen on the recorded gates of ``benchmarks/gate_promises.py``: of 181 with +5 % it loses none,
and of 16 identical ones in which nothing can be proven, 14 end within 20 pairs, not 40."""

MDE_PAIRS, MDE_POWER = 30, 0.95
"""The minimum detectable effect is what is flagged within so many pairs with this probability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the pairs so far prove. ``worse`` is the ratio with its 95 % interval, above 1 worse."""

    verdict: Verdict
    final: bool
    """Whether to stop: something is proven, or no look is left."""
    pairs: int
    worse: Estimate | None
    sigma: float | None
    """Standard deviation of the pairs' log ratios (σ_d); None below two pairs."""
    p_regressed: float
    p_ok: float


def spent(level: float, look: int) -> float:
    """Error probability freed at the ``look``-th look (from 0), out of ``level`` in all."""

    def by(index: int) -> float:
        fraction = LOOKS[index] / LOOKS[-1] if index >= 0 else 0.0
        return level * math.log(1 + (math.e - 1) * fraction)

    return by(look) - by(look - 1)


def judge(pairs: Sequence[float], policy: Policy, alarm: Sequence[float] = ()) -> Judged:
    """The verdict on log ratios in the order in which they were taken.

    Every look that they reach is evaluated, so the same pairs always give the same answer. Once
    proven, a verdict stands; pairs taken after it do not count. ``regressed`` goes before ``ok``,
    and ``ok`` needs pairs quiet enough that a change of the limit would have been flagged: where
    processes fight for a core, waiting hides the work. Where neither can be proven any more, no
    further pairs are asked for.

    ``alarm``: earlier pairs that raised the alarm which these are to confirm. An alarm counts only
    if these prove it again by themselves, but *ok* must hold of all pairs together: those that
    raised an alarm cannot be forgotten because later ones came out lower.
    """
    for look, count in enumerate(LOOKS):
        if count > len(pairs):
            break
        seen = pairs[:count]
        p_regressed, p_ok = _claims(seen, policy)
        if p_regressed <= spent(policy.alpha, look):
            return _judged("regressed", True, seen, policy)
        if alarm:
            p_ok = max(p_ok, _claims([*alarm, *seen], policy)[1])
        if p_ok <= spent(policy.ok_alpha, look) and _able(stdev(seen), policy):
            return _judged("ok", True, seen, policy)
        if _hopeless(seen, policy):
            return _judged("inconclusive", True, seen, policy)
    return _judged("inconclusive", len(pairs) >= LOOKS[-1], pairs[: LOOKS[-1]], policy)


def _hopeless(seen: Sequence[float], policy: Policy) -> bool:
    """Whether all pairs that may be taken would prove nothing, as far as these tell.

    Too noisy for *ok* even where the scatter is at the lower end of its 95 % bound (χ² of a
    variance), and the difference too small beside the scatter to become an alarm. Stopping early
    raises no alarm and calls nothing ok, so it spends no error.
    """
    from scipy.special import chdtri

    n = len(seen)
    sigma = stdev(seen)
    least = sigma * math.sqrt((n - 1) / float(chdtri(n - 1, _FUTILE)))
    if _able(least, policy):
        return False
    excess = median(seen) - math.log(policy.margin)
    return excess * math.sqrt(LOOKS[-1]) < _FUTILE_Z * sigma


def _able(sigma: float, policy: Policy) -> bool:
    """Whether a change of the limit is flagged 95 times in 100, at σ rounded up to 0.1 %."""
    return _would_flag(math.ceil(1000 * sigma) / 1000, policy)


@cache
def _would_flag(sigma: float, policy: Policy) -> bool:
    return sum(_flagged(math.log(policy.limit), sigma, policy).values()) >= MDE_POWER


@cache
def minimum_detectable(sigma: float, policy: Policy, *, confirm: bool = True) -> float:
    """Smallest true ratio flagged with 95 % probability within 30 pairs.

    ``confirm``: flagged twice, and both series of pairs counted. Found by playing the looks, as
    :func:`judge` does, on a thousand seeded normal series: near the least p-values a rank test is
    far from its normal approximation, and below the limit an early *ok* may come first.
    """

    def enough(effect: float) -> bool:
        at = _flagged(effect, sigma, policy)
        if not confirm:
            return sum(at.values()) >= MDE_POWER
        twice = product(at.items(), repeat=2)
        return sum(p * q for (m, p), (n, q) in twice if m + n <= MDE_PAIRS) >= MDE_POWER

    low, high = math.log(policy.margin), math.log(policy.margin) + 1e-6
    while not enough(high):
        low, high = high, low + 2 * (high - low) + 1e-3
        if high > _LARGEST_LOG:
            return math.exp(_LARGEST_LOG)
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return math.exp(high)


def _flagged(effect: float, sigma: float, policy: Policy) -> dict[int, float]:
    """Share of simulated series with this true log ratio flagged at each look within 30 pairs."""
    import numpy as np

    values = effect + sigma * _standard_normals()
    decided = np.zeros(len(values), dtype=bool)
    flagged = {}
    for look, count in enumerate(LOOKS):
        if count > MDE_PAIRS:
            break
        seen = values[:, :count]
        worse = _claimed(seen - math.log(policy.margin), spent(policy.alpha, look), policy.test)
        fine = _claimed(math.log(policy.limit) - seen, spent(policy.ok_alpha, look), policy.test)
        flagged[count] = float((worse & ~decided).mean())
        decided |= worse | fine
    return flagged


def _claimed(differences: NDArray[np.float64], level: float, test: PairedTest) -> NDArray[np.bool_]:
    """For each row of differences, whether the test finds them above 0 at this level."""
    positive = differences > 0
    if test == "signed-rank":
        ranks = _ranks(differences)
        statistic = (ranks * positive).sum(axis=1)
    else:
        statistic = positive.sum(axis=1)
    reached: NDArray[np.bool_] = statistic >= critical(differences.shape[1], level, test)
    return reached


def _ranks(differences: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ranks from 1 of the magnitudes in each row."""
    order = abs(differences).argsort(axis=1)
    ranks: NDArray[np.int64] = order.argsort(axis=1) + 1
    return ranks


@cache
def _standard_normals() -> NDArray[np.float64]:
    import numpy as np

    return np.random.default_rng(20261122).standard_normal((_SERIES, LOOKS[-1]))


def _claims(seen: Sequence[float], policy: Policy) -> tuple[float, float]:
    worse = paired_p(seen, math.log(policy.margin), policy.test)
    fine = paired_p([-value for value in seen], -math.log(policy.limit), policy.test)
    return worse, fine


def _judged(verdict: Verdict, final: bool, seen: Sequence[float], policy: Policy) -> Judged:
    p_regressed, p_ok = _claims(seen, policy)
    sigma = stdev(seen) if len(seen) > 1 else None
    return Judged(
        verdict=verdict,
        final=final,
        pairs=len(seen),
        worse=as_ratio(paired_estimate(seen, policy.test)) if seen else None,
        sigma=sigma,
        p_regressed=p_regressed,
        p_ok=p_ok,
    )


def as_ratio(logarithm: Estimate) -> Estimate:
    """An estimate of a log ratio as an estimate of the ratio."""

    def back(value: float | None) -> float | None:
        return None if value is None else math.exp(value)

    return Estimate(
        point=math.exp(logarithm.point),
        low=back(logarithm.low),
        high=back(logarithm.high),
        n=logarithm.n,
    )
