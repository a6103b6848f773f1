"""What a process spent where: the seconds of each phase, as the child itself counts them."""

from __future__ import annotations

import os
import time
from pathlib import Path

IMPORT, RELEASE = "import", "release"
"""Phases that nobody begins: up to the first one, and between two cases of one process."""


class Stopwatch:
    """Sums seconds by phase; a phase lasts until the next one begins."""

    def __init__(self, age_s: float = 0.0) -> None:
        """age_s: how long the process has lived already, which counts as its imports."""
        self._phase, self._since = IMPORT, time.monotonic() - age_s
        self._spent_s: dict[str, float] = {}

    def begin(self, phase: str) -> None:
        """End the phase before, and count for ``phase``."""
        now = time.monotonic()
        self._spent_s[self._phase] = self._spent_s.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def take(self) -> dict[str, float]:
        """What was spent since the last call, and begin to clear up."""
        self.begin(RELEASE)
        spent_s, self._spent_s = self._spent_s, {}
        return spent_s


def suspended_s() -> float:
    """Seconds for which this machine has slept since it was started: what the monotonic clock,
    and so every timing, leaves out (clock_gettime(2)); to within microseconds."""
    readings = []
    for _ in range(3):
        before_s = time.clock_gettime(time.CLOCK_MONOTONIC)
        since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        after_s = time.clock_gettime(time.CLOCK_MONOTONIC)
        readings.append((after_s - before_s, since_boot_s - (before_s + after_s) / 2))
    return min(readings)[1]


def process_age_s() -> float:
    """Seconds since this process was started, by the kernel's count in ticks (proc(5), stat)."""
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    started_ticks = int(stat.rpartition(")")[2].split()[19])
    booted_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return max(0.0, booted_s - started_ticks / os.sysconf("SC_CLK_TCK"))
