"""What there is to choose from: the lists behind ``tpubench list``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tpubench.costs import readiness
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError
from tpubench.results.metrics import METRICS, Metric
from tpubench.suite import registry
from tpubench.suite.serving.service import Service
from tpubench.suite.workload import Workload

Cell = str | float | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """A titled list of records that all have the same keys."""

    title: str
    records: list[dict[str, Cell]]
    notes: list[str]
    """What third parties offer and cannot be listed, and why."""


def catalogue(what: str) -> Catalogue:
    """The list of that name; UsageError naming the known ones otherwise."""
    if what not in _LISTS:
        raise UsageError(f"cannot list {what!r}; known: {', '.join(_LISTS)}")
    notes = registry.faults() if what in ("workloads", "backends", "presets") else []
    return Catalogue(title=what, records=_LISTS[what](), notes=notes)


def _workloads() -> list[dict[str, Cell]]:
    return [
        {
            "name": workload.name,
            "version": workload.version,
            "summary": workload.summary,
            "settings": ", ".join(
                [
                    *(f"{key}={one.default}" for key, one in workload.parameters.items()),
                    *(f"{key}={'|'.join(values)}" for key, values in workload.shorthands.items()),
                ]
            ),
        }
        for workload in _standard_loads()
    ]


def _standard_loads() -> list[Workload | Service]:
    """What ``tpubench run`` takes: programs, and loads on a server."""
    return [*registry.workloads().values(), *registry.services().values()]


def _backends() -> list[dict[str, Cell]]:
    return [
        {
            "name": backend.name,
            "summary": backend.summary,
            "compile_modes": ", ".join(backend.compile_modes),
        }
        for backend in registry.backends().values()
    ]


def _presets() -> list[dict[str, Cell]]:
    return [
        {"workload": workload.name, "preset": preset, "summary": summary}
        for workload in _standard_loads()
        for preset, summary in workload.presets.items()
    ]


def _metrics() -> list[dict[str, Cell]]:
    return [
        {
            "name": metric.name,
            "unit": metric.unit,
            "better": metric.better,
            "value": metric.aggregate.replace("_", " "),
            "definition": metric.formula,
        }
        for metric in (*METRICS.values(), *_own_metrics())
    ]


def _own_metrics() -> list[Metric]:
    """Metrics that only a third party's workload defines."""
    return [metric for each in registry.workloads().values() for metric in each.metrics]


def _devices() -> list[dict[str, Cell]]:
    return [
        {
            "name": device.name,
            "bf16_tflop_s": _scaled(device.peak_flop_s.get("bfloat16"), 1e12),
            "hbm_gb": _scaled(device.hbm_bytes, 1e9),
            "hbm_gb_s": _scaled(device.hbm_bytes_s, 1e9),
            "tdp_w": device.tdp_w,
            "source": device.source,
            "as_of": str(device.as_of),
        }
        for device in devices().values()
    ]


def _readiness() -> list[dict[str, Cell]]:
    return [
        {
            "device": row.device,
            "software": row.software,
            "model": row.model,
            "readiness": None if row.value is None else round(row.value, 3),
            "kind": row.kind,
            "why": row.why,
            "date": str(row.date),
            "source": row.source,
        }
        for row in readiness.rows()
    ]


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else round(value / unit, 3)


_LISTS: dict[str, Callable[[], list[dict[str, Cell]]]] = {
    "workloads": _workloads,
    "backends": _backends,
    "devices": _devices,
    "metrics": _metrics,
    "presets": _presets,
    "readiness": _readiness,
}
