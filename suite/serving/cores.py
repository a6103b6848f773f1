"""Which cores of this machine a child runs on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def held_to(cores: frozenset[int] | None) -> Iterator[None]:
    """Children started inside, and all that they start, run on these cores; on any when None."""
    if cores is None:
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)
