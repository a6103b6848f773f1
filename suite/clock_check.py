"""Proof that a backend's clock is true, made on the device itself before anything is timed.

A queue of large matrix products is submitted, each fed by the one before, so that none can be left
out. Six lies are looked for, each by what it would show:

- a barrier that returns early: an element of the last product is then not there at once;
- work left out: twice the queue must take about twice the time, and no device beats its peak;
- marks that come early, or on a clock of another pace: they must add up to the wall time;
- a mark that says it has passed right after a tenth of a second of work was submitted;
- a stale read: what a read brings while the queue runs must be what it brings afterwards;
- a clock that moves in steps: marks between the smallest kernels tell how long they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpubench.devices.sheets import devices
from tpubench.results.statistics import median
from tpubench.suite import timing
from tpubench.suite.marks import DEVICE_EVENTS, Marks

if TYPE_CHECKING:
    import torch

    from tpubench.suite.backend import Backend
    from tpubench.suite.workload import Device

_PRODUCTS = 4
"""Products submitted together: one program, for a backend that compiles what it recorded."""
_TRIES = 3
_MOST_TRIES = 15
"""More tries follow while a fault shows: what a busy machine adds to the times goes away with them,
and a clock that does not wait does not come right."""
_LONG_ENOUGH_S = 0.1
_MOST_SUBMISSIONS = 4096
_LEFT_OVER = 0.25
"""Share of the whole time that may remain after the barrier. Without one it is nearly all."""
_TWICE = 1.4
"""Least ratio of the times of 2n and n."""
_MARKED = 0.1
"""How far the marks may be from the wall time. Windows, which are longer, allow less."""


_COARSEST_S = 20e-6
"""Steps in which the device's clock may move: 2 % of a token of a millisecond. CUDA's: 0.5 µs."""
_TICKS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What several tries gave, in seconds (the least), and the work behind them."""

    left_over: float
    """Share of the time that reading the output still took after the barrier: the median, so that
    neither a pause of this process nor one of the device's decides."""
    once_s: float
    twice_s: float
    flops: float
    """Of ``once_s``."""
    idle_barrier_s: float
    """What a barrier costs when nothing is pending."""
    marked: float = 1.0
    """What the marks add up to, as a share of the wall time less the closing barrier: the median of
    the tries."""
    pending: bool | None = None
    """Whether the last mark was still to come right after the queue was submitted, in any try; None
    where nobody can tell."""
    steps_s: float = 0.0
    """Steps in which the clock of the marks moves; 0 where each kernel of a few has a time of its
    own."""
    stale: bool = False
    """Whether a read while the queue ran brought another value than a read after the barrier."""


def fault(timings: Timings, peak_flop_s: float | None) -> str | None:
    """Why these timings cannot come from a true clock; None when they can."""
    if timings.left_over > _LEFT_OVER:
        return (
            "the barrier does not wait for the device:"
            f" {timings.left_over:.0%} of the work was still to do after it"
        )
    if timings.twice_s < _TWICE * timings.once_s:
        return (
            "twice the work took"
            f" {timings.twice_s / timings.once_s:.2f} times as long: work is left out"
        )
    if timings.stale:
        return "a read returns before the value is there: it brought another than a later one"
    if timings.pending is False:
        return f"a mark says it has passed when {timings.twice_s:.2g} s of work was just submitted"
    if abs(timings.marked - 1) > _MARKED:
        return f"the marks add up to {timings.marked:.2f} of the wall time"
    if timings.steps_s > _COARSEST_S:
        return f"the device's clock moves in steps of {timings.steps_s:.2g} s"
    rate = timings.flops / timings.once_s
    if peak_flop_s is not None and rate > peak_flop_s:
        return f"{rate:.3g} FLOP/s is above the device's peak of {peak_flop_s:.3g}"
    return None


