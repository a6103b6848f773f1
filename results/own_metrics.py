"""Metrics that only a third party's workload defines: what a stored row itself says of them."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, get_args

from tpubench.results.metrics import METRICS, Metric
from tpubench.results.row import Row
from tpubench.results.statistics import Aggregate

OWN = "metric"
"""Key of the environment of a figure that only its workload defines: formula and aggregate."""


def own(metric: Metric) -> dict[str, Any]:
    """What an environment says of a metric that nobody else knows; empty for others."""
    if metric.name in METRICS:
        return {}
    return {OWN: {"aggregate": metric.aggregate, "formula": metric.formula}}


def of_row(row: Row) -> Metric:
    """What a stored figure means: the metric of its name, else what its own row says of it.

    So a figure of a third party's workload can be read, shown and verified without that party.
    """
    if row.metric in METRICS:
        return METRICS[row.metric]
    said = _own(row.environment)
    aggregate, formula = said.get("aggregate"), said.get("formula")
    return Metric(
        name=row.metric,
        unit=row.unit,
        better="lower" if row.better == "lower" else "higher",
        aggregate=next((each for each in get_args(Aggregate) if each == aggregate), "median"),
        formula=formula if isinstance(formula, str) else f"as {row.workload} defines it",
    )


def says_how(row: Row) -> bool:
    """Whether the value can be recomputed from its samples: its aggregate is known."""
    return row.metric in METRICS or _own(row.environment).get("aggregate") in get_args(Aggregate)


@lru_cache(maxsize=4096)
def _own(environment: str) -> dict[str, Any]:
    try:
        said = json.loads(environment)
    except (ValueError, RecursionError):
        return {}
    own = said.get(OWN) if isinstance(said, dict) else None
    return own if isinstance(own, dict) else {}
