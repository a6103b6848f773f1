"""Stored rows from an estimate: the workload's own metrics, from the compiler's times.

The times of a pass are put together from its phases and given to the workload, which derives its
metrics as it does from measured ones. Nothing here is a measurement, and the rows say so.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tpubench.devices.list_price import NO_PRICE
from tpubench.estimates import pass_times
from tpubench.estimates.compiled import timing
from tpubench.estimates.compiled.request import CompileRequest, Estimated, PhaseEstimate
from tpubench.results import fingerprint
from tpubench.results.figure import SampledValue, Shared, derived_samples, new_run_id
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.own_metrics import own
from tpubench.results.row import Row
from tpubench.suite import registry
from tpubench.suite.workload import Workload

BACKEND = "libtpu"
"""What stands in a row's ``backend``: nothing ran, libtpu compiled."""

_GIB = 2**30


def rows(estimated: Estimated) -> list[Row]:
    """Every row of one case; the first says why when it does not fit."""
    samples, missing = _samples(estimated)
    make = _Maker(estimated)
    misfit = next((phase for phase in estimated.phases if not phase.fit.fits), None)
    workload = registry.workload(estimated.request.case.workload)
    if misfit is not None:
        needed = max(phase.fit.needed for phase in estimated.phases)
        return [
            make(_metric(workload, workload.primary_metric), None, _misfit(misfit), "failed"),
            make(METRICS["peak_memory_bytes"], [float(needed)], _misfit(misfit)),
        ]
    known = [*METRICS, *(metric.name for metric in workload.metrics)]
    return [
        make(_metric(workload, name), samples.get(name), missing.get(name))
        for name in known
        if name in samples or name in missing
    ]


def _misfit(phase: PhaseEstimate) -> str:
    """The verdict, as a person reads it."""
    available = phase.fit.available or 0
    return (
        f"does not fit: {phase.phase} needs {phase.fit.needed / _GIB:.2f} GiB of the"
        f" {available / _GIB:.2f} GiB that a device has, says the compiler"
    )


def _samples(estimated: Estimated) -> tuple[dict[str, list[float]], dict[str, str]]:
    case = estimated.request.case
    workload = registry.workload(case.workload)
    missing: dict[str, str] = {}
    if any(phase.time is None for phase in estimated.phases):
        return {}, missing
    spans = workload.phases(case)
    lap_s: dict[str, float] = {}
    for phase in estimated.phases:
        assert phase.time is not None
        lap_s[phase.phase] = phase.time.total_s * spans[phase.phase].runs
    laps = pass_times.laps(workload, case, lap_s, "compiled")
    samples = dict(laps.samples)
    missing.update(laps.missing)
    samples["peak_memory_bytes"] = [float(max(p.fit.needed for p in estimated.phases))]
    samples["compile_time_s"] = [sum(phase.compile_time_s for phase in estimated.phases)]
    pass_s = sum(spans[name].marks * value for name, value in lap_s.items())
    _add_fractions(estimated, lap_s, pass_s, samples)
    _add_derived(estimated, samples, missing)
    return samples, missing


def _add_fractions(
    estimated: Estimated, lap_s: dict[str, float], pass_s: float, samples: dict[str, list[float]]
) -> None:
    request = estimated.request
    workload = registry.workload(request.case.workload)
    work, sheet = workload.work(request.case), request.target.generation.sheet
    for name, phase in workload.fractions.items():
        part = work.phases.get(phase, work)
        spent = pass_s if phase == "pass" else 0.0
        if phase in lap_s:
            spent = lap_s[phase] * workload.phases(request.case)[phase].marks
        flop_s = sheet.peak_flop_s.get(request.case.arithmetic_dtype)
        peak = sheet.hbm_bytes_s if name == "mbu" else flop_s
        amount = part.bytes if name == "mbu" else part.flops
        if spent and peak and amount:
            samples[name] = [amount / (spent * request.target.chips * peak)]


def _add_derived(
    estimated: Estimated, samples: dict[str, list[float]], missing: dict[str, str]
) -> None:
    chips, price = estimated.request.target.chips, estimated.request.price
    derived, unpriced = derived_samples(samples, chips, price)
    missing |= {
        metric.name: NO_PRICE.format(estimated.request.target.generation.device)
        for metric in unpriced
    }
    rule = estimated.request.price_rule
    for name in derived if rule is not None else ():
        if METRICS[name].usd_of:
            missing[name] = f"{METRICS[name].usd_of} at {rule}"
    samples |= derived


