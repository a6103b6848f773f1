"""What a reader hands over: cases, their figures, and what was left out."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tpubench.results.metrics import METRICS

NO_MODEL = "model-not-stated"
"""Model of a file that names none; the command line can set it."""

Plain = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric of one case, in the metric's own unit, over all chips together.

    ``value`` None needs a ``reason``; with a value, ``reason`` says how it was converted or what
    to know about it. ``samples`` are the file's raw samples, where it keeps them: the value is
    then computed from them and need not be given.
    """

    metric: str
    value: float | None = None
    reason: str | None = None
    samples: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise ValueError(f"{self.metric} is not a metric")
        if self.value is None and not self.samples and not self.reason:
            raise ValueError(f"{self.metric} without a value needs a reason")
        for number in (self.value, *self.samples):
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{self.metric}: {number} is not a finite number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One case of a file, in the file's own words. None is: the file does not say.

    ``workload`` names the kind of work (``llm-serving``, ``mlperf-inference``, …), ``model`` what
    was run. ``chips`` counts what the file counts: cores of a ``v5p-128``, or devices of a chip
    that shows as two, are normalised later. ``params`` must tell apart the cases of a file.
    """

    workload: str
    model: str
    figures: tuple[Figure, ...]
    params: Mapping[str, Plain] = field(default_factory=lambda: MappingProxyType({}))
    device: str | None = None
    chips: int | None = None
    hosts: int | None = None
    parallelism: str | None = None
    dtype: str | None = None
    repetition: int = 0
    """Which run of the case, where a file or tree holds several."""
    software: str | None = None
    started_at: dt.datetime | None = None
    """UTC."""
    source: str | None = None
    """Where the file says that it comes from: a submission, a repository, a page."""
    stated: Mapping[str, Plain] = field(default_factory=lambda: MappingProxyType({}))
    """What else the file says and a reader may want: tail latencies, versions, notes."""
    status: str = "ok"
    """``invalid`` where the file itself says so; no figure then has a value."""
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A part of the file that was left out."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """Every result of one file, and what in it made no sense."""

    records: tuple[Record, ...]
    rejected: tuple[Rejected, ...] = ()
    format_name: str = ""
    """Filled in by :func:`tpubench.results.importers.read_results`."""
