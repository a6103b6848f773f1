"""A child process as its parent hears it: lines on a pipe, and the end of what it printed.

    with Conversation.start(command, environment) as child:
        child.say(job)
        line = child.line(deadline)

The parent sleeps until the child speaks, prints or ends: it neither polls nor draws while the child
measures. Nothing that a child does is believed without bounds: not the length of a line, not how
much it prints, not that a pipe closes when it dies, for a daemon that it left behind may hold that
open. Leaving the context ends the child and all that it started.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tpubench.suite import processes

MOST_SAID_BYTES = 64 << 20
"""Of one line: laps of a window of seconds take a few megabytes."""
MOST_PRINTED_BYTES = 64 << 20
"""Of all that a child prints; more is a fault, of which the log's end is kept."""
LOG_TAIL_BYTES = 64 << 10
_CHUNK = 1 << 16
_UNWATCHED_S = 1.0
"""How often to look for its death where the kernel cannot be asked to tell (Linux before 5.3)."""


class FloodError(Exception):
    """A child said or printed more than any does."""


class CannotStartError(Exception):
    """There is no such program, or it may not be run."""


class Conversation:
    """One child. Its answers come on a pipe whose descriptor is its last argument."""

    def __init__(self, process: subprocess.Popen[bytes], answers: int, mark: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.process = process
        self._mark = mark
        self._answers, self._log = answers, process.stdout.fileno()
        self._pending, self._tail, self._unsent = bytearray(), bytearray(), bytearray()
        self._printed, self._searched, self._ended = 0, 0, False
        self._hanging_up = False
        self._poll = select.poll()
        for descriptor in (self._answers, self._log, process.stdin.fileno()):
            os.set_blocking(descriptor, False)
        for descriptor in (self._answers, self._log):
            self._poll.register(descriptor, select.POLLIN)
        self._death: int | None = None
        with contextlib.suppress(OSError):
            self._death = os.pidfd_open(process.pid)
            self._poll.register(self._death, select.POLLIN)

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None = None,
    ) -> Self:
        """Run ``command FD`` in a session of its own. CannotStartError when it cannot.

        ``folder``: its working directory; this process's when None.
        """
        reader, writer = os.pipe()
        mark = processes.new_mark()
        try:
            process = subprocess.Popen(
                [*command, str(writer)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[writer],
                start_new_session=True,
                cwd=folder,
                env=processes.marked(dict(environment), mark),
            )
        except OSError as error:
            os.close(reader)
            raise CannotStartError(f"cannot start {command[0]}: {error.strerror}") from None
        finally:
            os.close(writer)
        processes.remember(process)
        return cls(process, reader, mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def log(self) -> str:
        """The end of what it printed."""
        return self._tail.decode("utf-8", "replace").strip()

    @property
    def unasked(self) -> bool:
        """Whether more has come than the line that was waited for."""
        return bool(self._pending)

    def say(self, line: bytes, *, last: bool = False) -> None:
        """Give the child a line, as it reads; ``last``: it gets no other."""
        self._unsent += line + b"\n"
        self._hanging_up |= last
        self._hand_over()

    def line(self, deadline: float) -> bytes | None:
        """Its next line; None when it has ended, or closed the pipe, without one.

        TimeoutError at ``deadline`` (of :func:`time.monotonic`); FloodError when it never stops.
        """
        while True:
            end = self._pending.find(b"\n", self._searched)
            if end >= 0:
                line = bytes(self._pending[:end])
                del self._pending[: end + 1]
                self._searched = 0
                return line
            self._searched = len(self._pending)
            if self._ended:
                return None
            self._wait(deadline)

    def leave(self, seconds: float) -> None:
        """Wait for it to end by itself, at most so long. FloodError when it never stops talking."""
        deadline = time.monotonic() + seconds
        with contextlib.suppress(TimeoutError):
            while self.alive:
                self._wait(deadline)

    def end(self) -> None:
        """Kill it and all that it started, and collect what it had still printed."""
        if self._answers < 0:
            return
        processes.end(self.process, self._mark)
        with contextlib.suppress(FloodError):
            self._hear_log()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
        os.close(self._answers)
        self._answers = -1
        if self._death is not None:
            os.close(self._death)

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        # Not collected before the end: its number, and its group's, must stay its own.
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, options) is None

    def _wait(self, deadline: float) -> None:
        """Sleep until something happens, and take in what it was."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if self._death is None:
            left = min(left, _UNWATCHED_S)
        ready = dict(self._poll.poll(1000 * min(left, 1e6)))
        if self._log in ready:
            self._hear_log()
        if self._answers in ready:
            self._hear_answers(_CHUNK)
            if len(self._pending) > MOST_SAID_BYTES:
                raise FloodError(f"it sent more than {MOST_SAID_BYTES >> 20} MiB without an end")
        if self._stdin is not None and self._stdin.fileno() in ready:
            self._hand_over()
        if self._death in ready or (self._death is None and not self.alive):
            self._hear_answers(MOST_SAID_BYTES)
            self._hear_log()
            self._ended = True

    def _hear_answers(self, most: int) -> None:
        """Take in up to ``most`` bytes that have come."""
        full = len(self._pending) + most
        while len(self._pending) < full:
            try:
                chunk = os.read(self._answers, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                self._ended = True
                self._forget(self._answers)
                return
            self._pending += chunk

    def _hear_log(self) -> None:
        while True:
            try:
                chunk = os.read(self._log, _CHUNK)
            except BlockingIOError:
                return
            if not chunk:
                self._forget(self._log)
                return
            self._tail += chunk
            del self._tail[:-LOG_TAIL_BYTES]
            self._printed += len(chunk)
            if self._printed > MOST_PRINTED_BYTES:
                raise FloodError(f"it printed more than {MOST_PRINTED_BYTES >> 20} MiB")

    @property
    def _stdin(self) -> IO[bytes] | None:
        stream = self.process.stdin
        return None if stream is None or stream.closed else stream

    def _hand_over(self) -> None:
        stream = self._stdin
        if stream is None:
            return
        try:
            while self._unsent:
                del self._unsent[: os.write(stream.fileno(), self._unsent)]
        except BlockingIOError:
            self._poll.register(stream.fileno(), select.POLLOUT)
            return
        except BrokenPipeError:
            # It has died or does not listen; what it is asked next finds out why.
            self._unsent.clear()
        self._forget(stream.fileno())
        if self._hanging_up:
            stream.close()

    def _forget(self, descriptor: int) -> None:
        with contextlib.suppress(KeyError):
            self._poll.unregister(descriptor)
