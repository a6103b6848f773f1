"""This machine's own peaks, measured once a day and remembered.

Where no data sheet gives a device's peaks (a CPU), ``hbm`` and ``gemm`` measure them, half a minute
each. They are the machine's, not the program's: the same for every run of a day. The memory lies in
the user's cache folder, one file for each machine and day, and may be thrown away.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tpubench.results import cache_folder, control_group, fingerprint
from tpubench.results.row import Row
from tpubench.suite import peaks as limits
from tpubench.suite import registry, variables
from tpubench.suite.backend import Backend
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.timing import Pace
from tpubench.suite.workload import DTYPES, Case, Workload

PACE = Pace(warm_up_s=0.5, window_s=1.0, most_warm_up_s=2.0)
_PRESETS = {"hbm": "read", "gemm": "square-2048"}
_METRICS = {"flop_s", "bandwidth_bytes_s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best rate that one case reached."""

    workload: str
    dtype: str
    metric: str
    value: float


def cases(backend: Backend, workload: Workload, wanted: Sequence[Case]) -> list[Case]:
    """What measures the machine for these cases; nothing where a data sheet does."""
    if workload.name in backend.limits:
        return []
    cache_mib = (fingerprint.last_level_cache_bytes() or 0) // 2**20
    overrides = {
        "hbm": {"mib": [str(max(256, 4 * cache_mib))]},
        "gemm": {"dtype": sorted({case.arithmetic_dtype for case in wanted} & DTYPES.keys())},
    }
    return [
        case
        for name in backend.limits
        for case in registry.workload(name).cases(_PRESETS[name], overrides[name])
    ]


def best_of(rows: Sequence[Row]) -> list[Best]:
    """The best of each rate in the rows of calibrations; none of one that failed."""
    return [
        Best(workload=row.workload, dtype=row.dtype, metric=row.metric, value=max(row.samples))
        for row in rows
        if row.status == "ok" and row.samples and row.metric in _METRICS
    ]


def peaks(bests: Sequence[Best], source: str) -> limits.Peaks | None:
    """The highest rates reached; None if nothing was measured."""
    flop_s: dict[str, float] = {}
    bytes_s: float | None = None
    for best in bests:
        if best.metric == "flop_s":
            flop_s[best.dtype] = max(best.value, flop_s.get(best.dtype, 0.0))
        else:
            bytes_s = max(best.value, bytes_s or 0.0)
    if not flop_s and bytes_s is None:
        return None
    return limits.Peaks(flop_s=flop_s, bytes_s=bytes_s, source=source, measured=True)


class Memory:
    """What is remembered of this machine today, by case. A file that is no such memory is empty."""

    def __init__(self, backend: Backend, python: Interpreter, mode: str) -> None:
        self.day = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
        limits = " and ".join(backend.limits)
        self.source = f"measured by {limits} on this machine, {self.day}"
        self.folder = _folder()
        machine = fingerprint.sha256(_machine(backend, python, mode))
        self._path = self.folder / f"{self.day}-{machine[:32]}.json" if self.folder else None

    def recall(self, case: Case) -> list[Best] | None:
        """The best rates of a case measured earlier today; None when it was not."""
        entry = self._read().get(_key(case))
        if not isinstance(entry, list) or not entry:
            return None
        bests = []
        for values in entry:
            try:
                best = Best(**values)
                known = best.metric in _METRICS and math.isfinite(best.value) and best.value > 0
            except TypeError:
                return None
            if not known:
                return None
            bests.append(best)
        return bests

    def keep(self, case: Case, bests: Sequence[Best]) -> None:
        """Remember; a cache that cannot be written only means that it is measured again."""
        if not bests or self.folder is None or self._path is None:
            return
        values = [{name: getattr(best, name) for name in Best.__slots__} for best in bests]
        held = {**self._read(), _key(case): values}
        text = json.dumps({"sha256": fingerprint.sha256(held), "peaks": held})
        partial = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*.json"):
                if not old.name.startswith(self.day):
                    old.unlink(missing_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(self._path)
            return
        with suppress(OSError):
            partial.unlink(missing_ok=True)

    def _read(self) -> Mapping[str, object]:
        """What was kept, as long as it is what was written: a peak is the measure of all rows."""
        if self._path is None or not self._path.is_file():
            return {}
        try:
            file = json.loads(self._path.read_text(encoding="utf-8"))
            held = file["peaks"]
            whole = file["sha256"] == fingerprint.sha256(held)
        except (OSError, ValueError, RecursionError, TypeError, LookupError):
            return {}
        return held if isinstance(held, dict) and whole else {}


def _folder() -> Path | None:
    base = cache_folder.root()
    return None if base is None else base / "calibration"


def _machine(backend: Backend, python: Interpreter, mode: str) -> dict[str, object]:
    """What decides a peak, as far as the parent knows it."""
    return {
        "host": fingerprint.host(),
        "cores": sorted(os.sched_getaffinity(0)),
        "backend": backend.name,
        "mode": mode,
        "python": python.path,
        "versions": python.versions(backend.packages),
        "sources": {name: registry.workload(name).source_sha256() for name in backend.limits},
        "variables": variables.changing(),
        "cpu_quota": control_group.cpu_quota(),
    }


def _key(case: Case) -> str:
    return f"{case.workload}-{case.key}"
