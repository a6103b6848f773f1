"""``fake``: real programs on a scripted device that runs ahead of its host, with scripted faults.

It makes the whole pipeline deterministic, failures included, so that every status and exit code is
tested without a timing; and it does what accelerators do to a program that takes a CPU's manners
for granted (``_asynchronous.py``). Its rows are ``modelled``, never ``measured``, and ``auto``
never picks it.

``$TPUBENCH_FAKE`` holds the script as JSON, e.g. ``{"pass_s": [0.1, 0.2], "faults": {"1":
["window", "hang"]}, "lie": "barrier"}``: seconds from mark to mark, repeated, in place of what the
operators would cost; what happens in which phase of which repetition (``"*"`` for each), in all
cases or those whose label holds a third text: hang, abort, oom, exit, lost, wrong (an output the
parity check must catch) or recompile; which ``"lie"`` of ``_lies.py`` the device tells, of which
``"lie_size"``, ``"lie_since"`` which phase; ``"free_bytes"``, the memory that
it has; and any cost in :class:`~._asynchronous.Script`. ``"marks": "lagged reads"`` makes it a
device without events.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite.backend import Backend, Probe
from tpubench.suite.backends.cpu import Cpu
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.marks import LAGGED_READS, Marks
from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Device, Step

if TYPE_CHECKING:
    import torch

    from tpubench.suite.backends._asynchronous import Queue

SCRIPT_VARIABLE = "TPUBENCH_FAKE"
_TIMED_PHASES = {"compile", "warm-up", "window", "other windows"}


class Fake(Cpu):
    """A scripted device that runs ahead of its host."""

    name = "fake"
    summary = "a scripted asynchronous device over real programs: for tests, never a measurement"
    rank = -1
    evidence = "modelled"
    asynchronous = True
    compile_modes: ClassVar[tuple[str, ...]] = ("graphs", "eager")
    collectives: ClassVar[str | None] = None
    limits: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._script: dict[str, Any] = {}
        self._queue: Queue | None = None
        self._pass_s: Iterator[float] | None = None
        self._phase = ""
        self._compiled = 0
        self._recompiling = False
        self._wrong = False

    @property
    def pace(self) -> Pace:
        return Pace(warm_up_s=0.05, window_s=0.05, most_warm_up_s=1.0, latency_s=0.0)

    @property
    def proof_width(self) -> int:
        return 64

    @property
    def busy_host_s(self) -> float:
        return 0.0

    @property
    def queue(self) -> Queue:
        """The device, once it is open."""
        assert self._queue is not None
        return self._queue

    def default_mode(self, *, trains: bool = False) -> tuple[str, str | None]:
        return self.compile_modes[0], None

    def probe(self, python: Interpreter = OWN) -> Probe:
        own = super().probe(python)
        detail = "scripted clock" if own.available else own.detail
        return Probe(available=own.available, detail=detail, fix=own.fix)

    def open(self, mode: str) -> Device:
        import torch

        from tpubench.suite.backends._asynchronous import Queue, Script

        device = super().open(mode)
        torch.set_num_threads(1)  # nothing is timed: leave the other cores to others
        pass_s = tuple(self._script.get("pass_s", ()))
        costs = {
            key: value
            for key, value in self._script.items()
            if key in Script.__dataclass_fields__ and key != "pass_s"
        }
        self._queue = Queue(Script(**costs, pass_s=pass_s))
        self._lie_from(self._phase)
        self._pass_s = itertools.cycle(pass_s) if pass_s else None
        return device

    def running(self) -> AbstractContextManager[object]:
        from tpubench.suite.backends._asynchronous import deferred

        return deferred(self.queue)

    def device_present(self) -> str | None:
        return "fake"

    def device_name(self) -> str:
        return "fake"

    def on_phase(self, phase: str, repetition: int, case: Case) -> None:
        if phase == "open":
            self._read_script()
        elif phase == "build":
            self._wrong = False
        self._phase = phase
        self._lie_from(phase)
        if self._queue is not None:
            self._queue.free = self._pass_s is not None and phase == "check"
        faults = self._script.get("faults", {})
        when, fault, *whose = faults.get(str(repetition), faults.get("*", ["", ""]))
        if whose and whose[0] not in case.label():
            fault = ""
        self._recompiling = fault == "recompile" and phase == "window"
        if phase != when:
            return
        if fault == "hang":
            signal.pause()
        elif fault == "abort":
            os.abort()
        elif fault == "oom":
            raise MemoryError
        elif fault == "exit":
            os._exit(3)
        elif fault == "lost":
            raise RunFailedError("the device was lost")
        elif fault == "wrong":
            self._wrong = True

    def _lie_from(self, phase: str) -> None:
        """Begin to lie, where this is the phase for it."""
        from tpubench.suite.backends._lies import LIES, Lying

        if self._queue is None or not self._queue.script.lie:
            return
        script = self._queue.script
        if script.lie not in LIES:
            raise UsageError(f"${SCRIPT_VARIABLE}: the device knows no lie {script.lie!r}")
        if self._queue.lying.lie or script.lie_since not in {"", phase}:
            return
        size = LIES[script.lie] if script.lie_size is None else script.lie_size
        self._queue.lying = Lying(lie=script.lie, size=size)

    def _read_script(self) -> None:
        text = os.environ.get(SCRIPT_VARIABLE) or "{}"
        try:
            self._script = json.loads(text)
        except json.JSONDecodeError:
            raise UsageError(f"${SCRIPT_VARIABLE} is not JSON: {text[:40]!r}") from None

    def compile(self, step: Step, mode: str) -> None:
        from tpubench.suite.backends._replays import capture

        if step.module is None:
            return
        if self._wrong:
            step.module.register_forward_pre_hook(_spoil)
        if mode == "graphs":
            step.static_shapes = not step.trains
            captured = step.to_capture()
            assert captured is not None
            capture(self.queue, captured)

    def barrier(self) -> None:
        self.queue.barrier()

    def clock_ns(self) -> int:
        return self.queue.clock_ns()

    def marks(self, count: int) -> Marks:
        from tpubench.suite.backends._asynchronous import EventMarks

        if self._script.get("marks") == LAGGED_READS:
            return Backend.marks(self, count)
        return EventMarks(self.queue, self._pass_s if self._phase in _TIMED_PHASES else None)

    def copy_on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.queue.lying.lie == "alias":
            return tensor.detach()[(slice(0, 1),) * tensor.dim()]
        return super().copy_on_device(tensor)

    def free_memory_bytes(self) -> int | None:
        free = self._script.get("free_bytes")
        return None if free is None else int(free)

    def recompiles(self) -> int:
        self._compiled += self._recompiling
        return self._compiled

    def describe(self) -> dict[str, str | int | float | bool | None]:
        return {**super().describe(), "clock": "scripted"}


def _spoil(module: torch.nn.Module, _inputs: object) -> None:
    """Other weights at each pass, also where a step begins by setting its weights."""
    for parameter in module.parameters():
        parameter.data = parameter.data.roll(1, 0)
