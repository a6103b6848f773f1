"""What is timed, and what was: windows, their marks, and the samples that come of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Wait = Callable[[], None]
"""Waits for the device, or submits what was recorded."""


class Mark(Protocol):
    """Called by a step at the end of each phase.

    ``output``: a result of the phase, on the device (the tokens, the loss), as it is: taking a part
    of it would be work of its own. Where the device notes no times by itself, one element is copied
    there and fetched later, and so tells when the phase ended; without it such a device is stopped
    at the mark.
    """

    def __call__(self, output: Tensor | None = None) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What is timed together. marks: the phase that ends at each call of ``mark`` in one pass.

    ``throughput``: passes back to back, the device never idle. ``latency``: each pass alone, from
    an idle device until what it marks last is on the host; it has one mark. ``cross-check``: as
    throughput, but timed only where marks are lagged reads, and held against the main window.
    """

    run: Callable[[Mark], None]
    marks: tuple[str, ...] = ("pass",)
    kind: Literal["throughput", "latency", "cross-check"] = "throughput"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """One window as it was timed.

    marks: what each lap of a pass is. laps_s: [passes][marks] seconds, which add up to ``wall_s``
    (several passes may share one lap, and then its mean). passes: runs of the program.
    """

    marks: tuple[str, ...]
    laps_s: list[list[float]]
    wall_s: float
    passes: int
    how: str
    """How the marks were taken: a constant of :mod:`.marks`, or ``latency``."""
    fault: str | None = None
    marks_off: bool = False
    """Whether the fault is one that a busy host can cause too: marks that do not add up."""

    @property
    def passes_s(self) -> list[float]:
        """Seconds of each pass, all its laps together."""
        return [sum(laps) for laps in self.laps_s]


@dataclass(frozen=True, slots=True, kw_only=True)
class Laps:
    """Metric samples of one repetition, and why a metric has none."""

    samples: Mapping[str, list[float]]
    missing: Mapping[str, str] = field(default_factory=dict)
