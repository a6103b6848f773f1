"""Starts a child process for the jobs of one round, waits, and says how each ended.

A child that hangs, aborts, floods or talks nonsense is ended with all that it started, and
recorded; nothing it does can take the run down.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from tpubench.suite import compile_cache, keeper, messages, processes, registry
from tpubench.suite.backend import Backend
from tpubench.suite.conversation import CannotStartError, Conversation, FloodError
from tpubench.suite.job import Job, Outcome, to_line
from tpubench.suite.stopwatch import RELEASE

OnPhase = Callable[[str, float | None], None]

_OUT_OF_MEMORY = re.compile(r"can't allocate memory|OutOfMemory|out of memory|MemoryError", re.I)
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failed)|Unsupported)\b", re.M
)
_PEER_DIED = re.compile(r"rank \d+ of \d+ died")
_MISSING_MODULE = re.compile(r"No module named '?(tpubench|torch)\b")
_LEAVE_S = 10.0
_MOST_MESSAGES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a job ended: its outcome, and the end of what the child printed (never stored)."""

    outcome: Outcome
    log: str
    suspect: bool = False
    """Whether a damaged compile cache may be why; the process has then ended."""
    note: str | None = None
    """What was done to get there that a user should know."""


def run_child(
    job: Job, *, python: str | None, timeout_s: float, on_phase: OnPhase | None = None
) -> Ended:
    """Run ``job`` in a child process, at most ``timeout_s`` seconds.

    KeyboardInterrupt kills the child and is raised again.
    """
    with contextlib.closing(
        run_jobs([job], python=python, timeout_s=timeout_s, on_phase=on_phase)
    ) as ends:
        return next(ends)


def run_jobs(
    jobs: Sequence[Job], *, python: str | None, timeout_s: float, on_phase: OnPhase | None = None
) -> Generator[Ended]:
    """Run jobs one after another in one child process; how each ended, as soon as it has.

    timeout_s is for each job. A job that fails ends its process; those after it get another.
    Closing the generator kills what runs.
    """
    left = list(jobs)
    while left:
        backend = registry.backend(left[0].backend)
        variables = backend.child_environment(left[0].chips)
        asked = _Asked(python=python, timeout_s=timeout_s, on_phase=on_phase, variables=variables)
        for ended in _one_process(list(left), asked):
            job = left.pop(0)
            yield (_without_cache(job, asked) if ended.suspect else None) or ended


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """How processes are started and heard."""

    python: str | None
    timeout_s: float
    on_phase: OnPhase | None
    variables: Mapping[str, str]
    """What the backend wants set in the child."""


def _without_cache(job: Job, asked: _Asked) -> Ended | None:
    """How a job ends with nothing compiled before; None where it fails likewise.

    Where it does not, what was kept is at fault, and is deleted.
    """
    with compile_cache.elsewhere(asked.variables) as variables:
        (ended,) = _one_process([job], replace(asked, variables=variables))
    if ended.outcome.status != "ok":
        return None
    compile_cache.clear(job.backend)
    note = (
        f"the compile cache of {job.backend} gave programs that fail, and was emptied:"
        f" repetition {job.repetition + 1} of {job.case.workload} ran again without it"
    )
    return replace(ended, suspect=False, note=note)


def _one_process(jobs: Sequence[Job], asked: _Asked) -> Generator[Ended]:
    """How the first jobs ended, up to one that failed: it is the last that this process ran."""
    backend = registry.backend(jobs[0].backend)
    command = processes.command(asked.python, "tpubench.suite.child")
    cached = compile_cache.in_use(jobs[0].backend)
    try:
        child = Conversation.start(command, processes.environment(asked.variables))
    except CannotStartError as error:
        yield Ended(outcome=Outcome(status="failed", reason=str(error)), log="")
        return
    with child:
        child.say(to_line(jobs).encode(), last=True)
        for number in range(len(jobs)):
            phase = RELEASE if number else "start"
            heard = _listen(child, phase, asked, backend.open_timeout_s)
            if heard.outcome is None or heard.outcome.status == "failed":
                break
            wrong = cached and _wrong_from_the_cache(heard.outcome)
            if number == len(jobs) - 1:
                _leave(child, _LEAVE_S)
            if wrong or number == len(jobs) - 1:
                child.end()
            yield Ended(outcome=heard.outcome, log=child.log, suspect=wrong)
            if wrong:
                return
        else:
            return
        halted = keeper.stopped(child.process.pid) if heard.timed_out else []
        # A moment to leave by itself: its exit code says how it ended.
        _leave(child, 0 if heard.timed_out or heard.fault else _LEAVE_S)
        stayed = child.alive
    outcome, suspect = heard.outcome, False
    if outcome is None:
        reason = heard.fault
        if reason is None and stayed and heard.timed_out is None:
            reason = f"it stopped answering in phase {heard.phase}"
        if reason is None:
            reason = why_it_ended(child.process, backend, heard.phase, child.log, heard.timed_out)
            if halted:
                reason += ": a signal had stopped a process of it (SIGSTOP, SIGTSTP)"
            by_itself = heard.timed_out is None
            suspect = by_itself and compile_cache.suspected(heard.phase, reason, child.log, cached)
        outcome = Outcome(status="failed", reason=reason)
    elif outcome.reason and _PEER_DIED.match(outcome.reason):
        suspect = compile_cache.suspected(heard.phase, outcome.reason, child.log, cached)
    yield Ended(outcome=outcome, log=child.log, suspect=suspect)


