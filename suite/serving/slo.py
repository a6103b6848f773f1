"""A service level: the latencies that users are promised, and whether a load kept them.

    --slo ttft_p99=2 --slo tpot_p99=0.1

Each goal is a percentile of one latency over all requests, in seconds. A request is good when it
keeps the limit of every goal itself; goodput counts good requests alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tpubench.errors import UsageError
from tpubench.results.statistics import percentile_minimum

LATENCIES = ("ttft", "tpot", "e2e")
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """``latency`` at ``percentile`` is to be at most ``limit_s`` seconds."""

    latency: str
    percentile: str
    limit_s: float

    @property
    def metric(self) -> str:
        """Name of the metric that is held against the limit."""
        tail = "" if self.percentile == "p50" else f"_{self.percentile}"
        return f"{self.latency}{tail}_s"

    @property
    def least_requests(self) -> int:
        """Requests without which the percentile is not given."""
        quantile = PERCENTILES[self.percentile]
        return 1 if self.percentile == "p50" else percentile_minimum(quantile)

    def __str__(self) -> str:
        return f"{self.latency}_{self.percentile}={self.limit_s:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """All goals together; none is a promise that every request keeps."""

    goals: tuple[Goal, ...] = ()

    @property
    def least_requests(self) -> int:
        """Requests that every percentile of it needs."""
        return max((goal.least_requests for goal in self.goals), default=1)

    def good(self, latencies_s: Mapping[str, float | None]) -> bool:
        """Whether one request keeps every limit; a latency that it has not is kept."""
        return all(
            (own := latencies_s.get(goal.latency)) is None or own <= goal.limit_s
            for goal in self.goals
        )

    def missed(self, values: Mapping[str, float | None]) -> list[str]:
        """What a load missed, in words. values: its metrics by name; a missing one is missed."""
        words = []
        for goal in self.goals:
            value = values.get(goal.metric)
            if value is None:
                words.append(f"{goal.metric} is not known")
            elif value > goal.limit_s:
                words.append(f"{goal.metric} {value:.3g} s, limit {goal.limit_s:g} s")
        return words

    def __str__(self) -> str:
        return " ".join(map(str, self.goals))


def parse(texts: Sequence[str]) -> Slo:
    """The goals of the ``--slo`` options; UsageError for one that makes no sense."""
    goals: dict[tuple[str, str], Goal] = {}
    for text in texts:
        goal = _goal(text)
        key = (goal.latency, goal.percentile)
        if key in goals:
            raise UsageError(f"--slo {goal.latency}_{goal.percentile} is given twice")
        goals[key] = goal
    return Slo(goals=tuple(sorted(goals.values(), key=str)))


def _goal(text: str) -> Goal:
    name, equals, limit = text.partition("=")
    latency, _, percentile = name.strip().partition("_")
    if not equals or latency not in LATENCIES or percentile not in PERCENTILES:
        names = ", ".join(f"{one}_{p}" for one in LATENCIES for p in PERCENTILES)
        raise UsageError(f"--slo {text!r}: write NAME=SECONDS; names: {names}")
    try:
        limit_s = float(limit)
    except ValueError:
        limit_s = math.nan
    if not 0 < limit_s < 1e6:
        raise UsageError(f"--slo {text!r}: {limit.strip()!r} is not a number of seconds above 0")
    return Goal(latency=latency, percentile=percentile, limit_s=limit_s)
