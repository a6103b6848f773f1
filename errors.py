"""The errors a user can cause or must act on: one line each, with what to do next.

The command line prints the message on stderr and exits with ``exit_code``; the codes are the
contract of ``docs/guide.md``. Anything else that escapes is a bug in tpubench.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class TpubenchError(Exception):
    """Base of every error with a message meant for the user.

    left_out: what was left out on the way and may be the cause, a line each.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str = "", *, left_out: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.left_out = tuple(left_out)


class EndedBySignalError(KeyboardInterrupt):
    """SIGTERM or SIGHUP, by which schedulers, containers and closed terminals end a command: what
    had ended by then is kept, as after Ctrl-C. Its message names the signal."""


def interruption(error: KeyboardInterrupt) -> str:
    """How a command was ended, in words: ``interrupted``, or by which signal."""
    return str(error) or "interrupted"


class UsageError(TpubenchError):
    """Bad usage or bad input: an unknown name, a value out of range, an unreadable file."""

    exit_code = 2


class DamagedError(TpubenchError):
    """A stored file that fails its checksums or does not hold what it should."""

    exit_code = 1


class MissedError(TpubenchError):
    """The answer is no: what was asked for does not hold, and all that was measured is kept."""

    exit_code = 1


class RunFailedError(TpubenchError):
    """The run failed, was interrupted, or the backend it needs is missing."""

    exit_code = 5


class NotComparableError(TpubenchError):
    """The two sides ran in environments, or versions of a workload, that may not be gated."""

    exit_code = 4
