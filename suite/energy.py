"""Energy over the timed window: what a power meter gives, and the integral behind it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules drawn between start and stop, or the reason why there are none."""

    joules: float | None
    scope: str
    """What the meter sees: ``board`` (one accelerator card), ``wall`` (the whole machine)."""
    method: str
    reason: str | None = None


class PowerMeter(ABC):
    """Measures the energy of the held chips from :meth:`start` to :meth:`stop`."""

    @abstractmethod
    def start(self) -> None:
        """Begin a measurement."""

    @abstractmethod
    def stop(self) -> Energy:
        """End it."""


def integrate(times_s: Sequence[float], watts: Sequence[float]) -> float:
    """Joules under power samples, by the trapezoidal rule: exact for piecewise linear power."""
    pairs = itertools.pairwise(zip(times_s, watts, strict=True))
    return sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in pairs)
