"""Rows of an estimate, as a run would store them: the metric, what follows from it, intervals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from tpubench.devices.list_price import NO_PRICE
from tpubench.estimates.regression.calibration import NORMAL_90
from tpubench.estimates.request import EstimateRequest
from tpubench.results import fingerprint
from tpubench.results.figure import SampledValue, Shared, following, new_run_id
from tpubench.results.metrics import Metric
from tpubench.results.own_metrics import own
from tpubench.results.row import Row
from tpubench.suite import registry

NORMAL_95 = 1.9600


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """One metric of one case with its 90 % interval; a value of None has a reason."""

    metric: str
    params: Mapping[str, int | str]
    value: float | None
    low: float | None = None
    high: float | None = None
    bound: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Each class of work's part of the time."""
    reason: str | None = None

    @classmethod
    def missing(cls, metric: str, params: Mapping[str, int | str], reason: str) -> Predicted:
        """A metric that cannot be."""
        return cls(metric=metric, params=params, value=None, reason=reason)


def rows(request: EstimateRequest, figures: Sequence[Predicted], fit: str) -> list[Row]:
    """Every figure's row, and those of what follows from it."""
    started = dt.datetime.now(dt.UTC)
    run_id = new_run_id(started)
    return [row for one in figures for row in _rows_of(request, one, fit, run_id, started)]


def _rows_of(
    request: EstimateRequest, one: Predicted, fit: str, run_id: str, started: dt.datetime
) -> list[Row]:
    """One figure and those that follow from it."""
    workload = registry.workload(request.workload)
    metric = workload.metric(one.metric)
    assert metric is not None
    how: dict[str, Any] = {"fit": fit, "method": "roofline"}
    if one.value is not None:
        how |= {
            "bound": one.bound,
            "share_of_time": {k: round(v, 4) for k, v in one.shares.items()},
        }
    shared = Shared(
        run_id=run_id,
        started_at=started,
        evidence="modelled",
        status="ok" if one.value is not None else "skipped",
        workload=request.workload,
        workload_version=workload.version,
        preset=request.preset,
        params=one.params,
        backend="roofline",
        device=request.device,
        chips=request.chips,
        hosts=1,
        parallelism=_parallelism(request, one),
        dtype=str(one.params.get("dtype", "not-stated")),
        source=f"tpubench {version('tpubench')}, fit {fit}",
        environment=fingerprint.canonical_json({"estimate": how}),
    )
    if one.value is None or one.low is None or one.high is None:
        return [shared.row(metric, SampledValue(), reason=one.reason)]

    def row(of: Metric, wide: SampledValue, narrow: SampledValue, reason: str | None) -> Row:
        ends = {"low_90": narrow.low, "high_90": narrow.high}
        environment = fingerprint.canonical_json({"estimate": how | ends} | own(of))
        price = request.price
        return shared.row(of, wide, reason=reason, price=price, environment=environment)

    wider = NORMAL_95 / NORMAL_90
    low_95, high_95 = (one.value * (end / one.value) ** wider for end in (one.low, one.high))
    narrow = SampledValue(value=one.value, low=one.low, high=one.high)
    wide = replace(narrow, low=low_95, high=high_95)
    rows = [row(metric, wide, narrow, one.reason)]
    for derived in following(metric.name):
        if derived.usd_of and request.price is None:
            rows.append(shared.row(derived, SampledValue(), reason=NO_PRICE.format(request.device)))
            continue
        ends_95, ends_90 = (
            each.derived(derived, request.chips, request.price) for each in (wide, narrow)
        )
        reason = one.reason
        if derived.usd_of:
            rule = request.price_rule
            reason = None if rule is None else f"{derived.usd_of} at {rule}"
        rows.append(row(derived, ends_95, ends_90, reason))
    return rows


def _parallelism(request: EstimateRequest, one: Predicted) -> str:
    """In the words of a run: ``tp=4``, ``fsdp=8``, none."""
    way = registry.workload(request.workload).parallelism
    width = int(one.params.get("tensor", request.chips))
    return f"{way}={width}" if width > 1 else "none"
