"""Which of the machine's cores a duet on the CPU has.

Threads of one program wait for each other, so whatever else runs on any core stops them all: on a
shared machine the passes of a program on two cores scatter by tens of per cent from pair to pair,
those on one core by less than one. So a duet has one core unless more are asked for.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tpubench.errors import UsageError

DEFAULT = 1
_LOOK_S = 0.2


def parse(text: str) -> int | None:
    """``--cores``: a number, or None for ``all``. UsageError for anything else."""
    if text == "all":
        return None
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise UsageError(f"--cores {text!r} is neither a number of cores nor 'all'")


def idlest(count: int | None) -> tuple[int, ...] | None:
    """The ``count`` cores that are least busy now; None where that is all there are."""
    usable = os.sched_getaffinity(0)
    if count is None or count >= len(usable):
        return None
    return tuple(sorted(sorted(usable, key=_idle_shares(usable).__getitem__)[-count:]))


def in_words(chosen: tuple[int, ...] | None) -> str:
    """``on core 1 of 2 (--cores all for every one)``."""
    total = len(os.sched_getaffinity(0))
    if chosen is None:
        return f"on all {total} cores" if total > 1 else "on one core"
    named = f"core{'s' if len(chosen) > 1 else ''} {', '.join(map(str, chosen))}"
    return f"on {named} of {total} (--cores all for every one)"


def _idle_shares(cores: set[int]) -> dict[int, float]:
    """Share of a moment that each core was idle; 0 where the kernel does not say."""
    before = _ticks()
    time.sleep(_LOOK_S)
    after = _ticks()
    shares = dict.fromkeys(cores, 0.0)
    for core in cores & before.keys() & after.keys():
        idle, total = (after[core][i] - before[core][i] for i in (0, 1))
        shares[core] = idle / total if total > 0 else 0.0
    return shares


def _ticks() -> dict[int, tuple[int, int]]:
    """Idle and all clock ticks of each core since the start (proc_stat(5): idle and iowait)."""
    counts = {}
    try:
        text = Path("/proc/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name.startswith("cpu") and name[3:].isdigit():
            ticks = [int(word) for word in rest.split()[:8]]
            counts[int(name[3:])] = (sum(ticks[3:5]), sum(ticks))
    return counts
