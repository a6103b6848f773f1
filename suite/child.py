"""The child process, ``python -m tpubench.suite.child``: build, compile, warm up, time, check.

It reads a list of :class:`~tpubench.suite.job.Job` from standard input and writes JSON lines to the
file descriptor given as its only argument: for each job ``{"phase": …}`` as each phase begins, then
``{"outcome": …}``. A job that fails ends it. While a timed window is open it writes nothing.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from tpubench.devices.sheets import devices
from tpubench.errors import RunFailedError, TpubenchError
from tpubench.suite import clock_check, ranks, registry, timing
from tpubench.suite.backend import Backend
from tpubench.suite.energy import SLOWDOWNS, Energy
from tpubench.suite.job import Job, Outcome, from_line
from tpubench.suite.lifeline import die_with_parent
from tpubench.suite.parity import worst as worst_of
from tpubench.suite.parity_means import sharding
from tpubench.suite.prepared import Say, cross_check, pass_window, prepare
from tpubench.suite.stopwatch import Stopwatch, process_age_s
from tpubench.suite.workload import Device, Step, Timed


def execute(job: Job, report: Say) -> Outcome:
    """Run one job in this process. ``report(phase, expected seconds)``: called as phases begin."""
    (outcome,) = outcomes([job], report)
    return outcome


def outcomes(jobs: Sequence[Job], report: Say, age_s: float = 0.0) -> Iterator[Outcome]:
    """Run jobs one after another on a device that is taken once; what each gave, as it ends.

    age_s: how long the process has lived. TpubenchError when a job cannot be done; those after it
    are then another process's.
    """
    job = jobs[0]
    backend = registry.backend(job.backend)
    watch = Stopwatch(age_s)

    def say(phase: str, expected_s: float | None) -> None:
        watch.begin(phase)
        report(phase, expected_s)
        backend.on_phase(phase, job.repetition, job.case)

    say("open", None)
    device = backend.open(job.compile_mode)
    world = ranks.from_environment()
    if world.size > 1:
        assert backend.collectives is not None
        meeting = f"{job.case.key}-{job.repetition}"
        ranks.join(world, backend.collectives, meeting, _code(job))
    clock, fault = None, None
    if backend.asynchronous:
        say("clock", None)
        clock, fault = clock_check.check(backend, device)
        if world.size > 1:  # or the others would wait for one that has stopped
            lies = ranks.gathered(float(fault is not None), device.torch_device, world.size)
            if fault is None and any(lies):
                fault = f"the clock of rank {lies.index(1.0)} of {world.size} is not true"
    for number, job in enumerate(jobs):
        if number:
            backend.release()
        if fault:
            outcome = Outcome(status="invalid", reason=fault, **_where(backend, job))
        else:
            placed = replace(device, rank=world.rank, ranks=world.size)
            placed = replace(placed, shard=sharding(backend, placed, job.case.dtype))
            with backend.running():
                outcome = _measure(job, backend, placed, say, clock)
        yield replace(outcome, spent_s=watch.take())
    if world.size > 1:
        ranks.leave()


def _code(job: Job) -> str:
    """What all ranks must have alike: this package's room, the workload's files, torch."""
    import torch

    room = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        room.update(file.read_bytes())
    workload = registry.workload(job.case.workload).source_sha256()
    return f"{torch.__version__} {workload} {room.hexdigest()}"


def _measure(
    job: Job, backend: Backend, device: Device, say: Say, clock: clock_check.Timings | None
) -> Outcome:
    _refuse_what_cannot_fit(job, backend, device)
    ready = prepare(job, backend, device, say)
    passes = ready.passes()
    wall_s = passes * min(ready.warm.passes_s)
    say("window", wall_s)
    meter, main, energy = backend.power_meter(), pass_window(ready.step), None
    if meter:
        timed, energy = ready.with_energy(main, passes, wall_s, meter)
    else:
        timed = ready.throughput(main, passes, wall_s)
    say("other windows", None)
    windows = {"pass": timed, **ready.also_timed()}
    fault = _window_fault(ready.step, windows) or backend.mode_fault(job.compile_mode)
    peak = backend.peak_memory_bytes()
    if device.ranks > 1:
        energy, fault = _of_all_ranks(energy, fault, device)
        peak = _most_of_any_rank(peak, device)
    generated = ready.step.generated()
    say("check", None)
    parity = ready.parity()
    worst = worst_of(parity)
    fault = fault or ready.other_inputs(timed)
    reason = fault or (worst.fault() if worst else None)
    return Outcome(
        status="invalid" if reason else "ok",
        reason=reason,
        windows=windows,
        warm_up_s=ready.warm.passes_s,
        steadiness=timing.overall(ready.warm, windows.values(), alone=not backend.busy_host_s),
        build_s=ready.build_s,
        compile_s=ready.compile_s,
        compile_cache=ready.compile_cache,
        peak_memory_bytes=peak,
        parity_error=worst.error if worst else None,
        parity_tolerance=worst.tolerance if worst else None,
        parity=[asdict(check) for check in parity if check.judges],
        measured={check.name: check.error for check in parity if not check.judges},
        generated_ids=generated,
        idle_barrier_s=ready.works.idle_barrier_s if clock else None,
        energy=asdict(energy) if energy else None,
        **_where(backend, job),
    )


def _refuse_what_cannot_fit(job: Job, backend: Backend, device: Device) -> None:
    """RunFailedError where the chips cannot hold the program, or have no units for its precision,
    before anything of it is built."""
    name = backend.device_name()
    sheet = devices().get(name)
    peaks = sheet.peak_flop_s if sheet else {}
    if job.case.dtype == "fp8" and peaks and "fp8" not in peaks:
        raise RunFailedError(
            f"{name} has no units for fp8: take dtype=int8, whose weights are as small"
        )
    needed = registry.workload(job.case.workload).memory_bytes(job.case)
    free = backend.free_memory_bytes()
    if needed is None or free is None:
        return
    chips = max(device.ranks, job.chips)
    if needed > free * chips:
        each = f" on each of {chips} chips" if chips > 1 else ""
        raise RunFailedError(
            f"does not fit: {job.case.workload} {job.case.preset} needs at least"
            f" {-(-needed // chips):,} bytes{each}, {free:,} are free;"
            " take a smaller case or more memory"
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
    how = registry.workload(job.case.workload).parallelism
    devices = max(world.size, backend.devices(job.chips)) if how else 1
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
    slowed_s = {
        cause: max(ranks.gathered(seconds, device.torch_device, device.ranks))
        for cause, seconds in _causes(energy).items()
    }
    if energy is not None:
        energy = replace(energy, slowed_s=slowed_s)
    if energy is not None and energy.joules is not None:
        if math.isnan(total):
            energy = replace(energy, joules=None, reason="a rank could not tell its energy")
        else:
            energy = replace(energy, joules=total)
    if fault is None and any(faults):
        rank = faults.index(1.0)
        fault = f"rank {rank} of {device.ranks} was disturbed inside the timed window"
    return energy, fault


def _causes(energy: Energy | None) -> dict[str, float]:
    """Seconds by every cause that there is, so that all ranks gather the same."""
    known = {} if energy is None else energy.slowed_s
    return {cause: known.get(cause, 0.0) for cause in SLOWDOWNS}


def _most_of_any_rank(peak: int | None, device: Device) -> int | None:
    """The peak of the rank that held the most: what decides whether a chip is large enough."""
    peaks = ranks.gathered(math.nan if peak is None else peak, device.torch_device, device.ranks)
    return None if any(map(math.isnan, peaks)) else int(max(peaks))


def main() -> None:
    """Entry of the child. Any other exception goes to standard error, which the parent keeps."""
    die_with_parent()
    line = sys.stdin.readline()
    jobs = from_line(line)
    if sys.argv[1] == "-":  # a rank that only takes part
        for _ in outcomes(jobs, lambda phase, expected_s: None):
            pass
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
        backend = registry.backend(jobs[0].backend)
        # A workload that does not spread runs on one device, be it half a chip.
        spreads = registry.workload(jobs[0].case.workload).parallelism is not None
        processes = backend.processes(jobs[0].chips) if spreads else 1
        try:
            if processes > 1 and ranks.from_environment() == ranks.ALONE:
                backend.before_ranks(processes)
                peers = ranks.start(line.strip(), processes)
                peers.watch(fail)
            import_module("torch")  # so that its seconds count as imports
            gc.freeze()  # what is imported stays: each window collects garbage before it opens
            for outcome in outcomes(jobs, report, process_age_s()):
                send({"outcome": outcome.to_json()})
        except TpubenchError as error:
            send({"outcome": Outcome(status="failed", reason=str(error)).to_json()})
        except Exception:
            # A rank that dies takes the others' communication with it: name the one that died.
            reason = peers.last_words() if peers else None
            if reason is None:
                raise
            fail(reason)


if __name__ == "__main__":
    main()
