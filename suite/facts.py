"""From what a child saw to stored rows: samples, prices, fractions of peak, and reasons.

A repetition that failed leaves one row, under the workload's primary metric, that says why. One
that succeeded leaves a row for each metric, and for a metric that cannot be given a row with the
reason in place of the value.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from importlib.metadata import version

from tpubench.devices import prices
from tpubench.devices.sheets import devices
from tpubench.results import fingerprint
from tpubench.results.figure import SampledValue, Shared, derived_samples
from tpubench.results.metrics import METRICS, Metric
from tpubench.results.own_metrics import own
from tpubench.results.row import Row
from tpubench.results.statistics import within
from tpubench.suite import environment
from tpubench.suite.backend import Backend
from tpubench.suite.energy import Energy, slowdown
from tpubench.suite.job import Job, Outcome
from tpubench.suite.peaks import Peaks, in_use
from tpubench.suite.workload import Work, Workload

_CONTENT = 0.9
"""Share of what a program holds that its peak may seem to be: of many chips, one may hold less."""
NO_PRICE = "no price: give --price ID or --usd-per-chip-hour X"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all rows of a run share."""

    run_id: str
    started_at: dt.datetime
    price: prices.Price | None
    git: fingerprint.GitState


def rows(
    context: RunContext,
    backend: Backend,
    workload: Workload,
    job: Job,
    outcome: Outcome,
    peaks: Peaks | None,
) -> list[Row]:
    """Every row of one repetition."""
    samples: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    peaks = in_use(peaks, outcome.description)
    work = workload.work(job.case)
    if outcome.status == "ok":
        laps = workload.measure(job.case, outcome.windows)
        samples, missing = dict(laps.samples), dict(laps.missing)
        unknown = [name for name in (*samples, *missing) if workload.metric(name) is None]
        if unknown:
            why = f"{workload.name} gives {unknown[0]!r}, which its Workload.metrics do not declare"
            outcome = replace(outcome, status="failed", reason=why)
    if outcome.status == "ok":
        samples |= {name: [value] for name, value in outcome.measured.items()}
        _add_one_offs(samples, missing, work, outcome)
        if backend.accelerator:
            _refuse_a_peak_below_its_content(samples, missing, workload, job)
        _add_fractions(samples, missing, workload, job, outcome, peaks)
        derived, unpriced = derived_samples(samples, outcome.chips, context.price)
        samples |= derived
        missing |= {metric.name: NO_PRICE for metric in unpriced}
        beaten = _beats_the_peak(samples, peaks)
        if beaten:
            outcome = replace(outcome, status="invalid", reason=beaten)
    template = _Template(context, backend, workload, job, outcome, peaks)
    if outcome.status != "ok":
        return [template(_primary(workload), None, outcome.reason)]
    extra = [metric for metric in workload.metrics if metric.name not in METRICS]
    slowed = _slowdown(outcome)
    return [
        template(metric, samples.get(metric.name), missing.get(metric.name, slowed))
        for metric in (*METRICS.values(), *extra)
        if metric.name in samples or metric.name in missing
    ]


def _primary(workload: Workload) -> Metric:
    """The metric of a row that says why there is none; any will do where the workload errs."""
    return workload.metric(workload.primary_metric) or METRICS["step_time_s"]


def one_row(
    context: RunContext,
    backend: Backend,
    workload: Workload,
    job: Job,
    outcome: Outcome,
    metric: str,
    samples: list[float],
) -> Row:
    """A row of one metric whose samples were taken outside the timed window of a run."""
    return _Template(context, backend, workload, job, outcome, None)(METRICS[metric], samples, None)


def _add_one_offs(
    samples: dict[str, list[float]], missing: dict[str, str], work: Work, outcome: Outcome
) -> None:
    _add_compile_time(samples, missing, outcome)
    if outcome.warm_up_s:
        samples["first_step_s"] = [outcome.warm_up_s[0]]
    if outcome.peak_memory_bytes is None:
        missing["peak_memory_bytes"] = f"{outcome.device} does not report its peak memory"
    else:
        samples["peak_memory_bytes"] = [float(outcome.peak_memory_bytes)]
    if work.unit == "token":
        _add_energy(samples, missing, work, outcome)


def _refuse_a_peak_below_its_content(
    samples: dict[str, list[float]], missing: dict[str, str], workload: Workload, job: Job
) -> None:
    """A peak that is less than what the program holds was read from a counter that does not see
    all of it. A host's is left alone: memory that was asked for and never written is not there."""
    least = workload.memory_bytes(job.case)
    peak = samples.get("peak_memory_bytes")
    if least is not None and peak is not None and peak[0] < _CONTENT * least / job.chips:
        del samples["peak_memory_bytes"]
        missing["peak_memory_bytes"] = (
            f"the device says {peak[0]:,.0f} bytes at most; the program alone holds"
            f" {least // job.chips:,}"
        )


def _add_compile_time(
    samples: dict[str, list[float]], missing: dict[str, str], outcome: Outcome
) -> None:
    """Under one name what was compiled, under another what a cache gave: never compared."""
    if outcome.compile_s is None:
        return
    cache = outcome.compile_cache or {"hits": 0, "misses": 0}
    hits, programs = cache["hits"], cache["hits"] + cache["misses"]
    if not hits:
        samples["compile_time_s"] = [outcome.compile_s]
        return
    missing["compile_time_s"] = f"{hits} of {programs} programs came from the compile cache"
    if hits == programs:
        samples["warm_compile_time_s"] = [outcome.compile_s]


