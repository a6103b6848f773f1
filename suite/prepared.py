"""A program ready to be timed: built, spread over its chips, compiled and warm; and its window.

Whoever times a program does it through these two steps, so that every clock has the same guards.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tpubench.suite import ranks, registry, timing
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job
from tpubench.suite.parity_means import means_of
from tpubench.suite.workload import Checks, Device, Parity, Step

Say = Callable[[str, float | None], None]
"""Told as a phase begins, with the seconds it should take where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What was timed. laps_s: [passes, marks] seconds. fault: why it must not be believed."""

    laps_s: list[list[float]]
    fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A warm program and the clock around it.

    compile_s is the backend's preparation alone; what it compiles at the first call is in
    ``warm.passes_s``. checks: the parity checks, None where none was asked for.
    """

    job: Job
    backend: Backend
    step: Step
    works: timing.Clockwork
    warm: timing.WarmUp
    build_s: float
    compile_s: float
    checks: Checks | None

    @property
    def marks(self) -> int:
        """Phases of a pass."""
        return len(self.step.marks)

    def window(self, passes: int) -> Window:
        """Time ``passes`` passes, each phase between real barriers."""
        before, ran = self._counts(), self.backend.programs_run()
        stamps = timing.window(self.works, passes=passes, marks=self.marks)
        ended = self.backend.programs_run()
        happened = {what: n - before.get(what, 0) for what, n in self._counts().items()}
        laps_s = timing.laps_s(stamps, self.marks)
        phases = passes * self.marks
        if ran is not None and ended is not None and ended - ran < phases:
            left_out = f"only {ended - ran} programs ran for {phases} timed phases"
            return Window(laps_s=laps_s, fault=f"{left_out}: work was left out")
        disturbed = ", ".join(f"{times} {what}" for what, times in happened.items() if times)
        fault = f"{disturbed} inside the timed window" if disturbed else None
        return Window(laps_s=laps_s, fault=fault)

    def parity(self) -> list[Parity]:
        """What the program computes, checked; empty where that was not asked for."""
        return [] if self.checks is None else list(self.checks())

    def _counts(self) -> dict[str, int]:
        return {"recompilations": self.backend.recompiles(), **self.backend.disturbances()}


def prepare(job: Job, backend: Backend, device: Device, say: Say) -> Prepared:
    """Build, spread, compile and warm up the program of a job on an open device."""
    say("build", None)
    began = time.perf_counter()
    workload = registry.workload(job.case.workload)
    step = workload.build(job.case, device, job.weights)
    step.barrier, step.flush = backend.barrier, backend.flush
    backend.spread(step)
    backend.barrier()
    build_s = time.perf_counter() - began
    checks = None
    if job.parity:
        means = means_of(workload, backend, device, job.compile_mode)
        checks = workload.checks(job.case, step, means)
    say("compile", None)
    began_ns = backend.clock_ns()
    backend.compile(step, job.compile_mode)
    backend.barrier()
    compile_s = (backend.clock_ns() - began_ns) / 1e9
    works = timing.Clockwork(
        run=step.run,
        barrier=backend.barrier,
        clock_ns=backend.clock_ns,
        recompiles=backend.recompiles,
        agreed=partial(ranks.agreed, device=device.torch_device) if device.ranks > 1 else float,
    )
    say("warm-up", None)
    backend.reset_peak_memory()
    warm = timing.warm_up(works, len(step.marks), job.pace)
    return Prepared(
        job=job,
        backend=backend,
        step=step,
        works=works,
        warm=warm,
        build_s=build_s,
        compile_s=compile_s,
        checks=checks,
    )
