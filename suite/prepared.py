"""A program ready to be timed: built, spread over its chips, compiled and warm; and its window.

Whoever times a program does it through these two steps, so that every clock has the same guards.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from tpubench.suite import other_inputs, ranks, registry, timing
from tpubench.suite.backend import Backend
from tpubench.suite.energy import Energy, PowerMeter
from tpubench.suite.job import Job
from tpubench.suite.marks import LAGGED_READS
from tpubench.suite.parity_means import means_of
from tpubench.suite.stopwatch import suspended_s
from tpubench.suite.workload import Checks, Device, Parity, Step, Timed, Window

Say = Callable[[str, float | None], None]
"""Told as a phase begins, with the seconds it should take where that is known."""


TRIES = 3
"""Windows timed, at most, until the marks of one add up."""
LENGTHS, MORE_PASSES = 6, 1.15
"""Numbers of passes that are tried, at most, until a window lasts as long as it should, and how
many more than seem to be needed: on a shared host the next window may be the quicker one."""
SHORT = 0.8
"""Share of what a window should last below which it is timed again, with more passes."""
EXCERPTS = 0.025
"""Share of a window for which passes on other inputs are timed at least."""
SUSPENDED_S = 1e-3
"""How long a machine may seem to have slept, of what reading two clocks takes."""
CROSS_CHECK_TOLERANCE = 0.1
"""How far lagged reads may differ from the slope over two lengths of a pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A warm program and the clock around it.

    compile_s: the backend's preparation and, where programs were compiled or fetched in the first
    passes, as by compilers that wait for a call, what the first took longer than the quickest of
    the warm-up. compile_cache: programs that the persistent cache gave then and did not; None where
    it does not say. checks: the parity checks, None where none was asked for.
    """

    job: Job
    backend: Backend
    step: Step
    works: timing.Clockwork
    warm: timing.WarmUp
    build_s: float
    compile_s: float
    compile_cache: Mapping[str, int] | None
    checks: Checks | None

    def passes(self) -> int:
        """Passes that fill the window."""
        return timing.passes_for(self.works, self.warm, self.job.pace)

    def throughput(self, window: Window, passes: int, wall_s: float) -> Timed:
        """Time passes back to back under guard. wall_s: what they should take together."""
        inner = self._inner(window, passes, wall_s)
        return self._long_enough(
            passes, lambda count: timing.throughput(self.works, window, passes=count, inner=inner)
        )

    def block(self, passes: int) -> Timed:
        """Time ``passes`` passes of the program, each a lap of its own."""
        window = pass_window(self.step)
        return self._guarded(lambda: timing.throughput(self.works, window, passes=passes))

    def also_timed(self) -> dict[str, Timed]:
        """The step's other windows, each warmed up by one pass of its own."""
        named: dict[str, Timed] = {}
        changes = 0

        def vary() -> None:
            nonlocal changes
            changes += self.step.vary(1)

        for name, window in self.step.windows().items():
            if window.kind == "cross-check" and (
                self.works.marks(0).how != LAGGED_READS or self.backend.busy_host_s
            ):
                continue  # what other programs do to a shared host bends a slope, too
            if window.kind == "latency":
                # Fetched at once, and with other inputs: programs of their own.
                timing.latency(self.works, window, passes=2, vary=vary)
            one_s = self.works.agreed(
                timing.throughput(self.works, window, passes=1, tidy=False).wall_s
            )
            if window.kind == "latency":
                passes = timing.latencies_for(one_s, self.job.pace)
                named[name] = self._again_while_off(
                    lambda window=window, passes=passes: timing.latency(  # type: ignore[misc]
                        self.works, window, passes=passes, vary=vary
                    )
                )
                if changes:
                    self.step.vary(-changes)
                    changes = 0
            else:
                warm = timing.WarmUp(passes_s=[one_s], steadiness="steady")
                passes = timing.passes_for(self.works, warm, self.job.pace)
                named[name] = self.throughput(window, passes, passes * one_s)
        return named

    def with_energy(
        self, window: Window, passes: int, wall_s: float, meter: PowerMeter
    ) -> tuple[Timed, Energy]:
        """Likewise, and what the chips drew meanwhile."""
        inner = self._inner(window, passes, wall_s)
        energies: list[Energy] = []

        def metered(count: int) -> Timed:
            meter.start()
            timed = timing.throughput(self.works, window, passes=count, inner=inner)
            energies.append(meter.stop())
            return timed

        return self._long_enough(passes, metered), energies[-1]

    def _inner(self, window: Window, passes: int, wall_s: float) -> int:
        """Passes to a lap, after a rehearsal: passes between which nothing is marked may be
        programs of their own, still to be compiled."""
        inner = timing.inner_for(self.works, window, passes, wall_s)
        if inner > 1:
            timing.throughput(self.works, window, passes=2, inner=2, tidy=False)
        return inner

    def _long_enough(self, passes: int, measure: Callable[[int], Timed]) -> Timed:
        """A guarded window of so many passes or, where they are over too soon, of more.

        One that stays too short, however many passes it is given, is none.
        """
        least_s = max(self.job.pace.window_s, timing.BARRIERS_A_WINDOW * self.works.idle_barrier_s)
        for _ in range(LENGTHS):
            timed = self._again_while_off(partial(measure, passes))
            if not self._any_rank(timed.fault is None and timed.wall_s < SHORT * least_s):
                return timed
            needed = MORE_PASSES * timed.passes * least_s / timed.wall_s
            passes = math.ceil(self.works.agreed(needed))
        lasted = f"the window lasted {timed.wall_s:.4g} s, not {least_s:.4g} s"
        return replace(timed, fault=timed.fault or f"{lasted}, whatever it was given to do")

    def _again_while_off(self, measure: Callable[[], Timed]) -> Timed:
        """A guarded window, timed again while its marks are off, at most TRIES times in all.

        What a busy host adds to the closing barrier goes away; a device that lies goes on lying.
        Likewise where a backend may still meet a program after the warm-up: the window that counts
        is one in which nothing was compiled.
        """
        timed = self._guarded(measure)
        for _ in range(TRIES - 1):
            late = self.backend.late_programs and timed.fault is not None
            if not self._any_rank(timed.marks_off or late):
                break
            timed = self._guarded(measure)
        return timed

    def _any_rank(self, here: bool) -> bool:
        """What rank 0 says, so that all go on together."""
        return bool(self.works.agreed(float(here)))

    def _guarded(self, measure: Callable[[], Timed]) -> Timed:
        """A window, with what happened inside it that must not."""
        before, ran, slept_s = self._counts(), self.backend.programs_run(), suspended_s()
        timed = measure()
        ended = self.backend.programs_run()
        happened = {what: n - before.get(what, 0) for what, n in self._counts().items()}
        phases = timed.passes * len(timed.marks)
        if ran is not None and ended is not None and ended - ran < phases:
            left_out = f"only {ended - ran} programs ran for {phases} timed phases"
            return replace(timed, fault=f"{left_out}: work was left out")
        slept_s = suspended_s() - slept_s
        if slept_s > SUSPENDED_S:
            slept = f"the machine was suspended for {slept_s:.2g} s inside the timed window"
            return replace(timed, fault=slept)
        disturbed = ", ".join(f"{times} {what}" for what, times in happened.items() if times)
        if disturbed:
            return replace(timed, fault=f"{disturbed} inside the timed window")
        return timed

    def parity(self) -> list[Parity]:
        """What the program computes, checked; empty where that was not asked for."""
        return [] if self.checks is None else list(self.checks())

    def other_inputs(self, main: Timed | None = None) -> str | None:
        """Why passes on other inputs say that the window, or its kind, cannot be believed."""
        if not self.backend.asynchronous:
            return None  # the host's own operators neither wait nor remember
        least_s = self.job.pace.window_s * EXCERPTS
        return other_inputs.fault(self.works, self.step, main, least_s)

    def _counts(self) -> dict[str, int]:
        return {"recompilations": self.backend.recompiles(), **self.backend.disturbances()}


