"""How a child process is started: what it imports does not depend on where it was started.

``python -m`` puts the working directory first, and so does an empty entry of ``PYTHONPATH``: a
``json.py`` or a whole project lying there would be imported in place of what is installed.

Each child carries a mark in its environment, which all that it starts inherits: that is how they
are found and ended with it, wherever they have gone (see :mod:`tpubench.suite.keeper`).
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tpubench.suite import keeper

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_OF_THE_CALLER = ("PYTHONWARNINGS", "PYTHONINSPECT")
_MARK = secrets.token_hex(8)
_numbers = itertools.count()
_running: dict[int, int] = {}
"""Children that were started on purpose, and when, in clock ticks."""
_adopting = False


def command(python: str | None, module: str, *arguments: str) -> list[str]:
    """``python -P -m module arguments``; this interpreter when ``python`` is None."""
    return [python or sys.executable, "-P", "-m", module, *arguments]


def environment(*changes: Mapping[str, str]) -> dict[str, str]:
    """This process's variables and ``changes``, with a path that is safe for grandchildren too.

    Without those that make Python itself behave otherwise: a library that warns would fail.
    """
    variables = dict(os.environ)
    for change in changes:
        variables |= change
    for name in _OF_THE_CALLER:
        variables.pop(name, None)
    variables["PYTHONSAFEPATH"] = "1"
    path = python_path(variables.get("PYTHONPATH", ""))
    variables.pop("PYTHONPATH", None)
    return variables | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def python_path(text: str | None = None) -> list[str]:
    """Entries of ``PYTHONPATH`` that name a folder: an empty one means the working directory."""
    text = os.environ.get("PYTHONPATH", "") if text is None else text
    return [entry for entry in text.split(os.pathsep) if entry]


def new_mark() -> str:
    """A mark for one child: no other child of any process has it, and none that it begins."""
    _keep()
    return f"{_MARK}.{next(_numbers)};"


def marked(variables: dict[str, str], mark: str) -> dict[str, str]:
    """``variables`` with the mark, beside those of the children that this process is part of."""
    return {**variables, keeper.VARIABLE: os.environ.get(keeper.VARIABLE, "") + mark}


def remember(process: subprocess.Popen[bytes]) -> None:
    """Say that a child of this process was started on purpose, and runs until :func:`end`."""
    _running[process.pid] = keeper.children_of(os.getpid())[process.pid]


def end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill a child and everything it started, and collect it."""
    began = _running.pop(process.pid)
    keeper.kill_marked(mark.encode(), process.pid)
    process.wait()
    if _adopting:
        for orphan, born in keeper.children_of(os.getpid()).items():
            if orphan in _running or born < began:
                continue
            keeper.kill_marked(mark.encode(), orphan)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, 0)


def adopt_orphans() -> None:
    """Have what a child leaves behind become a child of this process, and be ended with it.

    For a command: whoever calls this package as a library may start children meanwhile.
    """
    global _adopting
    _keep()
    _adopting = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def _keep() -> None:
    """Start the keeper, once: it outlives this process, and ends what a kill leaves running."""
    global _keeper
    if _keeper is None:
        _keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(keeper.__file__)), _MARK],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        remember(_keeper)
        atexit.register(_keeper.communicate)


_keeper: subprocess.Popen[bytes] | None = None
