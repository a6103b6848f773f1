"""What the parent asks of a child process, and what comes back: plain JSON both ways.

The child may run under another Python with another torch, so the two share nothing but this text.
One child runs the jobs of a whole round, one after another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tpubench.suite.timing import Pace
from tpubench.suite.workload import Case, Timed, Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One repetition of one case on one backend."""

    backend: str
    compile_mode: str
    case: Case
    weights: Weights
    pace: Pace
    repetition: int
    parity: bool = True
    chips: int = 1
    """Physical chips that run it together."""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self._values())

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Inverse of :meth:`to_json`."""
        return cls._of(json.loads(text))

    def _values(self) -> dict[str, Any]:
        path = self.weights.path
        return {
            "backend": self.backend,
            "compile_mode": self.compile_mode,
            "case": {**asdict(self.case)},
            "weights": {
                "path": None if path is None else str(path),
                "prompt_ids": self.weights.prompt_ids,
            },
            "pace": asdict(self.pace),
            "repetition": self.repetition,
            "parity": self.parity,
            "chips": self.chips,
        }

    @classmethod
    def _of(cls, values: Mapping[str, Any]) -> Job:
        path, ids = values["weights"]["path"], values["weights"]["prompt_ids"]
        weights = Weights(
            path=None if path is None else Path(path),
            prompt_ids=None if ids is None else tuple(ids),
        )
        return cls(
            backend=values["backend"],
            compile_mode=values["compile_mode"],
            case=Case(**values["case"]),
            weights=weights,
            pace=Pace(**values["pace"]),
            repetition=values["repetition"],
            parity=values["parity"],
            chips=values["chips"],
        )


def to_line(jobs: Sequence[Job]) -> str:
    """The jobs of one process as one line of JSON."""
    return json.dumps([job._values() for job in jobs])


def from_line(text: str) -> list[Job]:
    """Inverse of :func:`to_line`."""
    return [Job._of(values) for values in json.loads(text)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one child did. ``status`` is ok, failed or invalid.

    windows: what was timed, ``pass`` and what the step names besides; empty unless ``ok`` or
    ``invalid`` after timing.
    """

    status: str
    reason: str | None = None
    windows: Mapping[str, Timed] = field(default_factory=dict)
    warm_up_s: list[float] = field(default_factory=list)
    steadiness: str | None = None
    build_s: float | None = None
    compile_s: float | None = None
    peak_memory_bytes: int | None = None
    parity_error: float | None = None
    parity_tolerance: float | None = None
    """Of the check that is nearest to its tolerance, or furthest beyond it."""
    parity: list[Mapping[str, Any]] = field(default_factory=list)
    """Fields of every :class:`~tpubench.suite.parity.Parity`."""
    measured: Mapping[str, float] = field(default_factory=dict)
    """Values of metrics that the checks measured without judging them."""
    device: str | None = None
    chips: int = 1
    hosts: int = 1
    parallelism: str = "none"
    """How the program was spread over the chips: ``tp=4``, ``fsdp=8``."""
    description: Mapping[str, Any] = field(default_factory=dict)
    generated_ids: list[int] | None = None
    idle_barrier_s: float | None = None
    """What a barrier cost with nothing pending; None where there is nothing to wait for."""
    compile_cache: Mapping[str, int] | None = None
    """Programs that the backend's persistent cache gave (``hits``) and did not (``misses``); None
    where it keeps none, or does not say."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds by phase, from the start of the process or the end of the case before it."""
    energy: Mapping[str, Any] | None = None
    """Fields of :class:`~tpubench.suite.energy.Energy` over the window; None without a meter."""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """Inverse of :meth:`to_json`."""
        windows = {
            name: Timed(**{**timed, "marks": tuple(timed["marks"])})
            for name, timed in values["windows"].items()
        }
        return cls(**{**values, "windows": windows})
