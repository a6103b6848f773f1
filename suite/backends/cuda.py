"""``cuda``: Nvidia GPUs through PyTorch, inductor and CUDA graphs."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.devices.names import canonical
from tpubench.errors import RunFailedError
from tpubench.suite import compile_cache, ranks
from tpubench.suite.backend import Backend, Probe
from tpubench.suite.backends import _dynamo, _gpus, _nvml
from tpubench.suite.energy import PowerMeter
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.marks import DEVICE_EVENTS, Marks
from tpubench.suite.workload import Device, Step

if TYPE_CHECKING:
    from torch import Tensor

_INSTALL = "pip install 'tpubench[cuda]'"
_CAPTURED = ("graphs", "flex", "tuned")
"""Compile modes whose steps are CUDA graphs."""
_TUNED: dict[str, object] = {
    "coordinate_descent_tuning": True,
    "max_autotune_gemm": True,
    "max_autotune_gemm_backends": "ATEN,TRITON",
}
"""Inductor's options of ``tuned``. The first also makes the product of one row with a matrix a sum
that is fused with what stands around it (torch/_inductor/decomposition.py), as gpt-fast has it; the
second times kernels for more rows, the library's among them."""
_SLICE = "{} is a MIG slice: no peak, price or joule of a whole GPU is its own"
_WHOLE = "CUDA_VISIBLE_DEVICES with the index or UUID of a whole GPU"


class _EventMarks(Marks):
    """CUDA events: the GPU notes the time itself as its stream passes them."""

    how = DEVICE_EVENTS

    def __init__(self, count: int) -> None:
        import torch

        self._events = [
            torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            for _ in range(count + 1)
        ]

    def start(self) -> None:
        self._events[0].record()

    def mark(self, output: Tensor | None = None) -> None:
        self.taken += 1
        self.last = output
        self._events[self.taken].record()

    def gaps_s(self) -> list[float]:
        passed = self._events[: self.taken + 1]
        return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(passed)]

    def pending(self) -> bool:
        return not self._events[self.taken].query()  # type: ignore[no-untyped-call]


def _why_unusable() -> str:
    """What torch says when it is made to take a GPU that it calls not available."""
    import torch

    if torch.version.cuda is None:
        return "torch is built for the CPU"
    words = ""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        lines = str(error).splitlines() or [""]
        said = re.search(r"Error \d+: (.+)", str(error))
        words = f": {said[1] if said else lines[0]}"
    return f"CUDA {torch.version.cuda} finds no usable GPU{words}"


