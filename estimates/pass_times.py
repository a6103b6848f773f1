"""Metrics of a workload from seconds of its phases: derived by itself, as from a measured pass."""

from __future__ import annotations

from collections.abc import Mapping

from tpubench.suite.workload import Case, Laps, Timed, Workload


def laps(workload: Workload, case: Case, seconds: Mapping[str, float], how: str) -> Laps:
    """What ``workload`` measures of one pass whose phases take so long from mark to mark.

    ``seconds`` has the phases of :meth:`Workload.phases`, or ``pass`` alone for all of it. Every
    sample of a phase is the same number: one stands for all.
    """
    spans = workload.phases(case)
    marks = [name for name in seconds for _ in range(spans[name].marks if name in spans else 1)]
    laps_s = [seconds[name] for name in marks]
    windows = {"pass": _window(tuple(marks), laps_s, how)}
    for name, lap_s in zip(marks, laps_s, strict=True):
        windows.setdefault(name, _window((name,), [lap_s], how))
    measured = workload.measure(case, windows)
    samples = {name: values[:1] for name, values in measured.samples.items()}
    return Laps(samples=samples, missing=measured.missing)


def _window(marks: tuple[str, ...], laps_s: list[float], how: str) -> Timed:
    """One pass as if it had been timed."""
    return Timed(marks=marks, laps_s=[laps_s], wall_s=sum(laps_s), passes=1, how=how)
