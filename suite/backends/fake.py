"""``fake``: real programs on the CPU under a scripted clock, with scripted faults.

It makes the whole pipeline deterministic, failures included, so that every status and exit code is
tested without a timing. Its rows are ``modelled``, never ``measured``, and ``auto`` never picks it.

``$TPUBENCH_FAKE`` holds the script as JSON: ``{"tick_s": [0.001, 0.002], "faults": {"1": ["window",
"hang"]}}`` gives the clock's steps, repeated, and what happens in which phase of which repetition
(``"*"`` for each): hang, abort, oom, exit, lost, wrong (an output the parity check must catch) or
recompile.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from tpubench.errors import RunFailedError
from tpubench.suite.backend import Probe
from tpubench.suite.backends.cpu import Cpu
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.workload import Device, Step

if TYPE_CHECKING:
    import torch

SCRIPT_VARIABLE = "TPUBENCH_FAKE"


class Fake(Cpu):
    """The CPU under a scripted clock."""

    name = "fake"
    summary = "a scripted clock over real programs: for tests, never a measurement"
    rank = -1
    evidence = "modelled"
    compile_modes: ClassVar[tuple[str, ...]] = ("eager",)
    collectives: ClassVar[str | None] = None
    limits: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._ticks: Iterator[int] = iter(())
        self._faults: dict[str, list[str]] = {}
        self._compiled = 0
        self._recompiling = False
        self._wrong = False

    def default_mode(self, *, trains: bool = False) -> tuple[str, str | None]:
        return "eager", None

    def probe(self, python: Interpreter = OWN) -> Probe:
        found = super().probe(python)
        detail = "scripted clock" if found.available else found.detail
        return Probe(available=found.available, detail=detail, fix=found.fix)

    def open(self, mode: str) -> Device:
        import torch

        device = super().open(mode)
        torch.set_num_threads(1)  # nothing is timed: leave the other cores to others
        return device

    def _read_script(self) -> None:
        script: dict[str, Any] = json.loads(os.environ.get(SCRIPT_VARIABLE) or "{}")
        ticks = [round(seconds * 1e9) for seconds in script.get("tick_s", [0.1])]
        self._ticks = itertools.accumulate(itertools.cycle(ticks))
        self._faults = script.get("faults", {})

    def device_name(self) -> str:
        return "fake"

    def on_phase(self, phase: str, repetition: int) -> None:
        if phase == "open":
            self._read_script()
        when, fault = self._faults.get(str(repetition), self._faults.get("*", ["", ""]))
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

    def compile(self, step: Step, mode: str) -> None:
        super().compile(step, mode)
        if self._wrong and step.module is not None:
            step.module.register_forward_pre_hook(_spoil)

    def clock_ns(self) -> int:
        return next(self._ticks)

    def recompiles(self) -> int:
        self._compiled += self._recompiling
        return self._compiled

    def describe(self) -> dict[str, str | int | float | bool | None]:
        return {**super().describe(), "clock": "scripted"}


def _spoil(module: torch.nn.Module, _inputs: object) -> None:
    """Other weights at each pass, also where a step begins by setting its weights."""
    for parameter in module.parameters():
        parameter.data = parameter.data.roll(1, 0)
