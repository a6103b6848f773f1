"""Standard output and error that outlive their reader.

``tpubench run … | head -1`` must neither lose the run nor change its exit code: what nobody reads
any more goes nowhere, and the command ends as it would have.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

_READER_GONE = {errno.EPIPE, errno.EIO}
"""A pipe that was closed at its other end; a terminal that was."""


class LastingStream(io.TextIOWrapper):
    """A stream whose writes go nowhere once its reader is gone."""

    forgiven: frozenset[int] | None = frozenset(_READER_GONE)
    """Errors after which it is silent; None for all."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if self.forgiven is not None and error.errno not in self.forgiven:
            raise error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


class LastingMessages(LastingStream):
    """Of messages beside the answer: a full disk that holds a log ends no run."""

    forgiven = None


def install() -> None:
    """Put them in place of this process's own; a stream that was closed at the start is none.

    A character that the reader's encoding lacks is replaced: the rest is still shown.
    """
    sys.stdout = _lasting(sys.stdout, LastingStream)
    sys.stderr = _lasting(sys.stderr, LastingMessages)


def _lasting(stream: TextIO | None, kind: type[LastingStream]) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 — as long as we live
    if type(stream) is not io.TextIOWrapper:
        return stream  # a caller's own
    return kind(
        stream.buffer,
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
