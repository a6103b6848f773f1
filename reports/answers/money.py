"""The arithmetic of the first screen: a cost, a comparison, a crossover. The page repeats it.

Everything is closed form, so that the page's script and this module agree to the last digits:

    cost        c = p·f·h/(φ·u)          $ per unit of work
    comparison  d = ln(c_gpu/c_tpu),  s = s_tpu + s_gpu,  P(TPU cheaper) = Φ(d/s)
    crossover   the price, readiness or utilisation at which d = 0

p $/chip-hour, f the price factor of its side, h chip-hours for one unit of work at the figure, φ
readiness (TPUs), u utilisation (only where every hour is paid); s = ln(high/low)/(2·1.96), from
the 95 % interval of the figure, taken as log-normal. The two spreads are added, not their squares:
nothing says that two figures, each its maker's best, err independently. So the intervals overlap
exactly where the interval of the ratio holds 1, and P is then between 2.5 and 97.5 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Z95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""

Word = Literal["tpu", "gpu", "close"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """US dollars per unit of work, with the 95 % interval of the performance and the range of
    the prices that providers ask."""

    point: float
    low: float
    high: float
    price_low: float
    price_high: float
    spread: float
    """Standard deviation of the logarithm of the performance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRatio:
    """A TPU's cost against a GPU's. ``ratio`` is GPU ÷ TPU: above 1 the TPU is cheaper."""

    ratio: float
    low: float
    high: float
    p_tpu_cheaper: float
    word: Word
    """``close`` when the two 95 % intervals overlap."""

    @property
    def times(self) -> float:
        """How many times cheaper the cheaper side is."""
        return max(self.ratio, 1 / self.ratio)


def spread(low: float, high: float) -> float:
    """Standard deviation of the logarithm behind a 95 % interval, 0 < low ≤ high."""
    return math.log(high / low) / (2 * Z95)


def cost(
    usd_per_chip_hour: float,
    ends: tuple[float, float],
    chip_hours: float,
    deviation: float,
    share: float,
) -> Cost:
    """The cost of a unit of work.

    ``ends`` are the cheapest and dearest $/chip-hour asked, ``chip_hours`` those of one unit,
    ``deviation`` the standard deviation of the logarithm of the performance, ``share`` what the
    chip-hours are divided by: readiness × utilisation where they apply.
    """
    hours = chip_hours / share
    point = usd_per_chip_hour * hours
    factor = math.exp(Z95 * deviation)
    return Cost(
        point=point,
        low=point / factor,
        high=point * factor,
        price_low=ends[0] * hours,
        price_high=ends[1] * hours,
        spread=deviation,
    )


def compare(tpu: Cost, gpu: Cost) -> CostRatio:
    """The two costs as one ratio, how sure it is, and the word for it."""
    difference = math.log(gpu.point / tpu.point)
    both = tpu.spread + gpu.spread
    if both > 0:
        chance = 0.5 * math.erfc(-difference / both / math.sqrt(2))
    else:
        chance = 0.5 if difference == 0 else float(difference > 0)
    word: Word = "tpu" if difference > 0 else "gpu"
    if abs(difference) <= Z95 * both:
        word = "close"
    half = Z95 * both
    return CostRatio(
        ratio=gpu.point / tpu.point,
        low=math.exp(difference - half),
        high=math.exp(difference + half),
        p_tpu_cheaper=chance,
        word=word,
    )
