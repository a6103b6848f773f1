"""``tpu``: TPUs through TorchTPU, where they are a PyTorch device like any other.

Nothing here initialises a TPU in the parent: without one, libtpu ends the process, or waits on the
cloud's metadata server. ``$TPUBENCH_TPU_PLUGIN=cpu`` says that ``$TPU_LIBRARY_PATH`` names a PJRT
plugin for the CPU: the real TorchTPU code then runs on the host's cores; its rows are the CPU's.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from tpubench.devices.names import canonical
from tpubench.errors import RunFailedError
from tpubench.suite import compile_cache
from tpubench.suite.backends import _chips, _dynamo
from tpubench.suite.backends._tpu_runtime import VISIBLE_VARIABLE, TpuRuntime
from tpubench.suite.interpreters import OWN
from tpubench.suite.workload import Device, Step

_PLUGIN_VARIABLE = "TPUBENCH_TPU_PLUGIN"
_LIBRARY_VARIABLE = "TPU_LIBRARY_PATH"
_CACHE_VARIABLE = "TORCH_TPU_TIER3_COMPILATION_CACHE_ROOT"
"""Where TorchTPU 0.2 keeps compiled programs from one process to the next; not documented."""


class Tpu(TpuRuntime):
    """TPU devices, through torch_tpu."""

    name = "tpu"
    summary = "TPUs through TorchTPU (torch_tpu)"
    rank = 2
    packages: ClassVar[tuple[str, ...]] = ("torch_tpu", "torch", "libtpu")
    extra: ClassVar[str] = "tpu"
    collectives: ClassVar[str | None] = "tpu_dist"
    compile_modes: ClassVar[tuple[str, ...]] = ("compiled", "eager")
    late_programs: ClassVar[bool] = True  # eager operators are batched as they come
    stand_in: ClassVar[str] = "a plugin"
    without_tpu: ClassVar[str] = "tpubench doctor on a machine with a TPU; see docs/backends.md"

    def on_cpu(self) -> bool:
        return os.environ.get(_PLUGIN_VARIABLE) == "cpu" and bool(os.environ.get(_LIBRARY_VARIABLE))

    def child_environment(self, chips: int = 1) -> Mapping[str, str]:
        # Loaded by open() instead, where a failure can be told.
        environment = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", **compile_cache.inductor(self.name)}
        cache = compile_cache.folder(self.name)
        if cache is not None:
            environment[_CACHE_VARIABLE] = str(cache)
        ranks_follow = self.devices(chips) > 1  # the library lays out their chips itself
        return environment if ranks_follow else {**environment, **self.one_chip(chips)}

    def visible_chips(self) -> int | None:
        asked = os.environ.get(VISIBLE_VARIABLE)
        count = len(_chips.tpus()) if asked is None else len([c for c in asked.split(",") if c])
        return None if self.on_cpu() else count

    def running(self) -> AbstractContextManager[Any]:
        if not self.on_cpu():
            return nullcontext()
        # TorchTPU lowers attention to a TPU kernel, which no CPU plugin can run.
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(SDPBackend.MATH)

    def open(self, mode: str) -> Device:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                import torch
                import torch_tpu
                from torch_tpu import _loader
                from torch_tpu._internal import execution_mode
        except ImportError as error:
            raise RunFailedError(f"torch_tpu cannot be loaded: {error}") from None
        del torch_tpu
        _loader._init_device("tpu")
        # An operator that would run on the host must fail, not slow the chip down unseen.
        execution_mode.enable_cpu_fallback = False
        self._one = torch.ones((), device="tpu")
        self.barrier()
        return Device(torch_device="tpu")

    def processes(self, chips: int) -> int:
        return self.devices(chips)

    def before_ranks(self, size: int) -> None:
        from torch_tpu._internal.distributed import distributed

        # The library asks for it; refuses where no TPU is on the bus.
        try:
            distributed.set_tpu_launch_env(nproc_per_node=size)
        except ValueError as error:
            raise RunFailedError(f"torch_tpu cannot start {size} ranks: {error}") from None

    def device_name(self) -> str:
        if self.on_cpu():
            return "cpu"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return canonical(_tpu().get_device_name()) or "unknown"

    def compile(self, step: Step, mode: str) -> None:
        step.static_shapes = True
        if step.module is not None and mode == "compiled":
            _dynamo.compile_in_place(step.module, backend="tpu")

    def barrier(self) -> None:
        """Wait for the device, then read back one element computed after all else.

        Early releases' synchronize could return before lazily compiled work had run.
        """
        import torch

        torch.accelerator.synchronize()
        (self._one + 1).cpu()

    def recompiles(self) -> int:
        return int(_tpu()._get_cache_misses())

    def disturbances(self) -> Mapping[str, int]:
        return _dynamo.disturbances()

    def compile_cache(self) -> tuple[int, int]:
        # What was asked for and neither in memory nor compiled came from the cache on disk.
        stats = _tpu()._get_cache_stats()
        compiled = int(stats.num_compilations)
        return int(stats.num_cache_reqs) - int(stats.num_cache_hits) - compiled, compiled

    def release(self) -> None:
        import torch

        _dynamo.forget()
        super().release()
        torch.accelerator.empty_cache()

    def reset_peak_memory(self) -> None:
        import torch

        torch.accelerator.reset_peak_memory_stats()

    def peak_memory_bytes(self) -> int | None:
        import torch

        # Zero where the plugin keeps no statistics, as the CPU's does not.
        return int(torch.accelerator.max_memory_allocated()) or None

    def free_memory_bytes(self) -> int | None:
        import torch

        # Both zero where the plugin keeps no statistics.
        free, total = torch.accelerator.get_memory_info()
        return int(free) if total else None

    def describe(self) -> dict[str, str | int | float | bool | None]:
        import torch

        versions = OWN.versions(self.packages)
        return {
            "torch": torch.__version__,
            "torch_tpu": versions["torch_tpu"],
            "libtpu": versions["libtpu"],
            "plugin": "cpu" if self.on_cpu() else None,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "graph_breaks": _dynamo.graph_breaks(),
        }


def _tpu() -> Any:
    """``torch.tpu``, which exists once the device has been opened."""
    import torch

    return torch.tpu  # type: ignore[attr-defined]