def pass_window(step: Step) -> Window:
    """The pass of a step itself, timed for throughput."""
    return Window(run=step.run, marks=tuple(step.marks))


def clockwork(backend: Backend, agreed: Callable[[float], float] = float) -> timing.Clockwork:
    """The clock of an open backend."""
    return timing.Clockwork(
        barrier=backend.barrier,
        clock_ns=backend.clock_ns,
        recompiles=backend.recompiles,
        marks=backend.marks,
        read=backend.read,
        copy=backend.copy_on_device,
        flush=backend.flush,
        idle_barrier_s=timing.idle_barrier_s(backend.barrier, backend.clock_ns),
        slack_s=backend.busy_host_s,
        agreed=agreed,
    )


def cross_check(main: Timed, shorter: Timed) -> str | None:
    """Why the marks of ``main`` cannot be true, going by a window whose pass ends earlier.

    The laps that the shorter pass lacks must take what the two passes differ by: a slope over two
    lengths, which no late or early mark can bend.
    """
    fewer = len(shorter.marks)
    laps_s = sum(sum(laps[fewer:]) for laps in main.laps_s) / len(main.laps_s)
    slope_s = main.wall_s / main.passes - shorter.wall_s / shorter.passes
    if abs(slope_s - laps_s) <= CROSS_CHECK_TOLERANCE * laps_s:
        return None
    return (
        f"the last {len(main.marks) - fewer} marks of a pass say {laps_s:.4g} s, the difference"
        f" between a whole and a shorter pass {slope_s:.4g} s"
    )


def _since(before: tuple[int, int] | None, now: tuple[int, int] | None) -> Mapping[str, int] | None:
    """Hits and misses of the compile cache between two counts."""
    if before is None or now is None:
        return None
    return {"hits": now[0] - before[0], "misses": now[1] - before[1]}


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
        say("reference", None)
        means = means_of(workload, backend, device, job.compile_mode)
        checks = workload.checks(job.case, step, means)
    say("compile", None)
    cached = backend.compile_cache()
    began_ns = backend.clock_ns()
    backend.compile(step, job.compile_mode)
    backend.barrier()
    compile_s = (backend.clock_ns() - began_ns) / 1e9
    agreed = partial(ranks.agreed, device=device.torch_device) if device.ranks > 1 else float
    works = clockwork(backend, agreed)
    backend.reset_peak_memory()
    compiled = backend.recompiles()
    first_s = timing.first_pass_s(works, pass_window(step))
    say("warm-up", None)
    warm = timing.warm_up(works, pass_window(step), job.pace, first_s)
    if backend.recompiles() > compiled or backend.compile_cache() != cached:
        compile_s += max(0.0, first_s - min(warm.passes_s))
    return Prepared(
        job=job,
        backend=backend,
        step=step,
        works=works,
        warm=warm,
        build_s=build_s,
        compile_s=compile_s,
        compile_cache=_since(cached, backend.compile_cache()),
        checks=checks,
    )
