"""What a backend is: one kind of device, how to reach it, compile for it and time it truly.

A backend knows nothing of models. ``probe`` runs in the parent, without torch; everything else
runs in the child process that holds the device.
"""

from __future__ import annotations

import gc
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from tpubench.suite.energy import PowerMeter
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.marks import HostMarks, LaggedMarks, Marks
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Device, Step

if TYPE_CHECKING:
    import torch


FLOAT32_PRECISIONS = {"highest": "float32", "high": "tf32", "medium": "bfloat16"}
"""torch's setting (``torch.set_float32_matmul_precision``), and the precision it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whether a backend can run here. ``fix`` is the command that would make it possible."""

    available: bool
    detail: str
    fix: str | None = None


class Backend(ABC):
    """One kind of device. One subclass for each file in ``suite/backends/``."""

    name: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 0
    """``--backend auto`` takes the available backend of the highest rank; below 0 never."""
    collectives: ClassVar[str | None] = None
    """torch.distributed's name for what joins its ranks; None where it runs on one chip alone, or
    one process holds all chips."""
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """What it needs where the children run."""
    extra: ClassVar[str] = "cpu"
    """``pip install 'tpubench[…]'`` that brings it."""
    evidence: ClassVar[str] = "measured"
    compile_modes: ClassVar[tuple[str, ...]]
    """Ways to compile, the default first. ``eager`` runs the program as written."""
    limits: ClassVar[tuple[str, ...]] = ()
    """Workloads that measure this machine's own peaks, where no data sheet gives them."""
    asynchronous: ClassVar[bool] = True
    """Whether work goes on after a call has returned, so that the clock must be proved first."""
    open_timeout_s: ClassVar[float] = math.inf
    """Taking the device never takes longer: one that does is silent, and will stay so."""
    symptoms: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pattern of what a dying runtime prints, and what that means; the first match counts."""
    silence: ClassVar[str] = ""
    """What it may mean when the device is not had within ``open_timeout_s``."""
    late_programs: ClassVar[bool] = False
    """Whether what is compiled hangs on when operators arrive, so that a new program may turn up
    long after the warm-up: then a window in which one did is timed again."""
    shares_device: ClassVar[bool] = True
    """Whether two processes can hold the device at once, as a duet needs. A TPU admits one."""
    forks: ClassVar[bool] = False
    """Whether a process that has imported torch, and run nothing, may fork and then open."""

    @property
    def pace(self) -> Pace:
        """How long to warm up and to time, where nothing else is asked for."""
        return Pace() if self.accelerator else Pace(warm_up_s=1.0, window_s=1.0)

    @property
    def busy_host_s(self) -> float:
        """How long other programs may hold up the end of a window: nothing on a chip of its own,
        a few time slices where the host's cores stand in for one."""
        return 0.0 if self.accelerator else 0.05

    @property
    def proof_width(self) -> int:
        """Width of the square products by which the clock is proved."""
        return 8192 if self.accelerator else 768

    @property
    def accelerator(self) -> bool:
        """Whether it is a chip made for this work, which decides the default sizes."""
        return True

    @abstractmethod
    def probe(self, python: Interpreter = OWN) -> Probe:
        """Whether it can run here: in under a second, without torch, without raising.

        ``python`` is where the children would run.
        """

    def visible_chips(self) -> int | None:
        """Physical chips of this machine that a child may use; None where nothing limits them.

        Asked in the parent, without torch.
        """
        return None

    def device_present(self) -> str | None:
        """Name of the device that a child would use; None where only opening it would tell.

        Asked in the parent, without torch.
        """
        return None

    def one_process(self) -> str | None:
        """Why the device admits one process at a time; None where it admits several.

        Asked in the parent, without torch.
        """
        return None if self.shares_device else f"a device of {self.name} admits one process"

    def default_mode(self, *, trains: bool = False) -> tuple[str, str | None]:
        """Compile mode to use when none is asked for, and a note when it is not the usual one.

        ``trains``: whether the program changes its weights.
        """
        del trains
        return self.compile_modes[0], None

    def child_environment(self, chips: int = 1) -> Mapping[str, str]:
        """Variables to set in the child before Python starts."""
        del chips
        return {}

    def running(self) -> AbstractContextManager[object]:
        """What the program runs under, from building to checking; nothing for most."""
        return nullcontext()

    def devices(self, chips: int) -> int:
        """Devices, as the library counts them, of so many chips: a TPU v7 chip shows as two."""
        return chips

    def processes(self, chips: int) -> int:
        """Processes that hold ``chips`` chips together; 1 when one process spreads the program."""
        return chips

    def before_ranks(self, size: int) -> None:  # noqa: B027
        """Called in rank 0 before it starts the others, to set variables that all inherit."""

    def spread(self, step: Step) -> None:  # noqa: B027
        """Spread a built step over the devices that this process holds; nothing for one device."""

    def shard(self, dtype: str) -> Callable[[torch.nn.Module], None] | None:
        """What spreads the weights of a unit that trains over the devices of this process."""
        del dtype
        return None

    @abstractmethod
    def open(self, mode: str) -> Device:
        """Take the device, in the child. RunFailedError when it cannot be had, or not so."""

    def on_phase(self, phase: str, repetition: int, case: Case) -> None:  # noqa: B027
        """Called in the child as each phase begins: open, build, compile, warm-up, window, check.

        Nothing to do for most; ``fake`` plays its scripted faults here.
        """

    @abstractmethod
    def device_name(self) -> str:
        """Canonical device name (``tpu-v6e``, ``nvidia-h100-sxm``, ``cpu``)."""

    def physical_chips(self, devices: int) -> int:
        """Physical chips behind so many devices (a TPU v7 chip shows as two)."""
        return devices

    @abstractmethod
    def compile(self, step: Step, mode: str) -> None:
        """Prepare ``step`` in place: repack weights, capture graphs. ``mode`` ∈ compile_modes."""

    def float32_precision(self) -> str:
        """What float32 products are computed in unless asked otherwise: by torch's own setting.

        ``float32``, ``tf32`` (10 bits after the point, or three products in bfloat16) or
        ``bfloat16`` (7 bits).
        """
        import torch

        return FLOAT32_PRECISIONS[torch.get_float32_matmul_precision()]

    @contextmanager
    def exact_float32(self) -> Iterator[None]:
        """Float32 products in float32 throughout, for what is built, compiled and run inside."""
        import torch

        usual = torch.get_float32_matmul_precision()
        if usual == "highest":
            # Saying it again would still write "ieee" over "none", which is part of the compile
            # cache's key: a case after the first check would compile to another program.
            yield
            return
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(usual)

    def flush(self) -> None:  # noqa: B027
        """Submit what has been recorded so far, without waiting; for a backend that records."""

    @abstractmethod
    def barrier(self) -> None:
        """Return only when all work submitted so far is finished on the device."""

    def clock_ns(self) -> int:
        """Monotonic time in nanoseconds, of the host."""
        return time.perf_counter_ns()

    def marks(self, count: int) -> Marks:
        """Room for ``count`` marks of one window, in the way that this device allows.

        By default lagged reads where the device runs ahead, else readings of the host's clock.
        """
        if not self.asynchronous:
            return HostMarks(self.clock_ns, count)
        return LaggedMarks(
            count,
            clock_ns=self.clock_ns,
            copy=self.copy_on_device,
            read=self.read,
            flush=self.flush,
            barrier=self.barrier,
        )

    def copy_on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of one element in the order of submission: later writes do not reach it."""
        return tensor.detach()[(slice(0, 1),) * tensor.dim()].clone()

    def read(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor on the host, returned when its own value is there."""
        return tensor.cpu()

    @abstractmethod
    def recompiles(self) -> int:
        """Programs compiled so far; any increase inside the window invalidates it."""

    def programs_run(self) -> int | None:
        """Programs that the device has run so far, read-backs of the barrier not counted.

        For a backend that records before it runs, and leaves out what nobody reads: a phase in
        which nothing ran was not timed. None where calls run as they are made.
        """
        return None

    def disturbances(self) -> Mapping[str, int]:
        """What else must not happen inside the window, counted so far: fallbacks to the CPU…"""
        return {}

    def power_meter(self) -> PowerMeter | None:
        """A meter of the energy that the held chips draw; None when they report no power."""
        return None

    def compile_cache(self) -> tuple[int, int] | None:
        """Programs that the persistent cache gave so far, and that it did not; None where it does
        not say."""
        return None

    def release(self) -> None:
        """Give back all memory that the program before took, and forget what was compiled for it.

        Called between two cases of one process; whoever overrides it calls this too.
        """
        gc.collect()

    def mode_fault(self, mode: str) -> str | None:
        """Why what ran is not what ``mode`` promises, once it has run; None when it is."""
        del mode
        return None

    def free_memory_bytes(self) -> int | None:
        """Memory that a program could take on each chip now; None when the device does not tell."""
        return None

    @abstractmethod
    def reset_peak_memory(self) -> None:
        """Start a new peak."""

    @abstractmethod
    def peak_memory_bytes(self) -> int | None:
        """Most memory that tensors took since the reset; None when the device does not tell."""

    @abstractmethod
    def describe(self) -> dict[str, str | int | float | bool | None]:
        """Versions and settings that must match between compared rows."""
