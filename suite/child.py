"""The child process, ``python -m tpubench.suite.child``: build, compile, warm up, time, check.

It reads one :class:`~tpubench.suite.job.Job` from standard input and writes JSON lines to the file
descriptor given as its only argument: ``{"phase": …}`` as each phase begins, then ``{"outcome":
…}``. While the timed window is open it writes nothing.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from tpubench.errors import TpubenchError
from tpubench.suite import clock_check, ranks, registry, timing
from tpubench.suite.backend import Backend
from tpubench.suite.energy import Energy
from tpubench.suite.job import Job, Outcome
from tpubench.suite.lifeline import die_with_parent
from tpubench.suite.parity import worst as worst_of
from tpubench.suite.parity_means import sharding
from tpubench.suite.prepared import Say, cross_check, pass_window, prepare
from tpubench.suite.workload import Device, Step, Timed


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
    device = replace(device, rank=world.rank, ranks=world.size)
    device = replace(device, shard=sharding(backend, device, job.case.dtype))
    with backend.running():
        outcome = _measure(job, backend, device, say, clock)
    if world.size > 1:
        ranks.leave()
    return outcome


def _measure(
    job: Job, backend: Backend, device: Device, say: Say, clock: clock_check.Timings | None
) -> Outcome:
    ready = prepare(job, backend, device, say)
    passes = ready.passes()
    wall_s = passes * min(ready.warm.passes_s)
    say("window", wall_s)
    meter, main, energy = backend.power_meter(), pass_window(ready.step), None
    if meter:
        timed, energy = ready.with_energy(main, passes, wall_s, meter)
    else:
        timed = ready.throughput(main, passes, wall_s)
    windows = {"pass": timed, **ready.also_timed()}
    fault = _window_fault(ready.step, windows)
    if device.ranks > 1:
        energy, fault = _of_all_ranks(energy, fault, device)
    peak = backend.peak_memory_bytes()
    generated = ready.step.generated()
    say("check", None)
    parity = ready.parity()
    worst = worst_of(parity)
    reason = fault or (worst.fault() if worst else None)
    return Outcome(
        status="invalid" if reason else "ok",
        reason=reason,
        windows=windows,
        warm_up_s=ready.warm.passes_s,
        steadiness=timing.overall(ready.warm, timed),
        build_s=ready.build_s,
        compile_s=ready.compile_s,
        peak_memory_bytes=peak,
        parity_error=worst.error if worst else None,
        parity_tolerance=worst.tolerance if worst else None,
        parity=[asdict(check) for check in parity],
        generated_ids=generated,
        idle_barrier_s=ready.works.idle_barrier_s if clock else None,
        energy=asdict(energy) if energy else None,
        **_where(backend, job),
    )


def _window_fault(step: Step, windows: Mapping[str, Timed]) -> str | None:
    """The first fault of any window, the main one before the others; None when all are good."""
    for name, timed in windows.items():
        if timed.fault:
            return timed.fault if name == "pass" else f"{name}: {timed.fault}"
    for name, window in step.windows().items():
        if window.kind == "cross-check" and name in windows:
            return cross_check(windows["pass"], windows[name])
    return None


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


def _of_all_ranks(
    energy: Energy | None, fault: str | None, device: Device
) -> tuple[Energy | None, str | None]:
    """The joules of all ranks together, and this rank's fault or else another's."""
    joules = math.nan if energy is None or energy.joules is None else energy.joules
    total = sum(ranks.gathered(joules, device.torch_device, device.ranks))
    faults = ranks.gathered(float(fault is not None), device.torch_device, device.ranks)
    if energy is not None and energy.joules is not None:
        if math.isnan(total):
            energy = replace(energy, joules=None, reason="a rank could not tell its energy")
        else:
            energy = replace(energy, joules=total)
    if fault is None and any(faults):
        rank = faults.index(1.0)
        fault = f"rank {rank} of {device.ranks} was disturbed inside the timed window"
    return energy, fault


def main() -> None:
    """Entry of the child. Any other exception goes to standard error, which the parent keeps."""
    die_with_parent()
    line = sys.stdin.readline()
    job = Job.from_json(line)
    if sys.argv[1] == "-":  # a rank that only takes part
        execute(job, lambda phase, expected_s: None)
        os._exit(0)  # its threads of communication may abort an orderly exit, after all is done
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
