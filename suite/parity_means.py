"""What a backend lends to the parity checks: its compiler, its precision, its waiting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tpubench.suite import ranks
from tpubench.suite.backend import Backend
from tpubench.suite.parity import Means
from tpubench.suite.reference_cache import ReferenceCache, folder
from tpubench.suite.workload import Case, Device, Step, Weights, Workload

if TYPE_CHECKING:
    from torch import nn


def means_of(workload: Workload, backend: Backend, device: Device, mode: str) -> Means:
    """Means for the checks of a workload's program, compiled in ``mode`` on an open device."""

    def build(case: Case) -> Step:
        place = replace(device, shard=sharding(backend, device, case.dtype))
        step = workload.build(case, place, Weights())
        step.barrier, step.flush = backend.barrier, backend.flush
        backend.spread(step)
        backend.barrier()
        backend.compile(step, mode)
        return step

    return Means(
        device=device,
        accelerator=backend.accelerator,
        build=build,
        exact_float32=backend.exact_float32,
        float32_precision=backend.float32_precision(),
        barrier=backend.barrier,
        flush=backend.flush,
        references=ReferenceCache(folder()),
    )


def sharding(backend: Backend, device: Device, dtype: str) -> Callable[[nn.Module], None] | None:
    """What spreads the weights of a unit that trains, over all ranks or this process's devices."""
    if device.ranks > 1:
        return ranks.fsdp(device.torch_device, device.ranks, dtype)
    return backend.shard(dtype)
