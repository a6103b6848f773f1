"""One side of a duet, ``python -m tpubench.suite.duet_child FD``: prepared once, timed on command.

Strict question and answer, one JSON line each: questions on standard input, answers on the
descriptor FD. Between them this process is blocked in a read, so the other side has the machine to
itself. The first line is the job. Then::

    {"do": "pair", "parity": true}  → {"prepared": …}   a new process of this side is warm
    {"do": "block", "passes": 20}   → {"passes_s": […], "disturbed": {}}
    {"do": "end"}                   → {"ended": 0}

Where the backend allows it, each pair's process is forked from this one, which has imported torch
and run nothing: a process of its own (own heap, threads and pages) without two seconds of imports.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import mmap
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tpubench.results.errors import RunFailedError, TpubenchError
from tpubench.suite import clock_check, registry, timing
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job
from tpubench.suite.workload import Device, Step, Workload

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
SETTLE_S = 0.002
"""Pause before answering: threads of a parallel region spin for about a millisecond after it, and
would otherwise do so in the other side's block."""


class Performer:
    """A built, compiled and warm program, and the clock around it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.workload = registry.workload(job.case.workload)
        self.backend = registry.backend(job.backend)

    def open(self) -> Device:
        """Take the device; its clock is proved where that is asked for. RunFailedError if not."""
        self._phase("open")
        device = self.backend.open(self.job.compile_mode)
        if self.backend.asynchronous and self.job.parity:
            self._phase("clock")
            _, fault = clock_check.check(self.backend, device)
            if fault:
                raise RunFailedError(fault)
        return replace(device, shard=self.backend.shard(self.job.case.dtype))

    def prepare(self, device: Device) -> dict[str, Any]:
        """Everything up to the first block; what the parent must know of it."""
        job, backend = self.job, self.backend
        self._phase("build")
        self.step: Step = self.workload.build(job.case, device, job.weights)
        self.step.barrier, self.step.flush = backend.barrier, backend.flush
        backend.spread(self.step)
        backend.barrier()
        expected = self.step.reference() if job.parity else None
        self._phase("compile")
        began = time.perf_counter()
        backend.compile(self.step, job.compile_mode)
        backend.barrier()
        compile_s = time.perf_counter() - began
        self.works = timing.Clockwork(
            run=self.step.run,
            barrier=backend.barrier,
            clock_ns=backend.clock_ns,
            recompiles=backend.recompiles,
        )
        self.marks = len(self.step.marks)
        self._phase("warm-up")
        warm = timing.warm_up(self.works, self.marks, job.pace)
        parity = None
        if expected is not None:
            found = self.workload.check(job.case, expected, self.step.probe())
            parity = {"error": found.error, "tolerance": found.tolerance, "ok": found.ok}
        # What lives now lives on: later collections need not look at it.
        gc.collect()
        gc.freeze()
        self._phase("window")
        return {
            "warm_up_s": warm.passes_s,
            "steadiness": warm.steadiness,
            "compile_s": compile_s,
            "parity": parity,
            "device": backend.device_name(),
            "chips": max(job.chips, backend.physical_chips(1)),
            "description": backend.describe(),
            "workload_version": self.workload.version,
            "workload_sha256": self.workload.source_sha256(),
        }

    def block(self, passes: int) -> dict[str, Any]:
        """Time ``passes`` passes, each between real barriers."""
        backend = self.backend
        before, ran = self._counts(), backend.programs_run()
        stamps = timing.window(self.works, passes=passes, marks=self.marks)
        ended = backend.programs_run()
        happened = {what: n - before.get(what, 0) for what, n in self._counts().items()}
        if ran is not None and ended is not None and ended - ran < passes * self.marks:
            happened["programs left out"] = passes * self.marks - (ended - ran)
        time.sleep(SETTLE_S)
        laps = timing.laps_s(stamps, self.marks)
        disturbed = {what: n for what, n in happened.items() if n}
        return {"passes_s": [sum(lap) for lap in laps], "disturbed": disturbed}

    def _counts(self) -> dict[str, int]:
        return {"recompilations": self.backend.recompiles(), **self.backend.disturbances()}

    def _phase(self, phase: str) -> None:
        self.backend.on_phase(phase, self.job.repetition)


class Stage:
    """The two ends of the conversation."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.pending = b""

    def questions(self) -> Iterator[str]:
        """Lines as they come, read without a buffer that a fork would copy."""
        while True:
            line, newline, rest = self.pending.partition(b"\n")
            if newline:
                self.pending = rest
                yield line.decode()
                continue
            chunk = os.read(0, 1 << 16)
            if not chunk:
                return
            self.pending += chunk

    def answer(self, message: dict[str, Any]) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[os.write(self.descriptor, data) :]


def perform(job: Job, stage: Stage) -> None:
    """One pair's process: prepare, then blocks until told to end."""
    try:
        performer = Performer(job)
        device = performer.open()
        with performer.backend.running():
            stage.answer({"prepared": performer.prepare(device)})
            for line in stage.questions():
                question = json.loads(line)
                if question["do"] == "end":
                    return
                stage.answer(performer.block(question["passes"]))
    except TpubenchError as error:
        stage.answer({"failed": str(error)})


def _forked(job: Job, stage: Stage) -> int:
    """Perform in a fork; its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 1
    try:
        _die_with_parent()
        pads = _shuffle_memory()
        perform(job, stage)
        del pads
        code = 0
    except BaseException:  # noqa: BLE001 — a fork must never return into its parent's stack
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _shuffle_memory() -> list[Any]:
    """Blocks to hold while performing, so that the program's memory lies elsewhere in each fork.

    Forks would otherwise all inherit one layout, and with it one bias of a per cent or so that no
    number of pairs averages out.
    """
    chance = random.SystemRandom()
    heap = [bytearray(chance.randrange(64, 4096)) for _ in range(64)]
    pages = [mmap.mmap(-1, mmap.PAGESIZE * chance.randrange(1, 2048)) for _ in range(4)]
    return [*heap, *pages]


def _import_ahead(workload: Workload) -> None:
    """What building the program will import; nothing is run."""
    importlib.import_module("torch")
    room = type(workload).__module__.rpartition(".")[0]
    for source in workload.sources:
        if source.endswith(".py"):
            importlib.import_module(f"{room}.{source.removesuffix('.py').replace('/', '.')}")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Entry of the child. Exceptions go to standard error, which the parent keeps."""
    _die_with_parent()
    stage = Stage(int(sys.argv[1]))
    questions = stage.questions()
    job = Job.from_json(next(questions))
    backend: Backend = registry.backend(job.backend)
    if backend.forks:
        _import_ahead(registry.workload(job.case.workload))
        gc.freeze()
    for line in questions:  # each one asks for a pair
        asked = replace(job, parity=job.parity and json.loads(line)["parity"])
        if not backend.forks:
            perform(asked, stage)
            return
        status = _forked(asked, stage)
        stage.answer({"ended": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
