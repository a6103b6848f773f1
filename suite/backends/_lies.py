"""How the scripted device can lie about time: one name for each lie, and how large it is.

``docs/adr/0010-clock.md`` says which guard catches which, and from what size on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

    from tpubench.suite.backends._asynchronous import Queue

LIES: Final = {
    "barrier": 1.0,  # share of the work still to do that it does not wait for
    "coherent": 0.1,  # likewise, and the marks are told so that they fit
    "newest": 1.0,  # operators that were submitted last, for which it does not wait
    "timeout": 1e-3,  # seconds after which it gives up waiting
    "events": 1.0,  # every so many-th mark is noted as it is submitted, not as it is passed
    "pace": 0.8,  # seconds that the device's clock counts for one
    "coarse": 1e-3,  # seconds in which it counts
    "late": 1e-3,  # seconds by which the first mark is noted late
    "swapped": 2.0,  # every so many-th mark is exchanged with the one before
    "passed": 1.0,  # a mark says at once that it has passed
    "stale": 1.0,  # share of the wait for a value that a read leaves out
    "pinned": 1.0,  # a read brings what the last one of that shape brought, and waits for nothing
    "alias": 1.0,  # the copy of a token is the token's own memory
    "skip": 24.0,  # operators since the last wait, beyond which all cost nothing
    "memo": 1.0,  # share of an operator's cost that is saved when its inputs are known
    "coalesce": 1.0,  # likewise, of those alone that were submitted since the last wait
    "throttle": 0.1,  # seconds of work after which everything takes twice as long
    "boost": 0.1,  # seconds of work in which everything takes half as long
    "shrink": 0.1,  # seconds of work after which everything takes 1/e as long
    "bursts": 5e-3,  # seconds for which another process takes the device, every fifty of them
    "hiccup": 0.05,  # seconds that one operator in the midst takes longer: an uncounted compilation
    "jump": 0.01,  # seconds by which every second reading of the host's clock is ahead
    "clock": 0.5,  # seconds that the host's clock counts for one
}
"""Name of each lie, and its size where none is given."""


@dataclass(slots=True, kw_only=True)
class Lying:
    """What the device makes of its costs, its clock, its barrier and its reads."""

    lie: str = ""
    size: float = 0.0
    seen: set[object] = field(default_factory=set)
    brought: dict[object, Tensor] = field(default_factory=dict)
    readings: int = 0
    began_us: float | None = None
    returned_us: float = 0.0

    @property
    def passed(self) -> bool:
        return self.lie == "passed"

    @property
    def remembers(self) -> bool:
        return self.lie in {"memo", "coalesce"}

    def cost_us(self, cost_us: float, queue: Queue, what: Callable[[], object]) -> float:
        """What an operator costs."""
        if self.remembers:
            key = what()
            known = key in self.seen
            self.seen.add(key)
            return cost_us * (1 - self.size) if known else cost_us
        if self.lie == "skip" and queue.since_wait > self.size:
            return 0.0
        if self.lie not in {"throttle", "boost", "shrink", "bursts", "hiccup"}:
            return cost_us
        if self.began_us is None:
            self.began_us = queue.device_us
        worked_s = (queue.device_us - self.began_us) / 1e6
        if self.lie == "throttle":
            return cost_us * (2 if worked_s > self.size else 1)
        if self.lie == "boost":
            return cost_us / (2 if worked_s < self.size else 1)
        if self.lie == "shrink":
            return cost_us * math.exp(-worked_s / self.size)
        if self.lie == "bursts" and worked_s % (50 * self.size) < self.size:
            return cost_us + self.size * 1e6
        if self.lie == "hiccup" and not self.readings and worked_s > self.size:
            self.readings = 1
            return cost_us + self.size * 1e6
        return cost_us

    def awaited_us(self, queue: Queue, device_us: float) -> float:
        """When a barrier returns, at the earliest."""
        if self.lie in {"barrier", "coherent"}:
            until_us = device_us - self.size * max(0.0, device_us - queue.host_us)
            if device_us > queue.host_us:
                self.returned_us = until_us
            return until_us
        if self.lie == "newest":
            waiting = len(queue.pending) - int(self.size)
            return queue.pending[waiting - 1].done_us if waiting > 0 else 0.0
        if self.lie == "timeout":
            return min(device_us, queue.host_us + self.size * 1e6)
        return device_us

    def waited(self) -> None:
        """The host has waited for everything."""
        if self.lie == "coalesce":
            self.seen.clear()

    def read_at_us(self, queue: Queue, ready_us: float) -> float:
        """When a read returns, at the earliest."""
        if self.lie == "stale":
            return ready_us - self.size * max(0.0, ready_us - queue.host_us)
        return 0.0 if self.lie == "pinned" else ready_us

    def read(self, value: Tensor) -> Tensor:
        """What a read brings, of what lies there."""
        if self.lie != "pinned":
            return value
        key = value.shape, value.dtype
        before, self.brought[key] = self.brought.get(key), value
        return value if before is None else before

    def noted_us(self, at_us: float, host_us: float, number: int) -> float:
        """The time that the device notes for a mark."""
        if self.lie == "events" and number % self.size == 0:
            return host_us
        if self.lie == "late" and number == 0:
            return at_us + self.size * 1e6
        if self.lie == "coarse":
            return at_us // (self.size * 1e6) * self.size * 1e6
        return at_us * self.size if self.lie == "pace" else at_us

    def told_us(self, noted_us: Sequence[float]) -> list[float]:
        """The times of all marks, as they are told."""
        told = list(noted_us)
        if self.lie == "swapped":
            every = int(self.size)
            for second in range(every, len(told), every):
                told[second - 1], told[second] = told[second], told[second - 1]
        if self.lie == "coherent" and told[-1] > self.returned_us > told[0]:
            first, scale = told[0], (self.returned_us - told[0]) / (told[-1] - told[0])
            told = [first + (at_us - first) * scale for at_us in told]
        return told

    def clock_us(self, host_us: float) -> float:
        """What the host's clock shows."""
        self.readings += self.lie == "jump"
        if self.lie == "jump" and self.readings % 2 == 0:
            return host_us + self.size * 1e6
        return host_us * self.size if self.lie == "clock" else host_us
