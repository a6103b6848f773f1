"""What a row says of its circumstances: what must match, how it was timed, which peaks hold."""

from __future__ import annotations

import math
from typing import Any

from tpubench.results import control_group, fingerprint
from tpubench.suite import variables
from tpubench.suite.backend import Backend
from tpubench.suite.job import Job, Outcome
from tpubench.suite.peaks import Peaks
from tpubench.suite.workload import Work, Workload


def must_match(backend: Backend, workload: Workload, job: Job, outcome: Outcome) -> dict[str, Any]:
    """Everything that has to be equal before two rows may be gated against each other."""
    host = fingerprint.host()
    # A row without them is as it was before they were kept, and comparable.
    quota = control_group.cpu_quota()
    set_here = variables.changing(backend.child_environment(job.chips))
    return {
        **({} if quota is None else {"cpu_quota": quota}),
        **({"variables": set_here} if set_here else {}),
        "backend": backend.name,
        "compile_mode": job.compile_mode,
        "device": outcome.device,
        "chips": outcome.chips,
        "hosts": outcome.hosts,
        "parallelism": outcome.parallelism,
        "cpu_model": host["cpu_model"],
        "usable_cores": host["usable_cores"],
        "kernel": host["kernel"],
        "description": dict(outcome.description),
        "workload": job.case.workload,
        "workload_version": job.case.workload_version,
        "workload_sha256": workload.source_sha256(),
        "preset": job.case.preset,
        "params": dict(job.case.params),
        "shape": dict(job.case.shape),
    }


def how_it_was_timed(job: Job, outcome: Outcome) -> dict[str, Any]:
    return {
        "compile_mode": job.compile_mode,
        "warm_up_s": outcome.warm_up_s,
        "steadiness": outcome.steadiness,
        "windows": {
            name: {"passes": timed.passes, "wall_s": timed.wall_s, "marks": timed.how}
            for name, timed in outcome.windows.items()
        },
        "build_s": outcome.build_s,
        "idle_barrier_s": outcome.idle_barrier_s,
        "compile_cache": None if outcome.compile_cache is None else dict(outcome.compile_cache),
        "spent_s": dict(outcome.spent_s),
        "energy": None if outcome.energy is None else dict(outcome.energy),
        "parity_error": _finite(outcome.parity_error),
        "parity_tolerance": outcome.parity_tolerance,
        "parity": {
            check["name"]: {"error": _finite(check["error"]), "tolerance": check["tolerance"]}
            for check in outcome.parity
        },
    }


def _finite(error: float | None) -> float | None:
    """An error as JSON can hold it: none where it is infinite or no number, and so a failure."""
    return error if error is not None and math.isfinite(error) else None


def work_of(work: Work) -> dict[str, dict[str, int]]:
    """FLOPs, bytes and items by phase: what a roofline needs beside the times."""
    return {
        name: {"flops": part.flops, "bytes": part.bytes, "items": part.items}
        for name, part in (work.phases or {"pass": work}).items()
    }


def peaks_used(job: Job, peaks: Peaks | None) -> dict[str, Any] | None:
    if peaks is None:
        return None
    return {
        "flop_s": peaks.flop_s.get(job.case.arithmetic_dtype),
        "dtype": job.case.arithmetic_dtype,
        "bytes_s": peaks.bytes_s,
        "source": peaks.source,
        "measured": peaks.measured,
    }