def _add_energy(
    samples: dict[str, list[float]], missing: dict[str, str], work: Work, outcome: Outcome
) -> None:
    energy = outcome.energy
    if energy is None:
        missing["joules_per_token"] = f"{outcome.device} reports no power"
    elif energy["joules"] is None:
        missing["joules_per_token"] = str(energy["reason"])
    else:
        tokens = work.items * outcome.windows["pass"].passes
        samples["joules_per_token"] = [energy["joules"] / tokens]


def _slowdown(outcome: Outcome) -> str | None:
    """What held the device back inside the main window; None for nothing, or where none counts."""
    if outcome.energy is None:
        return None
    return slowdown(Energy(**outcome.energy), outcome.windows["pass"].wall_s)


def _add_fractions(
    samples: dict[str, list[float]],
    missing: dict[str, str],
    workload: Workload,
    job: Job,
    outcome: Outcome,
    peaks: Peaks | None,
) -> None:
    work, dtype = workload.work(job.case), job.case.arithmetic_dtype
    for name, phase in workload.fractions.items():
        part = work.phases.get(phase, work)
        amount, peak = part.bytes, peaks.bytes_s if peaks else None
        if name == "mfu":
            amount, peak = part.flops, peaks.flop_s.get(dtype) if peaks else None
        times_s = _phase_times(outcome, None if phase == "pass" else phase)
        if not amount or not all(times_s):
            missing[name] = f"this case has no {phase} phase to relate to the peak"
        elif peaks is None or peak is None:
            missing[name] = f"no known peak of {outcome.device} for {dtype}"
        else:
            held = outcome.chips * _share_of_a_chip(workload, outcome)
            fractions = [amount / (t * held * peak) for t in times_s]
            if peaks.measured and within("harmonic_mean", fractions).point > 1:
                missing[name] = (
                    f"faster than the peak measured here ({peak:.3g}/s): the working set"
                    " fits in a cache, or the machine was slower when the peak was measured"
                )
            else:
                samples[name] = fractions


def _share_of_a_chip(workload: Workload, outcome: Outcome) -> float:
    """The part of a chip's peaks that one device of it has, where the workload uses one device."""
    sheet = devices().get(outcome.device or "")
    return 1 / sheet.devices_per_chip if sheet and workload.parallelism is None else 1.0


def _phase_times(outcome: Outcome, phase: str | None) -> list[float]:
    """Seconds of one phase in each pass; of the whole pass when ``phase`` is None.

    From the window of that name where there is one, else from the marks of the pass.
    """
    timed = outcome.windows["pass"]
    if phase is not None and phase in outcome.windows:
        return outcome.windows[phase].passes_s
    return [
        sum(t for mark, t in zip(timed.marks, laps, strict=True) if phase in (None, mark))
        for laps in timed.laps_s
    ]


def _beats_the_peak(samples: dict[str, list[float]], peaks: Peaks | None) -> str | None:
    if peaks is None or peaks.measured:
        return None
    for name in ("mfu", "mbu"):
        if name in samples and within("harmonic_mean", samples[name]).point > 1:
            return f"{name} is above 1: faster than the device's peak ({peaks.source})"
    return None


class _Template:
    """Everything a row of one repetition shares; called once for each metric."""

    def __init__(
        self,
        context: RunContext,
        backend: Backend,
        workload: Workload,
        job: Job,
        outcome: Outcome,
        peaks: Peaks | None,
    ) -> None:
        match = environment.must_match(backend, workload, job, outcome)
        self.environment = {
            "fingerprint": match,
            "host": fingerprint.host(),
            "timing": environment.how_it_was_timed(job, outcome),
            "peaks": environment.peaks_used(job, peaks),
            "work": environment.work_of(workload.work(job.case)),
        }
        self.price = context.price
        self.shared = Shared(
            run_id=context.run_id,
            repetition=job.repetition,
            started_at=context.started_at,
            evidence=backend.evidence,
            status=outcome.status,
            workload=job.case.workload,
            workload_version=job.case.workload_version,
            preset=job.case.preset,
            params=job.case.params,
            backend=job.backend,
            device=outcome.device or job.backend,
            chips=outcome.chips,
            hosts=outcome.hosts,
            parallelism=outcome.parallelism,
            dtype=job.case.dtype,
            source=f"tpubench {version('tpubench')}",
            fingerprint=fingerprint.sha256(match),
            environment=fingerprint.canonical_json(self.environment),
            git=context.git,
        )

    def __call__(self, metric: Metric, samples: list[float] | None, reason: str | None) -> Row:
        return self.shared.row(
            metric,
            SampledValue.of(metric, samples),
            reason=reason,
            price=self.price,
            environment=self._own_environment(metric),
        )

    def _own_environment(self, metric: Metric) -> str | None:
        """With what the metric means, where only the workload knows."""
        if metric.name in METRICS:
            return None
        return fingerprint.canonical_json({**self.environment, **own(metric)})
