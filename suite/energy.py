"""Energy over the timed window: what a power meter gives, and the integral behind it."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

POWER_CAP, THERMAL, POWER_BRAKE = SLOWDOWNS = ("power cap", "thermal", "power brake")
"""Causes for which a device holds its clocks back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules drawn between start and stop, or the reason why there are none."""

    joules: float | None
    scope: str
    """What the meter sees: ``board`` (one accelerator card), ``wall`` (the whole machine)."""
    method: str
    reason: str | None = None
    slowed_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds inside the window for which the device held its clocks back, by cause; of several
    devices the longest. ``power cap`` is how a device at its limit works; ``thermal`` is a fault
    of its cooling; ``power brake`` one of the supply."""
    at_end: Mapping[str, float | None] = field(default_factory=dict)
    """Clocks, power and temperature as the window closed; of several devices the first."""


NOTEWORTHY = 0.01
"""Share of a window for which a device must have been held back before that is said."""


def slowdown(energy: Energy, wall_s: float) -> str | None:
    """What held the device back that has nothing to do with the program; None for nothing.

    A power cap is not such a thing: every device under full load works at its own.
    """
    causes = [
        f"{cause} slowdown for {seconds:.2g} s of {wall_s:.2g} s"
        for cause, seconds in energy.slowed_s.items()
        if cause != POWER_CAP and seconds > NOTEWORTHY * wall_s
    ]
    return "; ".join(causes) or None


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
