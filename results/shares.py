"""Work in shares on every core: an interpreter for each, told what to do and asked the answer.

Not :mod:`multiprocessing`: its new processes look into the working directory and run the caller's
main module again, and its forked ones inherit the threads of Arrow and of HiGHS.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from tpubench.errors import RunFailedError

Share = TypeVar("Share")
Answer = TypeVar("Answer")

FEW = 200
"""Files that are not worth further processes."""
_CHILD = "from tpubench.results.shares import answer; answer()"


def stretches(paths: Sequence[Path]) -> list[Sequence[Path]]:
    """The files as one stretch for each core; as one where they are few, none where none are."""
    cores = len(os.sched_getaffinity(0))
    size = len(paths) if len(paths) <= FEW else -(-len(paths) // cores)
    return [paths[start : start + size] for start in range(0, len(paths), max(1, size))]


def spread(work: Callable[[Share], Answer], shares: Sequence[Share]) -> list[Answer]:
    """``work`` of each share, a function of a module, computed at the same time; in their order.

    One share is worked on here. RunFailedError when a process ends without an answer.
    """
    if len(shares) < 2:
        return [work(share) for share in shares]
    target = work.__module__, work.__qualname__
    with contextlib.ExitStack() as stack:
        children = []
        for share in shares:
            child = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-P", "-c", _CHILD],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"},
                )
            )
            stack.callback(child.kill)
            children.append(child)
            assert child.stdin is not None
            child.stdin.write(pickle.dumps((target, share)))
            child.stdin.close()
        answers: list[Answer] = []
        for child in children:
            assert child.stdout is not None
            said = child.stdout.read()
            if child.wait() != 0 or not said:
                raise RunFailedError(
                    f"a process of {target[1]} ended with {child.returncode}: run it again"
                )
            answers.append(pickle.loads(said))  # from our own child
        return answers


def answer() -> None:
    """In the child: read what to do, do it, and write the answer."""
    (module, name), share = pickle.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(pickle.dumps(getattr(import_module(module), name)(share)))
