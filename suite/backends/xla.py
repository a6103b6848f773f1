"""``xla``: TPUs through PyTorch/XLA, and any other device that PJRT reaches.

``PJRT_DEVICE=CPU`` runs the real code path on the host's cores; its rows are the CPU's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.errors import RunFailedError
from tpubench.suite import compile_cache
from tpubench.suite.backend import FLOAT32_PRECISIONS
from tpubench.suite.backends import _chips, _dynamo
from tpubench.suite.backends._tpu_runtime import TpuRuntime
from tpubench.suite.interpreters import OWN
from tpubench.suite.workload import Device, Step

if TYPE_CHECKING:
    import torch

_DEVICE_VARIABLE = "PJRT_DEVICE"
_CHIPS_VARIABLE = "TPUBENCH_XLA_CHIPS"
_AXIS = "chips"
_NO_TRAINING = "openxla computes wrong losses from the second training step on (torch_xla 2.9)"


class Xla(TpuRuntime):
    """A PJRT device, through torch_xla."""

    name = "xla"
    summary = "TPUs through PyTorch/XLA (torch_xla); PJRT_DEVICE=CPU for the host's cores"
    rank = 1
    packages: ClassVar[tuple[str, ...]] = ("torch_xla", "torch", "libtpu")
    extra: ClassVar[str] = "xla"
    compile_modes: ClassVar[tuple[str, ...]] = ("openxla", "lazy")
    stand_in: ClassVar[str] = "PJRT"
    without_tpu: ClassVar[str] = f"{_DEVICE_VARIABLE}=CPU to run it on the host's cores"

    def on_cpu(self) -> bool:
        return os.environ.get(_DEVICE_VARIABLE, "").upper() == "CPU"

    def default_mode(self, *, trains: bool = False) -> tuple[str, str | None]:
        if trains:
            return "lazy", f"compile mode lazy: {_NO_TRAINING}"
        return "openxla", None

    def processes(self, chips: int) -> int:
        return 1  # XLA's SPMD: one process sees, and spreads the program over, all of them

    def child_environment(self, chips: int = 1) -> Mapping[str, str]:
        # torch would otherwise load TorchTPU too, where both are installed, and take the chip.
        environment = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", _CHIPS_VARIABLE: str(chips)}
        if self.on_cpu():  # whose plugin cannot read back a program that it has written
            return {**environment, "CPU_NUM_DEVICES": str(chips)}
        cache = compile_cache.folder(self.name)
        if cache is not None:  # what torch_xla.runtime.initialize_cache sets
            environment["XLA_PERSISTENT_CACHE_PATH"] = str(cache)
            environment["XLA_PERSISTENT_CACHE_READ_ONLY"] = "0"
        return {**environment, _DEVICE_VARIABLE: "TPU", **self.one_chip(chips)}

    def open(self, mode: str) -> Device:
        try:
            import torch_xla
        except ImportError as error:
            raise RunFailedError(f"torch_xla cannot be loaded: {error}") from None
        import torch

        self._mesh = self._all_devices(int(os.environ.get(_CHIPS_VARIABLE, "1")))
        _seed_the_device_too()
        device = str(torch_xla.device())
        self._one = torch.ones((), device=device)
        self._read_backs = 0
        self.barrier()
        return Device(torch_device=device)

    def device_name(self) -> str:
        if self.on_cpu():
            return "cpu"
        chips = _chips.tpus()
        return chips[0] if chips else "unknown"

    def compile(self, step: Step, mode: str) -> None:
        step.static_shapes = True
        if step.trains and mode == "openxla":
            raise RunFailedError(f"{_NO_TRAINING}: use --compile-mode lazy")
        if step.module is not None and mode == "openxla":
            _dynamo.compile_in_place(step.module, backend="openxla")
            _donate(step.module, step.written())

    def spread(self, step: Step) -> None:
        if self._mesh is not None:
            for tensor, dimension in step.splits():
                self._cut(tensor, dimension)

    def shard(self, dtype: str) -> Callable[[torch.nn.Module], None] | None:
        """FSDP as XLA does it: each weight cut along its rows, gathered where it is used."""
        if self._mesh is None:
            return None

        def cut_rows(unit: torch.nn.Module) -> None:
            for parameter in unit.parameters():
                self._cut(parameter, 0)

        return cut_rows

    def _all_devices(self, chips: int) -> Any:
        """Every device in one row, after switching to SPMD; None for one device.

        RunFailedError unless they are the chips asked for: SPMD holds all that there are.
        """
        if self.devices(chips) == 1:
            return None
        import numpy as np
        from torch_xla import runtime
        from torch_xla.distributed import spmd

        runtime.use_spmd()
        count = runtime.global_runtime_device_count()
        held = self.physical_chips(count)
        if held != chips:
            raise RunFailedError(f"torch_xla's SPMD holds all {held} chips: give --chips {held}")
        return spmd.Mesh(np.arange(count), (count,), (_AXIS,))

    def _cut(self, tensor: torch.Tensor, dimension: int) -> None:
        from torch_xla.distributed import spmd

        assert self._mesh is not None
        count = self._mesh.size()
        if tensor.shape[dimension] % count:
            return  # whole on every device, as key/value heads are where chips outnumber them
        axes: list[str | None] = [None] * tensor.dim()
        axes[dimension] = _AXIS
        spmd.mark_sharding(tensor, self._mesh, tuple(axes))

    def float32_precision(self) -> str:
        if self.on_cpu():
            return "float32"  # the setting is the TPU's
        from torch_xla import backends

        # torch_xla has a setting of its own; its "default" is what torch calls "medium".
        setting = backends.get_mat_mul_precision()
        return FLOAT32_PRECISIONS["medium" if setting == "default" else setting]

    @contextmanager
    def exact_float32(self) -> Iterator[None]:
        """A recording like one that was compiled outside runs as it was compiled there.

        torch_xla tells programs apart by what was recorded, which does not hold the precision.
        """
        from torch_xla import backends

        logging.getLogger(backends.__name__).setLevel(logging.ERROR)  # it warns at each change
        usual = backends.get_mat_mul_precision()
        self.barrier()  # what was recorded before is compiled as it was meant
        backends.set_mat_mul_precision("highest")
        try:
            yield
        finally:
            self.barrier()
            backends.set_mat_mul_precision(usual)

    def flush(self) -> None:
        import torch_xla

        torch_xla.sync()

    def barrier(self) -> None:
        """Submit what was recorded, wait for the device, and read back one element after it.

        ``torch_xla.sync(wait=True)`` alone returns before the device is done.
        """
        import torch_xla
        from torch_xla.core import xla_model

        torch_xla.sync()
        xla_model.wait_device_ops()
        (self._one + 1).cpu()
        self._read_backs += 1

    def copy_on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        # A program of the clock's own, where the copy is one at all, and no phase of the workload.
        before = _submitted()
        copied = super().copy_on_device(tensor)
        self.flush()
        self._read_backs += _submitted() - before
        return copied

    def programs_run(self) -> int:
        return sum(_counted(name) for name in _EXECUTIONS) - self._read_backs

    def recompiles(self) -> int:
        return _counted("CompileTime")

    def disturbances(self) -> Mapping[str, int]:
        from torch_xla.debug import metrics

        fallbacks = {
            f"fallback of {name} to the CPU": int(metrics.counter_value(name))
            for name in metrics.counter_names()
            if name.startswith("aten::") and name != _READ_BACK
        }
        return {**fallbacks, **_dynamo.disturbances()}

    def compile_cache(self) -> tuple[int, int] | None:
        # By the times taken: torch_xla's own compiler for dynamo clears the counters of hits.
        return _counted("PersistentCacheLoad"), _counted("CompileTime")

    def release(self) -> None:
        import torch_xla

        _dynamo.forget()
        super().release()
        torch_xla.sync(wait=True)

    def reset_peak_memory(self) -> None:
        """PJRT has no reset: its peak is the process's, the building of the weights included."""

    def peak_memory_bytes(self) -> int | None:
        return _memory().get("peak_bytes_used") or None

    def free_memory_bytes(self) -> int | None:
        memory = _memory()
        limit = memory.get("bytes_limit")
        return limit - memory.get("bytes_used", 0) if limit else None

    def describe(self) -> dict[str, str | int | float | bool | None]:
        import torch
        import torch_xla
        from torch_xla import backends, runtime

        return {
            "torch": torch.__version__,
            "torch_xla": torch_xla.__version__,
            "libtpu": OWN.versions(["libtpu"])["libtpu"],
            "pjrt_device": runtime.device_type(),
            "matmul_precision": backends.get_mat_mul_precision(),
            "graph_breaks": _dynamo.graph_breaks(),
        }


