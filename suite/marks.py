"""Marks inside a timed window: when each phase ended, without stopping a device that runs ahead.

A barrier at every mark would make the host wait, launch, and wait again: on an H100 that costs 40
to 50 µs a token, and hides nothing of the next launch. So a window has barriers at its two ends
alone, and its marks are taken in one of three ways, which the backend chooses:

- ``host clock``: the device is the host, and a call that has returned is done;
- ``device events``: the device notes the time itself as it passes a mark;
- ``lagged reads``: the result of one phase is copied on the device, and fetched by the host once
  the next phase has been submitted, so that the queue is never empty; the host's clock is read when
  the value is there.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

HOST_CLOCK, DEVICE_EVENTS, LAGGED_READS = "host clock", "device events", "lagged reads"


class Marks(ABC):
    """The marks of one window, with room for all of them made beforehand."""

    how: ClassVar[str]
    """HOST_CLOCK, DEVICE_EVENTS or LAGGED_READS."""
    taken = 0
    """Marks taken since the start."""
    last: Tensor | None = None
    """Output of the last mark, where nothing of it has been brought to the host."""

    @abstractmethod
    def start(self) -> None:
        """The window begins: called on an idle device, right after the clock was read."""

    @abstractmethod
    def mark(self, output: Tensor | None = None) -> None:
        """A phase ends with what was submitted so far. ``output``: a result of this phase."""

    def finish(self) -> None:  # noqa: B027
        """The last mark was taken: called before the barrier that closes the window."""

    @abstractmethod
    def gaps_s(self) -> list[float]:
        """Seconds from the start to the first mark, and from each mark to the next.

        Called after the barrier that closes the window.
        """

    def pending(self) -> bool | None:
        """Whether the device has yet to reach the last mark; None where nobody can tell."""
        return None

    def stale(self) -> bool:
        """Whether a value that a mark brought to the host is another now: then it came too early.

        Called after the barrier that closes the window.
        """
        return False


class HostMarks(Marks):
    """Readings of the host's clock, for a device whose calls return when they are done."""

    how = HOST_CLOCK

    def __init__(self, clock_ns: Callable[[], int], count: int) -> None:
        self._clock_ns = clock_ns
        self._stamps_ns = [0] * (count + 1)

    def start(self) -> None:
        self._stamps_ns[0] = self._clock_ns()

    def mark(self, output: Tensor | None = None) -> None:
        self.taken += 1
        self._stamps_ns[self.taken] = self._clock_ns()

    def gaps_s(self) -> list[float]:
        return _gaps_s(self._stamps_ns[: self.taken + 1])


class LaggedMarks(Marks):
    """Readings of the host's clock as results arrive, each fetched one phase late.

    copy: a copy of a part of a tensor, made on the device in the order of submission, so that the
    next phase may overwrite the original. read: fetches a tensor to the host once its own value is
    there, whatever was submitted after it. flush: submits what was recorded. A phase that gives no
    output is waited for with ``barrier``, which stops the device.
    """

    how = LAGGED_READS

    def __init__(
        self,
        count: int,
        *,
        clock_ns: Callable[[], int],
        copy: Callable[[Tensor], Tensor],
        read: Callable[[Tensor], object],
        flush: Callable[[], None],
        barrier: Callable[[], None],
    ) -> None:
        self._clock_ns, self._copy, self._read = clock_ns, copy, read
        self._flush, self._barrier = flush, barrier
        self._stamps_ns = [0] * (count + 1)
        self._awaited: deque[tuple[int, Tensor]] = deque()
        self._every = max(1, count // _KEPT)
        self._brought: deque[tuple[Tensor, object]] = deque(maxlen=_KEPT)

    def start(self) -> None:
        self._stamps_ns[0] = self._clock_ns()

    def mark(self, output: Tensor | None = None) -> None:
        self.taken += 1
        if output is None:
            self._fetch(keep=0)
            self._barrier()
            self._stamps_ns[self.taken] = self._clock_ns()
            return
        self._flush()
        copied = self._copy(output)
        self._flush()
        self._awaited.append((self.taken, copied))
        self._fetch(keep=1)

    def _fetch(self, *, keep: int) -> None:
        """Fetch what is awaited, but for the last ``keep``."""
        while len(self._awaited) > keep:
            index, tensor = self._awaited.popleft()
            value = self._read(tensor)
            self._stamps_ns[index] = self._clock_ns()
            if index % self._every == 0:
                self._brought.append((tensor, value))

    def finish(self) -> None:
        self._fetch(keep=0)

    def gaps_s(self) -> list[float]:
        return _gaps_s(self._stamps_ns[: self.taken + 1])

    def stale(self) -> bool:
        return not all(alike(value, self._read(tensor)) for tensor, value in self._brought)


_KEPT = 8
"""Values of a window that are fetched again once it has closed."""


def alike(first: Any, second: Any) -> bool:
    """Whether two reads of a tensor, on the host, brought the same; what is no number is alike."""
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _gaps_s(stamps_ns: list[int]) -> list[float]:
    return [(b - a) / 1e9 for a, b in itertools.pairwise(stamps_ns)]