class Cuda(Backend):
    """One Nvidia GPU a process."""

    name = "cuda"
    summary = "Nvidia GPUs, through PyTorch, inductor and CUDA graphs"
    rank = 3
    packages: ClassVar[tuple[str, ...]] = ("torch", "nvidia-ml-py")
    extra: ClassVar[str] = "cuda"
    collectives: ClassVar[str | None] = "nccl"
    compile_modes: ClassVar[tuple[str, ...]] = ("graphs", "flex", "tuned", "compiled", "eager")
    open_timeout_s = 240.0
    # The driver's and PyTorch's own words, from their sources; not yet met on hardware. Whatever
    # fails, PyTorch adds advice on "device-side assertions".
    symptoms: ClassVar[tuple[tuple[str, str], ...]] = (
        (r"CUDA out of memory|CUDA_ERROR_OUT_OF_MEMORY|NCCL.*out of memory", "out of memory"),
        (
            r"driver on your system is too old|CUDA driver version is insufficient",
            "the Nvidia driver is older than this build of torch needs",
        ),
        (
            r"GPU is lost|fallen off the bus|uncorrectable ECC|unspecified launch failure"
            r"|an illegal memory access|device-side assert triggered",
            "the GPU was lost, or a kernel on it failed",
        ),
        (
            r"(?:device\(s\) is/are|devices? (?:is|are)) busy or unavailable",
            "another process holds the GPU, whose compute mode admits one at a time",
        ),
        (r"no CUDA-capable device|No CUDA GPUs are available", "no usable GPU on this machine"),
        (r"no kernel image is available", "this build of torch has no kernels for this GPU"),
    )
    silence = "the GPU did not answer; nvidia-smi says what the driver knows"

    def __init__(self) -> None:
        self._nvml: Any = None
        self._held: list[Any] = []

    def probe(self, python: Interpreter = OWN) -> Probe:
        version = python.versions(["torch"])["torch"]
        if version is None:
            return Probe(available=False, detail="torch is not installed", fix=_INSTALL)
        present = _gpus.present()
        if not present:
            return Probe(
                available=False,
                detail=f"no GPU under the Nvidia driver (torch {version})",
                fix="nvidia-smi, which says whether the driver sees one",
            )
        seen = _gpus.visible(present, os.environ)
        if seen.mig is not None:
            return Probe(available=False, detail=_SLICE.format(seen.mig), fix=_WHOLE)
        if not seen.gpus:
            return Probe(
                available=False,
                detail=f"{seen.hidden_by} hides all {len(present)} GPUs",
                fix=_WHOLE,
            )
        if version.endswith("+cpu"):
            return Probe(
                available=False,
                detail=f"torch {version} is built for the CPU alone",
                fix=f"pip uninstall torch, then {_INSTALL}",
            )
        hidden = f" of {len(present)} ({seen.hidden_by})" if seen.hidden_by else ""
        return Probe(
            available=True,
            detail=f"{len(seen.gpus)}{hidden} × {seen.gpus[0].name}, torch {version}",
        )

    def visible_chips(self) -> int | None:
        return len(_gpus.visible(_gpus.present(), os.environ).gpus)

    def device_present(self) -> str | None:
        seen = _gpus.visible(_gpus.present(), os.environ).gpus
        return canonical(seen[0].name) if seen else None

    def one_process(self) -> str | None:
        nvml = _nvml.library()
        uuids = [gpu.uuid for gpu in _gpus.visible(_gpus.present(), os.environ).gpus if gpu.uuid]
        if nvml is None or not _nvml.exclusive(nvml, uuids):
            return None
        return "the GPU's compute mode admits one process at a time"

    def child_environment(self, chips: int = 1) -> Mapping[str, str]:
        return {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", **compile_cache.inductor(self.name)}

    def open(self, mode: str) -> Device:
        import torch

        if not torch.cuda.is_available():
            raise RunFailedError(f"cuda cannot run: {_why_unusable()}")
        local = ranks.from_environment().local_rank
        torch.cuda.set_device(local)
        self._nvml = _nvml.library()
        properties = torch.cuda.get_device_properties(local)
        if self._nvml is not None:
            held = _nvml.board(self._nvml, str(properties.uuid))
            if held.mig:
                raise RunFailedError(f"cuda cannot run: {_SLICE.format(properties.name)}; {_WHOLE}")
            self._held = [] if held.handle is None else [held.handle]
        if " MIG " in properties.name:
            raise RunFailedError(f"cuda cannot run: {_SLICE.format(properties.name)}; {_WHOLE}")
        self._one = torch.ones((), device="cuda")
        self.barrier()
        return Device(torch_device="cuda")

    def device_name(self) -> str:
        import torch

        # A name that the table does not know, as of a MIG slice, stays: no peak, no price.
        name = torch.cuda.get_device_name()
        return canonical(name) or name

    def compile(self, step: Step, mode: str) -> None:
        if step.module is None or mode == "eager":
            return
        step.static_shapes = True
        step.reads_filled = mode in {"flex", "tuned"}
        tuned = mode == "tuned" and not step.trains
        _dynamo.compile_parts(step.module, products=tuned, options=_TUNED if tuned else None)
        # A step that trains is long beside its launches, and no graph spans its two directions.
        if mode in _CAPTURED and not step.trains:
            from tpubench.suite.backends import _graphs  # which needs torch

            captured = step.to_capture()
            assert captured is not None
            _graphs.capture(captured)

    def barrier(self) -> None:
        """Wait for every stream, then read back one element computed after all else."""
        import torch

        torch.cuda.synchronize()
        (self._one + 1).cpu()

    def marks(self, count: int) -> Marks:
        return _EventMarks(count)

    def recompiles(self) -> int:
        from tpubench.suite.backends import _graphs

        return _dynamo.graphs() + _graphs.captured()

    def disturbances(self) -> Mapping[str, int]:
        return {"graph breaks": _dynamo.graph_breaks()}

    def power_meter(self) -> PowerMeter | None:
        return _nvml.BoardMeter(self._nvml, self._held) if self._held else None

    def compile_cache(self) -> tuple[int, int] | None:
        return _dynamo.cache_hits_and_misses()

    def release(self) -> None:
        import torch

        _dynamo.forget()
        super().release()
        torch.cuda.empty_cache()

    def free_memory_bytes(self) -> int | None:
        import torch

        return int(torch.cuda.mem_get_info()[0])

    def reset_peak_memory(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats()

    def peak_memory_bytes(self) -> int | None:
        import torch

        return int(torch.cuda.max_memory_allocated())

    def mode_fault(self, mode: str) -> str | None:
        skipped = _dynamo.skipped_cuda_graphs()
        if mode not in _CAPTURED or not skipped:
            return None
        return f"{skipped} programs ran without CUDA graphs: use --compile-mode compiled"

    def describe(self) -> dict[str, str | int | float | bool | None]:
        import torch

        settings = _nvml.describe(self._nvml, self._held[0]) if self._held else {}
        return {
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_cudnn": torch.backends.cudnn.allow_tf32,
            "graph_breaks": _dynamo.graph_breaks(),
            "skipped_cuda_graphs": _dynamo.skipped_cuda_graphs(),
            **settings,
        }
