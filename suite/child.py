"""The child process, ``python -m tpubench.suite.child``: build, compile, warm up, time, check.

It reads one :class:`~tpubench.suite.job.Job` from standard input and writes JSON lines to the file
descriptor given as its only argument: ``{"phase": …}`` as each phase begins, then ``{"outcome":
…}``. While the timed window is open it writes nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from tpubench.results.errors import TpubenchError
from tpubench.suite import clock_check, ranks, registry, timing
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job, Outcome
from tpubench.suite.workload import Device, Parity

Say = Callable[[str, float | None], None]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def execute(job: Job, report: Say) -> Outcome:
    """Run one job in this process. ``report(phase, expected seconds)``: called as phases begin."""
    backend = registry.backend(job.backend)

    def say(phase: str, expected_s: float | None) -> None:
        report(phase, expected_s)
        backend.on_phase(phase, job.repetition)

    say("open", None)
    device = backend.open(job.compile_mode)
    world = ranks.from_environment()
    if world.size > 1:
        assert backend.collectives is not None
        meeting = f"{job.case.key}-{job.repetition}"
        ranks.join(world, backend.collectives, meeting)
    clock = None
    if backend.asynchronous:
        say("clock", None)
        clock, fault = clock_check.check(backend, device)
        if fault:
            return Outcome(status="invalid", reason=fault, **_where(backend, job))
    shard = backend.shard(job.case.dtype)
    if world.size > 1:
        shard = ranks.fsdp(device.torch_device, world.size, job.case.dtype)
    device = replace(device, rank=world.rank, ranks=world.size, shard=shard)
    with backend.running():
        return _measure(job, backend, device, say, clock)


def _measure(
    job: Job, backend: Backend, device: Device, say: Say, clock: clock_check.Timings | None
) -> Outcome:
    workload = registry.workload(job.case.workload)
    say("build", None)
    began = time.perf_counter()
    step = workload.build(job.case, device, job.weights)
    step.barrier = backend.barrier
    step.flush = backend.flush
    backend.spread(step)
    backend.barrier()
    build_s = time.perf_counter() - began
    expected = step.reference() if job.parity else None
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
    marks = len(step.marks)
    say("warm-up", None)
    backend.reset_peak_memory()
    warm = timing.warm_up(works, marks, job.pace)
    passes = timing.passes_for(warm, job.pace)
    say("window", passes * min(warm.passes_s))
    before, ran = _counts(backend), backend.programs_run()
    meter = backend.power_meter()
    if meter:
        meter.start()
    stamps = timing.window(works, passes=passes, marks=marks)
    energy = meter.stop() if meter else None
    ended = backend.programs_run()
    happened = {what: n - before.get(what, 0) for what, n in _counts(backend).items()}
    peak = backend.peak_memory_bytes()
    generated = step.generated()
    say("check", None)
    parity = None
    if expected is not None:
        parity = workload.check(job.case, expected, step.probe())
    status, reason = _verdict(happened, parity)
    phases = passes * marks
    if ran is not None and ended is not None and ended - ran < phases:
        status = "invalid"
        reason = f"only {ended - ran} programs ran for {phases} timed phases: work was left out"
    return Outcome(
        status=status,
        reason=reason,
        marks=list(step.marks),
        laps_s=timing.laps_s(stamps, marks),
        warm_up_s=warm.passes_s,
        steadiness=warm.steadiness,
        build_s=build_s,
        compile_s=compile_s,
        peak_memory_bytes=peak,
        parity_error=parity.error if parity else None,
        parity_tolerance=parity.tolerance if parity else None,
        generated_ids=generated,
        idle_barrier_s=clock.idle_barrier_s if clock else None,
        energy=asdict(energy) if energy else None,
        **_where(backend, job),
    )


def _where(backend: Backend, job: Job) -> dict[str, Any]:
    world = ranks.from_environment()
    devices = max(world.size, job.chips)
    how = registry.workload(job.case.workload).parallelism
    return {
        "device": backend.device_name(),
        "chips": max(job.chips, backend.physical_chips(world.size)),
        "hosts": world.hosts,
        "parallelism": f"{how}={devices}" if devices > 1 else "none",
        "description": backend.describe(),
    }


def _counts(backend: Backend) -> dict[str, int]:
    return {"recompilations": backend.recompiles(), **backend.disturbances()}


def _verdict(happened: Mapping[str, int], parity: Parity | None) -> tuple[str, str | None]:
    disturbed = ", ".join(f"{times} {what}" for what, times in happened.items() if times)
    if disturbed:
        return "invalid", f"{disturbed} inside the timed window"
    if parity is not None and not parity.ok:
        return (
            "invalid",
            f"parity check failed: {parity.what} is {parity.error:.3g},"
            f" at most {parity.tolerance:g} is allowed",
        )
    return "ok", None


def main() -> None:
    """Entry of the child. Any other exception goes to standard error, which the parent keeps."""
    # If the parent dies, so does the measurement: nothing is left running on the machine.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    line = sys.stdin.readline()
    job = Job.from_json(line)
    if sys.argv[1] == "-":  # a rank that only takes part
        execute(job, lambda phase, expected_s: None)
        return
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1) as pipe:

        def send(message: dict[str, Any]) -> None:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()

        def report(phase: str, expected_s: float | None) -> None:
            send({"phase": phase, "expected_s": expected_s})

        def fail(reason: str) -> None:
            send({"outcome": Outcome(status="failed", reason=reason).to_json()})
            os._exit(1)

        peers = None
        processes = registry.backend(job.backend).processes(job.chips)
        try:
            if processes > 1 and ranks.from_environment() == ranks.ALONE:
                registry.backend(job.backend).before_ranks(processes)
                peers = ranks.start(line.strip(), processes)
                peers.watch(fail)
            outcome = execute(job, report)
        except TpubenchError as error:
            outcome = Outcome(status="failed", reason=str(error))
        except Exception:
            # A rank that dies takes the others' communication with it: name the one that died.
            reason = peers.last_words() if peers else None
            if reason is None:
                raise
            fail(reason)
        send({"outcome": outcome.to_json()})


if __name__ == "__main__":
    main()
