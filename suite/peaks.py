"""The limits of a device: of its data sheet, or measured by this very run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tpubench.devices.precisions import TF32
from tpubench.devices.sheets import devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Peaks:
    """The device's limits and where they come from: a data sheet, or this very run."""

    flop_s: Mapping[str, float] = field(default_factory=dict)
    bytes_s: float | None = None
    source: str
    measured: bool
    """Measured here: a lower bound of the true peak, so a fraction above 1 is not a fraud."""


def data_sheet(device_name: str) -> Peaks | None:
    """Published peaks of a device; None when it is not in the table."""
    sheet = devices().get(device_name)
    if sheet is None:
        return None
    return Peaks(
        flop_s=sheet.peak_flop_s, bytes_s=sheet.hbm_bytes_s, source=sheet.source, measured=False
    )


def in_use(peaks: Peaks | None, description: Mapping[str, Any]) -> Peaks | None:
    """The peaks under a run's settings: with TF32 on, matrix units multiply its float32 values."""
    if peaks is None or not description.get("tf32_matmul") or TF32 not in peaks.flop_s:
        return peaks
    return replace(peaks, flop_s={**peaks.flop_s, "float32": peaks.flop_s[TF32]})