def _donate(module: torch.nn.Module, written: Sequence[torch.Tensor]) -> None:
    """Let each compiled program write to these tensors where they lie, instead of into copies.

    A program takes the permission when it is compiled, in its first call, so it is given before
    every one: what a program wrote is a new tensor to torch_xla, without it.
    """
    import torch_xla

    compiled, permit = module.forward, torch_xla._XLAC._set_buffer_donation

    def forward(*inputs: Any, **named: Any) -> Any:
        for tensor in written:
            permit(tensor, True)
        return compiled(*inputs, **named)

    if written:
        module.forward = forward


_EXECUTIONS = ("ExecuteTime", "ExecuteReplicatedTime")
"""torch_xla's counts of programs run: on one device, and spread over several."""
_SUBMISSIONS = ("CachedCompile", "UncachedCompile")
"""torch_xla's counts of programs that were found compiled, and that were not."""
_READ_BACK = "aten::_local_scalar_dense"
"""Counted for every ``.item()``: a transfer of one element, no computation on the CPU."""


def _memory() -> dict[str, int]:
    """What PJRT counts of the first device's memory; empty where it counts nothing."""
    from torch_xla.core import xla_model

    try:
        return {name: int(value) for name, value in xla_model.get_memory_info().items()}
    except RuntimeError:  # UNIMPLEMENTED by the CPU plugin
        return {}


def _seed_the_device_too() -> None:
    """Make ``torch.manual_seed`` reach the device, as it does on every other: torch_xla's does not.

    Without it, weights drawn twice from one seed differ, and a repetition is no repetition.
    """
    import torch
    from torch_xla.core import xla_model

    on_the_host = torch.manual_seed

    def manual_seed(seed: int) -> torch.Generator:
        xla_model.set_rng_state(seed)
        return on_the_host(seed)

    torch.manual_seed = manual_seed


def _submitted() -> int:
    """Programs handed to the device so far, counted as they are, not as they end."""
    from torch_xla.debug import metrics

    return sum(int(metrics.counter_value(name) or 0) for name in _SUBMISSIONS)


def _counted(metric: str) -> int:
    from torch_xla.debug import metrics

    data = metrics.metric_data(metric)
    return int(data[0]) if data else 0
