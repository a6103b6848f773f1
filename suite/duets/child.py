"""One side of a duet, ``python -m tpubench.suite.duets.child FD``: prepared once, timed on command.

Strict question and answer, one JSON line each: questions on standard input, answers on the
descriptor FD. Between them this process is blocked in a read, so the other side has the machine to
itself. The first line is the job. Then::

    {"do": "pair", "parity": true, "watched": […], "cores": [0]}
                                    → {"prepared": …}   a new process of this side is warm
    {"do": "block", "passes": 20}   → {"passes_s": […], "disturbed": {}}
    {"do": "end"}                   → {"ended": 0}

Where the backend allows it, each pair's process is forked from this one, which has imported torch
and run nothing: a process of its own (own heap, threads and pages) without two seconds of imports.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import mmap
import os
import random
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

from tpubench.errors import RunFailedError, TpubenchError
from tpubench.suite import clock_check, registry
from tpubench.suite.backend import Backend
from tpubench.suite.duets import loaded
from tpubench.suite.job import Job
from tpubench.suite.lifeline import die_with_parent
from tpubench.suite.parity import worst as worst_of
from tpubench.suite.parity_means import sharding
from tpubench.suite.prepared import Prepared, prepare
from tpubench.suite.workload import Device, Workload

_COMPILER = "torch._dynamo"
"""Takes over a second to import, and optimizers need it too: whether a program does is seen in its
first process, and the later ones find it there."""
SETTLE_S = 0.002
"""Pause of many threads before answering: they spin for about a millisecond after a parallel
region, and would otherwise do so in the other side's block."""


def _open(job: Job, backend: Backend) -> Device:
    """Take the device; its clock is proved where that is asked for. RunFailedError if not."""
    backend.on_phase("open", job.repetition, job.case)
    device = backend.open(job.compile_mode)
    if backend.asynchronous and job.parity:
        backend.on_phase("clock", job.repetition, job.case)
        _, fault = clock_check.check(backend, device)
        if fault:
            raise RunFailedError(fault)
    return replace(device, shard=sharding(backend, device, job.case.dtype))


def _prepared(ready: Prepared, watched: Iterable[str]) -> dict[str, Any]:
    """What the parent must know of a program before its first block."""
    job, backend = ready.job, ready.backend
    workload = registry.workload(job.case.workload)
    worst = worst_of(ready.parity())
    if ready.checks is not None:
        fault = ready.other_inputs()
        if fault:
            raise RunFailedError(fault)
    return {
        "warm_up_s": ready.warm.passes_s,
        "steadiness": ready.warm.steadiness,
        "compile_s": ready.compile_s,
        "parity": worst and {**asdict(worst), "ok": worst.ok},
        "peak_memory_bytes": backend.peak_memory_bytes(),
        "free_memory_bytes": backend.free_memory_bytes(),
        "device": backend.device_name(),
        "chips": max(job.chips, backend.physical_chips(1)),
        "description": backend.describe(),
        "workload_version": workload.version,
        "workload_sha256": workload.source_sha256(),
        "loaded": loaded.report(watched),
    }


def _block(ready: Prepared, passes: int) -> dict[str, Any]:
    """Seconds of each of ``passes`` passes."""
    timed = ready.block(passes)
    if importlib.import_module("torch").get_num_threads() > 1:
        time.sleep(SETTLE_S)
    return {"passes_s": timed.passes_s, "fault": timed.fault}


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


def perform(job: Job, stage: Stage, watched: Iterable[str]) -> None:
    """One pair's process: prepare, then blocks until told to end.

    ``watched``: top-level modules whose files it tells.
    """
    backend = registry.backend(job.backend)

    def say(phase: str, expected_s: float | None) -> None:
        del expected_s
        backend.on_phase(phase, job.repetition, job.case)

    try:
        device = _open(job, backend)
        with backend.running():
            ready = prepare(job, backend, device, say)
            message = _prepared(ready, watched)
            # What lives now lives on: later collections need not look at it.
            gc.collect()
            gc.freeze()
            say("window", None)
            stage.answer({"prepared": message})
            for line in stage.questions():
                question = json.loads(line)
                if question["do"] == "end":
                    return
                stage.answer(_block(ready, question["passes"]))
    except TpubenchError as error:
        stage.answer({"failed": str(error)})


def _hold(cores: Iterable[int] | None) -> None:
    """Run on these cores only, from now on; None for all."""
    if cores is not None:
        os.sched_setaffinity(0, cores)


def _forked(job: Job, stage: Stage, watched: Iterable[str], cores: Iterable[int] | None) -> int:
    """Perform in a fork; its wait status."""
    compiler_there = mmap.mmap(-1, 1)  # shared with the fork
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        if compiler_there[0]:
            importlib.import_module(_COMPILER)
        return status
    code = 1
    try:
        die_with_parent()
        _hold(cores)
        pads = _shuffle_memory()
        perform(job, stage, watched)
        compiler_there[0] = _COMPILER in sys.modules
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
    """What building the program may import; nothing is run."""
    importlib.import_module("torch")
    for name in workload.source_modules():
        with contextlib.suppress(ImportError):  # of a library that this case may not need
            importlib.import_module(name)


def main() -> None:
    """Entry of the child. Exceptions go to standard error, which the parent keeps."""
    die_with_parent()
    stage = Stage(int(sys.argv[1]))
    questions = stage.questions()
    job = Job.from_json(next(questions))
    backend: Backend = registry.backend(job.backend)
    if backend.forks:
        _import_ahead(registry.workload(job.case.workload))
        gc.freeze()
    for line in questions:  # each one asks for a pair
        question = json.loads(line)
        asked, watched = replace(job, parity=job.parity and question["parity"]), question["watched"]
        if not backend.forks:
            _hold(question["cores"])
            perform(asked, stage, watched)
            return
        status = _forked(asked, stage, watched, question["cores"])
        stage.answer({"ended": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
