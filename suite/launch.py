"""Starts one child process for one repetition, waits, and says how it ended.

The parent blocks on a pipe: it neither polls nor draws while the child measures. A child that
hangs, aborts or runs out of memory is killed with its whole process group and recorded; nothing it
does can take the run down.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from tpubench.suite import processes, registry
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job, Outcome

OnPhase = Callable[[str, float | None], None]

_OUT_OF_MEMORY = re.compile(r"can't allocate memory|OutOfMemory|out of memory|MemoryError", re.I)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception|Interrupt|Exit))\b", re.M)
_MISSING_MODULE = re.compile(r"No module named '?(tpubench|torch)\b")
_LEAVE_S = 10.0
_LOG_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child ended: its outcome, and the end of what it printed (never stored)."""

    outcome: Outcome
    log: str


def run_child(
    job: Job, *, python: str | None, timeout_s: float, on_phase: OnPhase | None = None
) -> Ended:
    """Run ``job`` in a child process, at most ``timeout_s`` seconds.

    KeyboardInterrupt kills the child and is raised again.
    """
    reader, writer = os.pipe()
    command = processes.command(python, "tpubench.suite.child", str(writer))
    backend = registry.backend(job.backend)
    environment = processes.environment(backend.child_environment(job.chips))
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            os.close(reader)
            os.close(writer)
            reason = f"cannot start {command[0]}: {error.strerror}"
            return Ended(outcome=Outcome(status="failed", reason=reason), log="")
        os.close(writer)
        began = time.monotonic()
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            try:
                _hand_over(process, job)
                ended = _listen(pipe, began, timeout_s, backend.open_timeout_s, on_phase)
                outcome = ended.outcome
                # A moment to leave by itself: its exit code says how it ended.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0 if ended.timed_out else _LEAVE_S)
            finally:
                kill_group(process)
        text = log_tail(log)
    if outcome is None:
        reason = why_it_ended(process, backend, ended.phase, text, ended.timed_out)
        outcome = Outcome(status="failed", reason=reason)
    return Ended(outcome=outcome, log=text)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a child and everything it started, and collect it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _hand_over(process: subprocess.Popen[bytes], job: Job) -> None:
    assert process.stdin is not None
    # A child that died at once has closed its end; its log says why.
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(job.to_json().encode() + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """What a child said: its outcome, unless it stopped talking or its time ran out."""

    outcome: Outcome | None = None
    phase: str
    timed_out: float | None = None
    """The limit, in seconds, that it ran into."""


def _listen(
    pipe: IO[bytes],
    began: float,
    timeout_s: float,
    open_timeout_s: float,
    on_phase: OnPhase | None,
) -> _Heard:
    phase, pending = "start", b""
    while True:
        limit_s = min(timeout_s, open_timeout_s) if phase in ("start", "open") else timeout_s
        left = began + limit_s - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return _Heard(phase=phase, timed_out=limit_s)
        chunk = pipe.read(1 << 16)
        if not chunk:
            return _Heard(phase=phase)
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "outcome" in message:
                return _Heard(outcome=Outcome(**message["outcome"]), phase=phase)
            phase = message["phase"]
            if on_phase is not None:
                on_phase(phase, message["expected_s"])


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


def log_tail(log: IO[bytes]) -> str:
    """The end of what a child printed."""
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LOG_TAIL_BYTES))
    return log.read().decode("utf-8", "replace").strip()
