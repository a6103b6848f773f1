"""Where compilers keep what they have compiled, from one process to the next.

The folder may be deleted at any time: the next process compiles again. Its entries are keyed by the
compilers themselves, by source, shapes, device and versions, but not by what the host's processor
can do: each kind of host has a folder of its own, as a home may be shared by several kinds.

What is damaged in it may crash a program, or change what it computes. :func:`suspected` says when a
failure may be the cache's; the job is then run again without it, and :func:`clear` ends it where
that helped.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from tpubench.results import cache_folder

MOST_BYTES = 8 * 2**30
"""Of all backends together; what was not used for the longest time goes first."""
_PARTS = ("inductor", "triton")


def root() -> Path | None:
    """The folder of all compile caches, which need not exist; None where there can be none."""
    base = cache_folder.root()
    return None if base is None else base / "compile"


def folder(name: str) -> Path | None:
    """``compile/name/…`` in the user's cache; None if it cannot be written, or not by us alone."""
    base = root()
    if base is None:
        return None
    path = base / name / _host()
    # Compiled code is run as it is found: nobody else may put any there.
    places = (path, *(path / part for part in _PARTS))
    return path if all(map(cache_folder.usable, places)) else None


def inductor(name: str) -> Mapping[str, str]:
    """Variables by which torch.compile and Triton keep their programs."""
    path = folder(name)
    if path is None:
        return {}
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(path / "inductor"),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
        "TRITON_CACHE_DIR": str(path / "triton"),
    }


def absence() -> str | None:
    """Why nothing compiled can be kept, in words; None where it can."""
    base = root()
    if base is None:
        return "no compile cache: no home folder; $TPUBENCH_CACHE may name one"
    if folder("check") is None:
        return f"no compile cache: {base} cannot be written, or not by you alone"
    return None


@contextmanager
def elsewhere(variables: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """The same variables with an empty cache, which is gone afterwards."""
    base = root()
    with tempfile.TemporaryDirectory(prefix="tpubench-compile-", ignore_cleanup_errors=True) as new:
        moved = dict(variables)
        for name, value in variables.items():
            if base is not None and Path(value).is_relative_to(base):
                place = Path(new) / Path(value).relative_to(base)
                place.mkdir(parents=True, exist_ok=True)
                moved[name] = str(place)
        yield moved


def in_use(name: str) -> bool:
    """Whether anything is kept for a backend, so that a program may have come from there."""
    path = folder(name)
    if path is None:
        return False
    return any(names for _, _, names in os.walk(path))


def clear(name: str) -> None:
    """Forget what was compiled for a backend on this kind of host."""
    path = folder(name)
    if path is not None:
        # Out of the way at once: what another run writes meanwhile goes into a new folder.
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        with suppress(OSError):
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)


def prune() -> None:
    """Delete what was used least lately, until all of it is under MOST_BYTES."""
    base = root()
    if base is None:
        return
    held = cache_folder.files(base)
    bytes_held = sum(size for size, _, _ in held)
    if bytes_held <= MOST_BYTES:
        return
    for size, _, file in sorted(held, key=lambda entry: entry[1]):
        if bytes_held <= MOST_BYTES:
            return
        with suppress(OSError):
            Path(file).unlink()
            bytes_held -= size


_COMPILED_RUNS = (
    "reference", "compile", "warm-up", "window", "other windows", "check", "preparing", "block",
)  # fmt: skip
"""Phases in which a program from the cache is loaded or runs; the last two are a duet's."""
_SIGNALS = ("SIGILL", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGABRT")
_TORCH_COMPILES = re.compile(r"torch/_(?:inductor|functorch|dynamo)/|/triton/")
_NO_ROOM = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Permission denied"
)


def suspected(phase: str, reason: str, log: str, cached: bool) -> bool:
    """Whether the cache can be why a process ended so, in a phase in which compiled programs run.

    cached: whether it held anything. It may then have given bad code, which raises a signal, or an
    entry that the compiler cannot read. Empty, it may not take what is compiled.
    """
    if phase not in _COMPILED_RUNS:
        return False
    compiling = "Traceback (" in log and bool(_TORCH_COMPILES.search(log))
    signalled = any(f"{name} " in f"{reason} " for name in _SIGNALS)
    return (cached and (signalled or compiling)) or (compiling and bool(_NO_ROOM.search(log)))


@cache
def _host() -> str:
    """What decides which compiled code this host can run: its processor, and the C library."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    told = re.findall(r"^(?:flags|Features|model name)\s*:\s*(.*)$", text, re.M)
    known = [platform.machine(), *platform.libc_ver(), *sorted(set(told))]
    return hashlib.sha256("\n".join(known).encode()).hexdigest()[:12]