def _parallelism(request: CompileRequest) -> str:
    if request.target.devices == 1:
        return "none"
    workload = registry.workload(request.case.workload)
    how = workload.parallelism or workload.exported_parallelism
    return f"{how}={request.target.devices}"


class _Maker:
    """What all rows of one estimate share; called once for each metric."""

    def __init__(self, estimated: Estimated) -> None:
        now = dt.datetime.now(dt.UTC)
        request, match = estimated.request, _must_match(estimated)
        case = request.case
        self.price = request.price
        self.environment = {"fingerprint": match, "compiled": described(estimated)}
        self.shared = Shared(
            run_id=new_run_id(now),
            started_at=now,
            evidence="compiled",
            workload=case.workload,
            workload_version=case.workload_version,
            preset=case.preset,
            params=case.params,
            backend=BACKEND,
            device=request.target.generation.device,
            chips=request.target.chips,
            hosts=1,
            parallelism=_parallelism(request),
            dtype=case.dtype,
            source=f"tpubench {version('tpubench')}, libtpu {estimated.versions['libtpu']}",
            fingerprint=fingerprint.sha256(match),
            environment="",
            git=fingerprint.git_state(Path.cwd()),
        )

    def __call__(
        self, metric: Metric, samples: list[float] | None, reason: str | None, status: str = "ok"
    ) -> Row:
        figure = SampledValue.of(metric, samples)
        environment = fingerprint.canonical_json(self.environment | own(metric))
        return self.shared.row(
            metric, figure, reason=reason, price=self.price, status=status, environment=environment
        )


def _metric(workload: Workload, name: str) -> Metric:
    metric = workload.metric(name)
    assert metric is not None, name
    return metric


def _must_match(estimated: Estimated) -> dict[str, Any]:
    """Everything that decides the answer. No host: the answer does not depend on it."""
    request = estimated.request
    return {
        "backend": BACKEND,
        "topology": request.target.topology,
        "versions": dict(estimated.versions),
        "kernel": estimated.kernel,
        "full": request.full,
        "workload": request.case.workload,
        "workload_version": request.case.workload_version,
        "workload_sha256": registry.workload(request.case.workload).source_sha256(),
        "preset": request.case.preset,
        "params": dict(request.case.params),
        "shape": dict(request.case.shape),
    }


def described(estimated: Estimated) -> dict[str, Any]:
    """How the estimate came about, as JSON values: kept with every row."""
    target = estimated.request.target
    return {
        "topology": target.topology,
        "devices": target.devices,
        "versions": dict(estimated.versions),
        "clock_hz": target.clock_hz,
        "clock_source": "peak bfloat16 FLOP/s / (2 x rows x columns x matrix units)",
        "attention": "TorchTPU's kernel" if estimated.kernel else "its place held by a stand-in",
        "attention_hbm_share": timing.ATTENTION_HBM_SHARE,
        "attention_flop_share": timing.ATTENTION_FLOP_SHARE,
        "layers": "all" if len(estimated.request.depths) == 1 else "one and two, extrapolated",
        "phases": {phase.phase: _phase(phase) for phase in estimated.phases},
    }


def _phase(phase: PhaseEstimate) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "fits": phase.fit.fits,
        "bytes_a_device": phase.fit.needed,
        "available_bytes": phase.fit.available,
        "verdict": phase.fit.words,
        "flops": phase.flops,
        "attention": {
            "calls": phase.attention.calls,
            "flops": phase.attention.flops,
            "cache_bytes": phase.attention.cache_bytes,
        },
    }
    if phase.cost is None or phase.time is None:
        return facts
    exchanged: Counter[str] = Counter()
    for each in phase.cost.collectives:
        exchanged[each.kind] += each.bytes
    return facts | {
        "cycles": phase.cost.cycles,
        "streaming_cycles": phase.cost.streaming_cycles,
        "streaming_bytes": phase.cost.streaming_bytes,
        "prefetch_bytes": phase.cost.prefetch_bytes,
        "collective_bytes": dict(exchanged),
        "uncovered": dict(phase.cost.uncovered),
        "custom_calls": dict(phase.cost.custom_calls),
        "dense_s": phase.time.dense_s,
        "bound": phase.time.bound,
        "attention_s": phase.time.attention_s,
        "collectives_s": phase.time.collectives_s,
    }
