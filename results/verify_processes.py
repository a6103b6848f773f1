"""Files checked on every core: processes of their own, each told its files and asked what it found.

Not :mod:`multiprocessing`: its new processes run the caller's main module again, and its forked
ones inherit the threads of Arrow.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.errors import RunFailedError

if TYPE_CHECKING:
    from tpubench.results.verify import Part

_CHILD = "from tpubench.results.verify_processes import answer; answer()"


def spread(paths: Sequence[Path], processes: int) -> list[Part]:
    """What :func:`.verify.check_files` finds of each stretch of ``paths``, in their order.

    RunFailedError when a process ends without an answer.
    """
    size = -(-len(paths) // processes)
    stretches = [paths[start : start + size] for start in range(0, len(paths), size)]
    with contextlib.ExitStack() as stack:
        children = []
        for stretch in stretches:
            child = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", _CHILD],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "ARROW_NUM_THREADS": "1"},
                )
            )
            stack.callback(child.kill)
            children.append(child)
            assert child.stdin is not None
            child.stdin.write(pickle.dumps(list(map(str, stretch))))
            child.stdin.close()
        parts: list[Part] = []
        for child in children:
            assert child.stdout is not None
            said = child.stdout.read()
            if child.wait() != 0 or not said:
                raise RunFailedError(
                    f"a process that checked files ended with {child.returncode}: run it again"
                )
            parts.append(pickle.loads(said))  # from our own child
        return parts


def answer() -> None:
    """In the child: read the names of files, check them, and write what was seen."""
    from tpubench.results.verify import check_files

    names: list[str] = pickle.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(pickle.dumps(check_files([Path(name) for name in names])))
