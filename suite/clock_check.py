"""Proof that a backend's barrier waits, made on the device itself before anything is timed.

A queue of large matrix products is submitted, each fed by the one before, so that none can be left
out. After the barrier an element of the last product must be there at once; twice the work must
take about twice the time; and the rate must not exceed the data sheet's peak. A barrier that only
submits fails the first of these by a wide margin, whatever else runs on the machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpubench.devices.sheets import devices
from tpubench.results.statistics import median

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
_IDLE_BARRIERS = 20


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
    """What a barrier costs when nothing is pending: it is inside every stamp."""


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
    rate = timings.flops / timings.once_s
    if peak_flop_s is not None and rate > peak_flop_s:
        return f"{rate:.3g} FLOP/s is above the device's peak of {peak_flop_s:.3g}"
    return None


def measure(backend: Backend, device: Device) -> Timings:
    """Time the queue of products on the open device."""
    import torch

    width, dtype = (8192, torch.bfloat16) if backend.accelerator else (768, torch.float32)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(width, width, generator=generator) / width**0.5
    w = values.to(device.torch_device, dtype)

    def submit(times: int) -> torch.Tensor:
        y: torch.Tensor = w
        for _ in range(times):
            for _ in range(_PRODUCTS):
                y = y @ w
            backend.flush()
        return y

    def read(y: torch.Tensor) -> None:
        y[:1, :1].cpu()

    with torch.no_grad(), backend.running():
        return _tries(backend.barrier, submit, read, 2 * width**3 * _PRODUCTS)


def _tries(
    barrier: Callable[[], None],
    submit: Callable[[int], torch.Tensor],
    read: Callable[[torch.Tensor], None],
    flops: int,
) -> Timings:
    for _ in range(2):  # compile, then settle
        read(submit(1))
        barrier()
    count = 1
    while count < _MOST_SUBMISSIONS:
        began = time.perf_counter()
        read(submit(count))
        if time.perf_counter() - began >= _LONG_ENOUGH_S:
            break
        count *= 2
    idle_barrier_s = median([_seconds(barrier) for _ in range(_IDLE_BARRIERS)])
    left_over, once_s, twice_s = [], [], []
    while True:
        barrier()
        began = time.perf_counter()
        y = submit(count)
        barrier()
        waited = time.perf_counter()
        read(y)
        ended = time.perf_counter()
        left_over.append((ended - waited) / (ended - began))
        once_s.append(waited - began)
        barrier()
        began = time.perf_counter()
        submit(2 * count)
        barrier()
        twice_s.append(time.perf_counter() - began)
        timings = Timings(
            left_over=median(left_over),
            once_s=min(once_s),
            twice_s=min(twice_s),
            flops=float(flops * count),
            idle_barrier_s=idle_barrier_s,
        )
        tries = len(once_s)
        if tries >= _MOST_TRIES or (tries >= _TRIES and fault(timings, None) is None):
            return timings


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def check(backend: Backend, device: Device) -> tuple[Timings, str | None]:
    """Measured timings of the open device, and what is wrong with its clock, if anything."""
    timings = measure(backend, device)
    entry = devices().get(backend.device_name())
    return timings, fault(timings, entry.peak_flop_s.get("bfloat16") if entry else None)
