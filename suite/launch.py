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
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from tpubench.suite import registry
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
    command = [python or sys.executable, "-m", "tpubench.suite.child", str(writer)]
    environment = {**os.environ, **registry.backend(job.backend).child_environment()}
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
        deadline = time.monotonic() + timeout_s
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            try:
                _hand_over(process, job)
                outcome, phase = _listen(pipe, deadline, on_phase)
                timed_out = outcome is None and time.monotonic() >= deadline
                # A moment to leave by itself: its exit code says how it ended.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0 if timed_out else _LEAVE_S)
            finally:
                kill_group(process)
        text = _tail(log)
    if outcome is None:
        reason = _why_it_ended(process, phase, text, timeout_s if timed_out else None)
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


def _listen(
    pipe: IO[bytes], deadline: float, on_phase: OnPhase | None
) -> tuple[Outcome | None, str]:
    """The outcome (None if the child stopped talking or time ran out) and the last phase begun."""
    phase, pending = "start", b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            return None, phase
        chunk = pipe.read(1 << 16)
        if not chunk:
            return None, phase
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "outcome" in message:
                return Outcome(**message["outcome"]), phase
            phase = message["phase"]
            if on_phase is not None:
                on_phase(phase, message["expected_s"])


def _why_it_ended(
    process: subprocess.Popen[bytes], phase: str, log: str, timed_out_after_s: float | None
) -> str:
    """One line without anything the child printed, which might hold a secret."""
    during = f"in phase {phase}"
    if timed_out_after_s is not None:
        return f"timed out after {timed_out_after_s:g} s {during}"
    code = process.returncode
    missing = _MISSING_MODULE.search(log)
    if phase == "start" and missing:
        return f"its Python has no {missing[1]}: install tpubench[cpu] there"
    if _OUT_OF_MEMORY.search(log):
        return f"out of memory {during}"
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; the system may have run out of memory" if name == "SIGKILL" else ""
        return f"killed by {name} {during}{hint}"
    kinds = _EXCEPTION.findall(log)
    return f"{kinds[-1] if kinds else f'exit code {code}'} {during}"


def _tail(log: IO[bytes]) -> str:
    size = log.seek(0, os.SEEK_END)
    log.seek(max(0, size - _LOG_TAIL_BYTES))
    return log.read().decode("utf-8", "replace").strip()
