"""Where each phase of a program stands against the limits that were measured on its own device.

A data sheet's peak is out of reach for any program; what ``gemm`` and ``hbm`` reached on the same
device is not. The most a program can do is the smaller of the best arithmetic rate and the best
bandwidth times its arithmetic intensity, as on the roofline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tpubench.reports.findings import part
from tpubench.reports.roofline import RooflinePoint
from tpubench.results.row import Row
from tpubench.results.summary import IMPORTED, Summary

_MEASURES = {"gemm": "flop_s", "hbm": "bandwidth_bytes_s"}
"""Workloads that measure a limit, and the metric that tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A phase beside what its device was seen to do.

    possible_flop_s: of all chips it held. bound: which of the two limits that is.
    """

    placement: RooflinePoint
    possible_flop_s: float
    bound: Literal["gemm", "hbm"]

    @property
    def share(self) -> float:
        """Attained ÷ possible. Above 1 where a working set fits in a cache."""
        return self.placement.flop_s.point / self.possible_flop_s


def against(placed: Sequence[RooflinePoint], summaries: Sequence[Summary]) -> list[Against]:
    """Every placed phase whose device has both limits among the summaries, one chip each."""
    limits: dict[tuple[object, ...], float] = {}
    for summary in summaries:
        row, estimate = summary.first, summary.estimate
        if _MEASURES.get(row.workload) != row.metric or estimate is None or row.chips != 1:
            continue
        if row.backend == IMPORTED or row.evidence not in {"measured", "modelled"}:
            continue
        dtype = row.dtype if row.workload == "gemm" else None
        key = (*_device(row), row.workload, dtype)
        limits[key] = max(limits.get(key, 0.0), estimate.point)
    lines = []
    for placement in placed:
        row = placement.summary.first
        if row.workload in _MEASURES:
            continue
        dtype = str(part(row, "peaks").get("dtype") or row.dtype)
        flop_s = limits.get((*_device(row), "gemm", dtype))
        bytes_s = limits.get((*_device(row), "hbm", None))
        if flop_s is None or bytes_s is None:
            continue
        by_memory = bytes_s * placement.flops_per_byte
        lines.append(
            Against(
                placement=placement,
                possible_flop_s=min(flop_s, by_memory) * row.chips,
                bound="gemm" if flop_s <= by_memory else "hbm",
            )
        )
    return lines


def _device(row: Row) -> tuple[object, ...]:
    """A device, and whether its clock is made up or its figures a model's."""
    return row.device, row.backend == "fake", row.evidence
