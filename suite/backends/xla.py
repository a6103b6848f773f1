"""``xla``: TPUs through PyTorch/XLA, and any other device that PJRT reaches.

``PJRT_DEVICE=CPU`` runs the real code path on the host's cores; its rows are the CPU's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import ClassVar

from tpubench.results.errors import RunFailedError
from tpubench.suite.backend import Backend, Probe
from tpubench.suite.backends import _chips, _dynamo, _tpu_faults
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.workload import Device, Step

_INSTALL = "pip install 'tpubench[xla]'"
_DEVICE_VARIABLE = "PJRT_DEVICE"
_NO_TRAINING = "openxla computes wrong losses from the second training step on (torch_xla 2.9)"


class Xla(Backend):
    """A PJRT device, through torch_xla."""

    name = "xla"
    summary = "TPUs through PyTorch/XLA (torch_xla); PJRT_DEVICE=CPU for the host's cores"
    rank = 1
    packages: ClassVar[tuple[str, ...]] = ("torch_xla", "torch", "libtpu")
    extra: ClassVar[str] = "xla"
    shares_device: ClassVar[bool] = False
    compile_modes: ClassVar[tuple[str, ...]] = ("openxla", "lazy")
    open_timeout_s = 240.0
    symptoms = _tpu_faults.SYMPTOMS
    silence = _tpu_faults.SILENCE

    @property
    def accelerator(self) -> bool:
        return not _on_cpu()

    def probe(self, python: Interpreter = OWN) -> Probe:
        versions = python.versions(self.packages)
        if versions["torch_xla"] is None:
            return Probe(available=False, detail="torch_xla is not installed", fix=_INSTALL)
        library = f"torch_xla {versions['torch_xla']}, torch {versions['torch']}"
        if _on_cpu():
            return Probe(available=True, detail=f"the host's cores through PJRT, {library}")
        found = _chips.tpus()
        if not found:
            return Probe(
                available=False,
                detail=f"no TPU on the PCI bus ({library})",
                fix=f"{_DEVICE_VARIABLE}=CPU to run it on the host's cores",
            )
        if versions["libtpu"] is None:
            return Probe(available=False, detail="libtpu is not installed", fix=_INSTALL)
        return Probe(available=True, detail=f"{len(found)} × {found[0]}, {library}")

    def default_mode(self, *, trains: bool = False) -> tuple[str, str | None]:
        if trains:
            return "lazy", f"compile mode lazy: {_NO_TRAINING}"
        return "openxla", None

    def child_environment(self) -> Mapping[str, str]:
        # torch would otherwise load TorchTPU too, where both are installed, and take the chip.
        environment = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
        return environment if _on_cpu() else {_DEVICE_VARIABLE: "TPU", **environment}

    def open(self, mode: str) -> Device:
        try:
            import torch_xla
        except ImportError as error:
            raise RunFailedError(f"torch_xla cannot be loaded: {error}") from None
        import torch

        _seed_the_device_too()
        device = str(torch_xla.device())
        self._one = torch.ones((), device=device)
        self._read_backs = 0
        self.barrier()
        return Device(torch_device=device)

    def device_name(self) -> str:
        if _on_cpu():
            return "cpu"
        found = _chips.tpus()
        return found[0] if found else "unknown"

    def compile(self, step: Step, mode: str) -> None:
        step.static_shapes = True
        if step.trains and mode == "openxla":
            raise RunFailedError(f"{_NO_TRAINING}: use --compile-mode lazy")
        if step.module is not None and mode == "openxla":
            _dynamo.compile_in_place(step.module, backend="openxla")

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

    def programs_run(self) -> int:
        return _counted("ExecuteTime") - self._read_backs

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

    def reset_peak_memory(self) -> None:
        """PJRT has no reset: its peak is the process's."""

    def peak_memory_bytes(self) -> int | None:
        from torch_xla.core import xla_model

        try:
            found = xla_model.get_memory_info()
        except RuntimeError:  # UNIMPLEMENTED by the CPU plugin
            return None
        peak = found.get("peak_bytes_used") or found.get("bytes_used")
        return int(peak) if peak else None

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


_READ_BACK = "aten::_local_scalar_dense"
"""Counted for every ``.item()``: a transfer of one element, no computation on the CPU."""


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


def _on_cpu() -> bool:
    return os.environ.get(_DEVICE_VARIABLE, "").upper() == "CPU"


def _counted(metric: str) -> int:
    from torch_xla.debug import metrics

    found = metrics.metric_data(metric)
    return int(found[0]) if found else 0
