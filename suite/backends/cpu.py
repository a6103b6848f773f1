"""``cpu``: the host's own cores, through PyTorch's oneDNN kernels.

Always there, so the whole suite can be learnt, tested and gated without an accelerator.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from tpubench.errors import RunFailedError
from tpubench.results import control_group, fingerprint
from tpubench.results.plain_text import plural
from tpubench.suite import compile_cache, ranks
from tpubench.suite.backend import Backend, Probe
from tpubench.suite.backends import _dynamo
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.workload import Device, Step

INSTALL = "pip install 'tpubench[cpu]'"


def has_compiler() -> bool:
    """Whether a C++ compiler is at hand, which torch needs to compile for the CPU."""
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++"))


_CLEAR_REFS = Path("/proc/self/clear_refs")


class Cpu(Backend):
    """The host's cores."""

    _peak_is_ours = True
    name = "cpu"
    summary = "the host's own cores, through PyTorch and oneDNN"
    rank = 0
    asynchronous = False
    collectives: ClassVar[str | None] = "gloo"
    compile_modes: ClassVar[tuple[str, ...]] = ("compiled", "packed", "blocks", "flex", "eager")
    limits: ClassVar[tuple[str, ...]] = ("hbm", "gemm")
    forks: ClassVar[bool] = True

    @property
    def accelerator(self) -> bool:
        return False

    def probe(self, python: Interpreter = OWN) -> Probe:
        version = python.versions(["torch"])["torch"]
        if version is None:
            return Probe(available=False, detail="torch is not installed", fix=INSTALL)
        cores = fingerprint.usable_cores()
        detail = f"{fingerprint.cpu_model()}, {plural(cores, 'core')}, torch {version}"
        return Probe(available=True, detail=detail)

    def device_present(self) -> str | None:
        return "cpu"

    def default_mode(self, *, trains: bool = False) -> tuple[str, str | None]:
        if has_compiler():
            return "compiled", None
        return "packed", "compile mode packed: no C++ compiler here (apt-get install g++)"

    def child_environment(self, chips: int = 1) -> Mapping[str, str]:
        # Importing torch would otherwise load accelerator plugins, seconds each.
        return {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0", **compile_cache.inductor(self.name)}

    def open(self, mode: str) -> Device:
        import torch

        if mode in {"compiled", "blocks", "flex"} and not has_compiler():
            raise RunFailedError(f"compile mode {mode} needs a C++ compiler: apt-get install g++")
        here = ranks.from_environment()
        sharing = here.size // here.hosts  # the ranks of this machine share its cores
        torch.set_num_threads(max(1, fingerprint.usable_cores() // sharing))
        return Device(torch_device="cpu")

    def device_name(self) -> str:
        return "cpu"

    def compile(self, step: Step, mode: str) -> None:
        if step.module is None or mode == "eager":
            return
        if mode in {"blocks", "flex"}:  # as on GPUs, and in training too; others are faster here
            step.static_shapes, step.reads_filled = True, mode == "flex"
            _dynamo.compile_parts(step.module)
            return
        if step.trains:
            # Packed weights cannot learn; and compiled blocks, forward and backward, are no faster.
            return
        from tpubench.suite.backends import _cpu_compile

        _cpu_compile.pack_linears(step.module)
        if mode == "compiled":
            step.static_shapes = True
            _cpu_compile.compile_blocks(step.module)

    def barrier(self) -> None:
        """Every CPU operator returns only when it is done."""

    def recompiles(self) -> int:
        return _dynamo.graphs()

    def release(self) -> None:
        super().release()
        _dynamo.forget()
        # What the allocator keeps would count as the next program's.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)

    def free_memory_bytes(self) -> int | None:
        match = re.search(
            r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.M
        )
        here = int(match[1]) * 1024 if match else None
        mine = control_group.free_memory_bytes()
        return min((free for free in (here, mine) if free is not None), default=None)

    def compile_cache(self) -> tuple[int, int] | None:
        return _dynamo.cache_hits_and_misses()

    def reset_peak_memory(self) -> None:
        # 5 resets the peak resident set (proc(5), clear_refs). A sandbox (gVisor) refuses it: the
        # peak would then be that of the imports, and is not told.
        try:
            _CLEAR_REFS.write_text("5", encoding="ascii")
        except OSError:
            self._peak_is_ours = False

    def peak_memory_bytes(self) -> int | None:
        if not self._peak_is_ours:
            return None
        match = re.search(
            r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.M
        )
        return int(match[1]) * 1024 if match else None

    def describe(self) -> dict[str, str | int | float | bool | None]:
        import torch

        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mkldnn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }
