"""The parent's end of one side of a duet: start it, ask it, and say how it died."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeGuard

from tpubench.errors import RunFailedError
from tpubench.suite import compile_cache, messages, processes, registry
from tpubench.suite.conversation import CannotStartError, Conversation, FloodError
from tpubench.suite.duets.trees import Code
from tpubench.suite.job import Job
from tpubench.suite.launch import why_it_ended

_LEAVE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """Baseline or candidate: what runs, under which interpreter, with which code in front."""

    label: str
    job: Job
    python: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    code: Code | None = None
    """The tree that it stands for; None for what its interpreter has installed."""
    foreign: bool = False
    """Whether it stands for another interpreter than the one at hand."""
    folder: Path | None = None
    """Where it runs; None for the working directory."""
    cores: tuple[int, ...] | None = None
    """Where its programs run; None for every core. Its interpreter starts on any."""
    watched: tuple[str, ...] = ()
    """Top-level modules whose origin it must tell, besides all that is not installed."""
    notes: tuple[str, ...] = ()


def _are_times(answer: Any, passes: int) -> TypeGuard[list[float]]:
    return (
        isinstance(answer, list)
        and len(answer) == passes
        and all(isinstance(t, float) and math.isfinite(t) and t > 0 for t in answer)
    )


class Partner:
    """One side, alive. A context manager: leaving it ends the process group."""

    def __init__(self, side: Side, timeout_s: float) -> None:
        self.side, self.timeout_s = side, timeout_s
        self.phase = "start"
        self._child: Conversation | None = None
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
        self.start()
        self.phase = "preparing"
        question = {
            "do": "pair",
            "parity": parity,
            "watched": self.side.watched,
            "cores": self.side.cores,
        }
        answer = self._ask(question, "prepared")
        try:
            prepared = asdict(messages.prepared(answer["prepared"]))
        except messages.NonsenseError as error:
            raise self._fault(str(error)) from None
        self._live = True
        self.phase = "block"
        return prepared

    def block(self, passes: int) -> list[float]:
        """Seconds of each of ``passes`` passes. RunFailedError when it dies or is disturbed."""
        question = {"do": "block", "passes": passes}
        answer = self._ask(question, "passes_s")
        if answer.get("fault"):
            raise RunFailedError(f"{self.side.label}: {answer['fault']}")
        times: Any = answer["passes_s"]
        if not _are_times(times, passes):
            raise self._fault("it sent times that are no times")
        return times

    def end(self) -> None:
        """End the pair's process."""
        if not self._live:
            return
        self._live = False
        self.phase = "end"
        if self._forks:
            self._ask({"do": "end"}, "ended")
        else:
            self._close()

    def renew(self) -> None:
        """A new interpreter for the pairs to come."""
        self._close()

    def start(self) -> None:
        """Start its interpreter, unless it runs: it imports what it needs while others do."""
        if self._child is None:
            self._child = self._start()

    def _start(self) -> Conversation:
        command = processes.command(self.side.python, "tpubench.suite.duets.child")
        backend = registry.backend(self.side.job.backend)
        environment = processes.environment(
            backend.child_environment(self.side.job.chips), self.side.environment
        )
        try:
            child = Conversation.start(command, environment, self.side.folder)
        except CannotStartError as error:
            raise RunFailedError(f"{self.side.label}: {error}") from None
        child.say(self.side.job.to_json().encode())
        return child

    def _ask(self, question: Mapping[str, Any], answer: str) -> dict[str, Any]:
        """The reply, which has ``answer``. RunFailedError when there is no such reply."""
        child = self._child
        assert child is not None
        if child.unasked:
            raise self._fault("it answered what it was not asked")
        child.say(json.dumps(question).encode())
        try:
            line = child.line(time.monotonic() + self.timeout_s)
        except TimeoutError:
            raise self._failure(timed_out=True) from None
        except FloodError as error:
            raise self._fault(str(error)) from None
        if line is None:
            raise self._failure(timed_out=False)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise self._fault("its answer is garbage")
        if "failed" in message:
            raise RunFailedError(f"{self.side.label}: {str(message['failed'])[:500]}")
        if answer in message:
            return message
        if isinstance(message.get("ended"), int):
            raise self._failure(timed_out=False, code=message["ended"])
        raise self._fault(f"its answer has no {answer}")

    def _fault(self, what: str) -> RunFailedError:
        return RunFailedError(f"{self.side.label}: {what} in phase {self.phase}")

    def _failure(self, *, timed_out: bool, code: int | None = None) -> RunFailedError:
        child = self._child
        assert child is not None
        if not timed_out and code is None:
            with contextlib.suppress(FloodError):
                child.leave(_LEAVE_S)
        child.end()
        if code is not None:
            child.process.returncode = code
        after = self.timeout_s if timed_out else None
        backend = registry.backend(self.side.job.backend)
        reason = why_it_ended(child.process, backend, self.phase, child.log, after)
        if "No module named 'tpubench.suite.duets" in child.log:
            reason = "its tpubench is older than the ab command"
        last = child.log.splitlines()[-1:] if not timed_out else []
        shown = f" ({last[0][:200]})" if last else ""
        cached = compile_cache.in_use(backend.name)
        if not timed_out and compile_cache.suspected(self.phase, reason, child.log, cached):
            shown += f"; a damaged cache may be why: delete {compile_cache.root()}"
        return RunFailedError(f"{self.side.label}: {reason}{shown}")

    def _close(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
