"""The parent's end of one side of a duet: start it, ask it, and say how it died."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tpubench.errors import RunFailedError
from tpubench.suite import processes, registry
from tpubench.suite.job import Job
from tpubench.suite.launch import kill_group, log_tail, why_it_ended

_LEAVE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Baseline or candidate: what runs, under which interpreter, with which code in front."""

    label: str
    job: Job
    python: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    notes: tuple[str, ...] = ()


class Partner:
    """One side, alive. A context manager: leaving it ends the process group."""

    def __init__(self, side: Side, timeout_s: float) -> None:
        self.side, self.timeout_s = side, timeout_s
        self.phase = "start"
        self._process: subprocess.Popen[bytes] | None = None
        self._forks = registry.backend(side.job.backend).forks
        self._live = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def prepare(self, *, parity: bool) -> dict[str, Any]:
        """A new process of this side, built and warm; its output checked where ``parity``.

        RunFailedError when it cannot.
        """
        if self._process is None:
            self._start()
        self.phase = "preparing"
        found: dict[str, Any] = self._ask({"do": "pair", "parity": parity})["prepared"]
        self._live = True
        self.phase = "block"
        return found

    def block(self, passes: int) -> list[float]:
        """Seconds of each of ``passes`` passes. RunFailedError when it dies or is disturbed."""
        found = self._ask({"do": "block", "passes": passes})
        if found["fault"]:
            raise RunFailedError(f"{self.side.label}: {found['fault']}")
        passes_s: list[float] = found["passes_s"]
        return passes_s

    def end(self) -> None:
        """End the pair's process."""
        if not self._live:
            return
        self._live = False
        self.phase = "end"
        if self._forks:
            self._ask({"do": "end"})
        else:
            with contextlib.suppress(BrokenPipeError):
                self._send({"do": "end"})
            self._close()

    def renew(self) -> None:
        """A new interpreter for the pairs to come."""
        self._close()

    def _start(self) -> None:
        reader, writer = os.pipe()
        command = processes.command(self.side.python, "tpubench.suite.duet_child", str(writer))
        backend = registry.backend(self.side.job.backend)
        environment = processes.environment(
            backend.child_environment(self.side.job.chips), self.side.environment
        )
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 — closed with the process
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
                start_new_session=True,
                env=environment,
            )
        except OSError as error:
            os.close(reader)
            reason = f"cannot start {command[0]}: {error.strerror}"
            raise RunFailedError(f"{self.side.label}: {reason}") from None
        finally:
            os.close(writer)
        self._pipe = os.fdopen(reader, "rb", buffering=0)
        self._write(self.side.job.to_json().encode() + b"\n")

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._send(question)
        deadline = time.monotonic() + self.timeout_s
        pending = b""
        while b"\n" not in pending:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._pipe], [], [], left)[0]:
                raise self._failure(timed_out=True)
            chunk = self._pipe.read(1 << 16)
            if not chunk:
                raise self._failure(timed_out=False)
            pending += chunk
        message: dict[str, Any] = json.loads(pending.partition(b"\n")[0])
        if "failed" in message:
            raise RunFailedError(f"{self.side.label}: {message['failed']}")
        if "ended" in message and question["do"] != "end":
            raise self._failure(timed_out=False, code=message["ended"])
        return message

    def _send(self, question: dict[str, Any]) -> None:
        self._write(json.dumps(question).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        # A child that died has closed its end; what it is asked next finds out why.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def _failure(self, *, timed_out: bool, code: int | None = None) -> RunFailedError:
        process = self._process
        assert process is not None
        if not timed_out and code is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_LEAVE_S)
        kill_group(process)
        if code is not None:
            process.returncode = code
        log = log_tail(self._log)
        after = self.timeout_s if timed_out else None
        backend = registry.backend(self.side.job.backend)
        reason = why_it_ended(process, backend, self.phase, log, after)
        if "duet_child" in log and "No module named" in log:
            reason = "its tpubench is older than the ab command"
        last = log.splitlines()[-1:] if not timed_out else []
        shown = f" ({last[0][:200]})" if last else ""
        return RunFailedError(f"{self.side.label}: {reason}{shown}")

    def _close(self) -> None:
        if self._process is None:
            return
        kill_group(self._process)
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._pipe.close()
        self._log.close()
        self._process = None
