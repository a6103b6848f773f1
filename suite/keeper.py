"""Finds and ends what a child process has started, also once its own parent is gone.

A program under test may start others, in sessions of their own, that outlive it. Its mark stands in
the environment of them all, and the kernel shows that environment in ``/proc``.

Run as a program, ``python -I -S keeper.py MARK``, it waits for the end of its standard input, which
comes when the process that started it has ended in whatever way, and then ends all that is marked.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

VARIABLE = "TPUBENCH_CHILD"
_LEAST_MARK = 16
_ROUNDS = 50
"""A process may start another while it is looked for; a swarm that outruns this is not ended."""


def kill_marked(mark: bytes, root: int | None = None) -> None:
    """Kill each process that was started with ``mark``, and ``root``, its group and descendants.

    ValueError for a mark so short that others might have it.
    """
    if len(mark) < _LEAST_MARK:
        raise ValueError(f"{mark!r} is no mark")
    for _ in range(_ROUNDS):
        parents = _parents()
        victims = {pid for pid in parents if mark in _marks(pid)}
        if root is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(root, signal.SIGKILL)
            victims |= _descendants(root, parents)
        victims.discard(os.getpid())
        for pid in victims:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not victims:
            return


def children_of(parent: int) -> dict[int, int]:
    """Processes whose parent is ``parent``, ended ones too: when each began, in clock ticks."""
    parents = {}
    for pid, fields in _processes():
        if int(fields[1]) == parent:
            parents[pid] = int(fields[19])
    return parents


def stopped(root: int) -> list[int]:
    """Of a process and its descendants those that a signal has stopped, and none has continued."""
    states = {pid: fields[0] for pid, fields in _processes()}
    return sorted(pid for pid in _descendants(root, _parents()) if states.get(pid) in {b"T", b"t"})


def _descendants(root: int, parents: dict[int, int]) -> set[int]:
    descendants = {root} & parents.keys()
    while more := {pid for pid, parent in parents.items() if parent in descendants} - descendants:
        descendants |= more
    return descendants


def _parents() -> dict[int, int]:
    """Parent by process, of all that live."""
    return {pid: int(fields[1]) for pid, fields in _processes() if fields[0] not in (b"Z", b"X")}


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    """Each process with its state, its parent and what follows in ``/proc/PID/stat``."""
    for name in os.listdir("/proc"):  # noqa: PTH208 — started without site, in a hurry
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as stat:  # noqa: PTH123
                # Its number, then its name in parentheses, which may hold any character.
                yield int(name), stat.read().rpartition(b")")[2].split()


def _marks(pid: int) -> bytes:
    """The value of the variable in a process's environment; empty when it has none."""
    start = f"{VARIABLE}=".encode()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as environ:  # noqa: PTH123
        for entry in environ.read().split(b"\0"):
            if entry.startswith(start):
                return entry.removeprefix(start)
    return b""


def main() -> None:
    """Entry of the keeper."""
    while os.read(0, 1 << 12):
        pass
    kill_marked(sys.argv[1].encode())


if __name__ == "__main__":
    main()