def _wrong_from_the_cache(outcome: Outcome) -> bool:
    """Whether a wrong result came from a program that the compile cache gave."""
    if outcome.status != "invalid" or not (outcome.compile_cache or {}).get("hits"):
        return False
    error, tolerance = outcome.parity_error, outcome.parity_tolerance
    return tolerance is not None and (error is None or not error <= tolerance)


def _leave(child: Conversation, seconds: float) -> None:
    with contextlib.suppress(FloodError):
        child.leave(seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What a child said: its outcome, unless it stopped talking or its time ran out."""

    outcome: Outcome | None = None
    phase: str
    timed_out: float | None = None
    """The limit, in seconds, that it ran into."""
    fault: str | None = None
    """What is wrong with what it said."""


def _listen(child: Conversation, phase: str, asked: _Asked, open_timeout_s: float) -> _Heard:
    """Hear the child out on one job, which begins in ``phase``."""
    began = time.monotonic()
    for _ in range(_MOST_MESSAGES):
        limit_s = asked.timeout_s
        if phase in ("start", "open"):
            limit_s = min(limit_s, open_timeout_s)
        try:
            line = child.line(began + limit_s)
        except TimeoutError:
            return _Heard(phase=phase, timed_out=limit_s)
        except FloodError as error:
            return _Heard(phase=phase, fault=f"{error} in phase {phase}, and was stopped")
        if line is None:
            return _Heard(phase=phase)
        try:
            message = messages.parse(line)
        except messages.NonsenseError as error:
            return _Heard(phase=phase, fault=f"{error} in phase {phase}")
        if message.outcome is not None:
            return _Heard(outcome=message.outcome, phase=phase)
        phase = message.phase
        if asked.on_phase is not None:
            asked.on_phase(phase, message.expected_s)
    return _Heard(phase=phase, fault=f"it began more than {_MOST_MESSAGES} phases")


def why_it_ended(
    process: subprocess.Popen[bytes],
    backend: Backend,
    phase: str,
    log: str,
    timed_out_after_s: float | None,
) -> str:
    """How a dead child ended: one line without anything it printed, which might hold a secret."""
    during = f"in phase {phase}"
    code = process.returncode
    missing = _MISSING_MODULE.search(log)
    if timed_out_after_s is None and phase == "start" and missing:
        return f"its Python has no {missing[1]}: install tpubench[{backend.extra}] there"
    meaning = next((text for pattern, text in backend.symptoms if re.search(pattern, log)), None)
    if timed_out_after_s is not None:
        silent = backend.silence if phase == "open" else ""
        said = meaning or silent
        return f"timed out after {timed_out_after_s:g} s {during}{f': {said}' if said else ''}"
    if meaning:
        return f"{meaning} ({_signal(code)}{during})"
    if _OUT_OF_MEMORY.search(log):
        return f"out of memory {during}"
    if code < 0:
        hint = "; the system may have run out of memory" if code == -signal.SIGKILL else ""
        return f"killed by {_signal(code)}{during}{hint}"
    kinds = _EXCEPTION.findall(log)
    return f"{kinds[-1] if kinds else f'exit code {code}'} {during}"


def _signal(code: int) -> str:
    return f"{signal.Signals(-code).name} " if code < 0 else ""