def measure(backend: Backend, device: Device) -> Timings:
    """Time the queue of products on the open device."""
    import torch

    width = backend.proof_width
    dtype = torch.bfloat16 if backend.accelerator else torch.float32
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(width, width, generator=generator) / width**0.5

    with torch.no_grad(), backend.running():
        w = values.to(device.torch_device, dtype)

        def submit(times: int) -> torch.Tensor:
            y: torch.Tensor = w
            for _ in range(times):
                for _ in range(_PRODUCTS):
                    y = y @ w
                backend.flush()
            return y

        def read(y: torch.Tensor) -> float:
            return float(backend.read(y[:1, :1])[0, 0])

        return _tries(
            _Device(
                barrier=backend.barrier,
                clock_ns=backend.clock_ns,
                marks=backend.marks,
                submit=submit,
                tick=lambda: backend.copy_on_device(w),
                read=read,
            ),
            2 * width**3 * _PRODUCTS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Device:
    """What the proof needs of a device. submit: so many times the work, and its last product."""

    barrier: Callable[[], None]
    clock_ns: Callable[[], int]
    marks: Callable[[int], Marks]
    submit: Callable[[int], torch.Tensor]
    tick: Callable[[], object]
    read: Callable[[torch.Tensor], float]


def _steps_s(device: _Device) -> float:
    """Steps of the device's own clock; 0 for a host's, or one that is fine enough."""
    marks = device.marks(_TICKS)
    if marks.how != DEVICE_EVENTS:
        return 0.0
    device.barrier()
    began = device.clock_ns()
    marks.start()
    for _ in range(_TICKS):
        device.tick()
        marks.mark()
    marks.finish()
    device.barrier()
    lasted_s = (device.clock_ns() - began) / 1e9
    gaps_s = marks.gaps_s()
    return min((gap for gap in gaps_s if gap > 0), default=lasted_s) if 0.0 in gaps_s else 0.0


def _tries(device: _Device, flops: int) -> Timings:
    clock_ns, barrier = device.clock_ns, device.barrier
    for _ in range(2):  # compile, then settle
        device.read(device.submit(1))
        barrier()
    count = 1
    while count < _MOST_SUBMISSIONS:
        began = clock_ns()
        device.read(device.submit(count))
        barrier()
        if clock_ns() - began >= _LONG_ENOUGH_S * 1e9:
            break
        count *= 2
    idle_s = timing.idle_barrier_s(barrier, clock_ns)
    steps_s = _steps_s(device)
    left_over, once_s, twice_s, marked, pending, stale = [], [], [], [], [], []
    while True:
        barrier()
        began = clock_ns()
        y = device.submit(count)
        barrier()
        waited = clock_ns()
        late = device.read(y)
        ended = clock_ns()
        left_over.append((ended - waited) / (ended - began))
        once_s.append((waited - began) / 1e9)
        marks = device.marks(1)
        barrier()
        began = clock_ns()
        marks.start()
        marks.mark(device.submit(2 * count))
        pending.append(marks.pending())
        marks.finish()
        barrier()
        twice_s.append((clock_ns() - began) / 1e9)
        marked.append(sum(marks.gaps_s()) / max(twice_s[-1] - idle_s, 1e-9))
        stale.append(device.read(device.submit(count)) != late)
        timings = Timings(
            left_over=median(left_over),
            once_s=min(once_s),
            twice_s=min(twice_s),
            flops=float(flops * count),
            idle_barrier_s=idle_s,
            marked=median(marked),
            pending=None if None in pending else any(pending),
            steps_s=steps_s,
            stale=any(stale),
        )
        tries = len(once_s)
        if tries >= _MOST_TRIES or (tries >= _TRIES and fault(timings, None) is None):
            return timings


def check(backend: Backend, device: Device) -> tuple[Timings, str | None]:
    """Measured timings of the open device, and what is wrong with its clock, if anything."""
    timings = measure(backend, device)
    entry = devices().get(backend.device_name())
    return timings, fault(timings, entry.peak_flop_s.get("bfloat16") if entry else None)
