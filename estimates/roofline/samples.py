"""Work of programs that handle samples (images, queries, clips) and not tokens, from a table."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path(__file__).with_name("samples.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleWork:
    """Arithmetic of one sample, forward only. ``steps`` is 1 where the work is not iterated."""

    name: str
    flops_per_step: float
    steps: float
    bytes_per_sample: float
    """Memory traffic that dominates instead of arithmetic (embedding tables); 0 if it does not."""
    trained: bool
    """Whether the figures are for a training sample: forward and backward."""


def find(name: str) -> SampleWork | None:
    """The entry of that name; None when it is a language model or not in the table."""
    low = name.lower()[:200]
    for pattern, work in _table():
        if pattern.search(low):
            return work
    return None


@functools.cache
def _table() -> tuple[tuple[re.Pattern[str], SampleWork], ...]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return tuple(
            (
                re.compile(r["match"]),
                SampleWork(
                    name=r["name"],
                    flops_per_step=float(r["gflops_per_step"]) * 1e9,
                    steps=float(r["steps"]),
                    bytes_per_sample=float(r["mbytes"]) * 1e6,
                    trained=r["trained"] == "1",
                ),
            )
            for r in csv.DictReader(stream)
        )
