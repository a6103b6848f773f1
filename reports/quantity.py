"""Numbers as people read them: three significant digits, and a unit of a sensible size."""

from __future__ import annotations

import math

from tpubench.results.statistics import Estimate

MISSING = "—"

_DECIMAL = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def scale_of(value: float, unit: str) -> tuple[float, str]:
    """Divisor and unit text that suit ``value`` (of the metric's own ``unit``)."""
    size = abs(value)
    if unit == "s":
        return next(((f, name) for f, name in _SECONDS if size >= f), _SECONDS[-1])
    if unit == "byte":
        return next(((f, name) for f, name in _BINARY if size >= f), _BINARY[-1])
    if unit == "fraction":
        return 0.01, "%"
    if unit in {"byte/s", "FLOP/s"}:
        factor, prefix = next(((f, p) for f, p in _DECIMAL if size >= f), _DECIMAL[-1])
        return factor, f"{prefix}{'B' if unit == 'byte/s' else 'FLOP'}/s"
    return 1.0, unit.replace("token", "tok").replace("USD", "$")


def number(value: float) -> str:
    """Three significant digits, thousands separated, no exponent between 0.0001 and 10¹⁵."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 < magnitude < 15:
        return f"{value:.2e}"
    rounded = round(value, 2 - magnitude)
    magnitude = math.floor(math.log10(abs(rounded)))  # 99.96 has become 100
    return f"{rounded:,.{max(0, 2 - magnitude)}f}"


def quantity(value: float | None, unit: str) -> str:
    """A value with its unit: ``14.2 ms``, ``1,240 tok/s``, ``61.3 %``."""
    if value is None:
        return MISSING
    factor, name = scale_of(value, unit)
    return f"{number(value / factor)} {name}"


USELESS = 10
"""An interval beyond this factor tells a reader nothing but that."""


def useless(interval: Estimate) -> bool:
    """Whether there is an interval and an end of it is more than ``USELESS`` times off."""
    if interval.low is None or interval.high is None:
        return False
    return interval.high > USELESS * interval.point or interval.low * USELESS < interval.point


def estimate(interval: Estimate | None, unit: str) -> str:
    """A value with its 95 % interval, in one unit: ``14.2 ms [13.9, 14.6]``."""
    if interval is None:
        return MISSING
    if interval.low is None or interval.high is None:
        return quantity(interval.point, unit)
    if useless(interval):
        return f"{quantity(interval.point, unit)} [unusable]"
    factor, name = scale_of(interval.point, unit)
    low, high = number(interval.low / factor), number(interval.high / factor)
    return f"{number(interval.point / factor)} {name} [{low}, {high}]"
