"""How long a run still takes, going by what its cases took so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class TimeLeft:
    """Seconds of the cases of a run, by key, in the rounds so far, and of those to come.

    What the first round compiled, the next finds in the compiler's cache, so the first is no
    measure of the second until that is taken off.
    """

    keys: Sequence[str]
    repeats: int
    clock: Callable[[], float] = time.monotonic
    took_s: dict[str, list[float]] = field(default_factory=dict)
    compiling_s: dict[str, float] = field(default_factory=dict)
    """Of the first round."""
    _running: str | None = None
    _since: float = 0.0

    def begin(self, key: str) -> None:
        """A case begins, whether of the run or before it."""
        self._running, self._since = key, self.clock()

    def end(self, key: str) -> None:
        """It has ended."""
        self.took_s.setdefault(key, []).append(self.clock() - self._since)
        self._running = None

    def compiled(self, key: str, seconds: float) -> None:
        """What a case spent compiling; only the first time counts."""
        self.compiling_s.setdefault(key, seconds)

    def next_s(self, key: str) -> float | None:
        """What another round of a case should take; None before its first has ended."""
        took_s = self.took_s.get(key)
        if not took_s:
            return None
        if len(took_s) == 1:
            return max(0.0, took_s[0] - self.compiling_s.get(key, 0.0))
        return sum(took_s[1:]) / len(took_s[1:])

    def round_s(self) -> float:
        """What another round of all cases should take."""
        return sum(self.next_s(key) or 0.0 for key in self.keys)

    def left_s(self) -> float | None:
        """Seconds until the last round has ended; None before any case of the run has."""
        known = [key for key in self.keys if self.took_s.get(key)]
        if not known:
            return None
        others_first_s = sum(self.took_s[key][0] for key in known) / len(known)
        others_s = sum(self.next_s(key) or 0.0 for key in known) / len(known)
        left_s = 0.0
        for key in self.keys:
            rounds = self.repeats - len(self.took_s.get(key, []))
            next_s = self.next_s(key)
            if next_s is None:
                expected_s, one_s = others_first_s + (rounds - 1) * others_s, others_first_s
            else:
                expected_s, one_s = rounds * next_s, next_s
            if key == self._running:  # one that takes longer than expected may end at any time
                expected_s -= min(self.clock() - self._since, one_s)
            left_s += expected_s
        return left_s
