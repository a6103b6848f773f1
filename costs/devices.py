"""What each accelerator can do at most: peak FLOP/s, memory, links and power, with sources.

One line of ``devices.csv`` is one device. Peaks are dense (no sparsity) and for one physical
chip. A figure that no source gives is missing, never estimated: without a peak there is no MFU,
without a power there is no energy cost. Where sources disagree the note says so.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tpubench.results.errors import UsageError

PRECISIONS = ("bfloat16", "float16", "fp8", "int8", "fp4", "float32")
"""Precisions with a peak column. int8 counts operations, the others floating point."""

_TABLE = Path(__file__).with_name("devices.csv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, per physical chip. None means that no usable source gives the figure."""

    name: str
    """Canonical name, as stored in a row's ``device`` column."""
    vendor: str
    generation: str
    peak_flop_s: Mapping[str, float]
    """Dense peak in FLOP/s (int8: operations/s) by precision; absent when not sourced."""
    hbm_bytes: float
    hbm_bytes_s: float | None
    interconnect_bytes_s: float | None
    """Chip-to-chip links of the scale-up domain, both directions added, bytes/s."""
    scaleup_chips: int | None
    """Largest number of chips joined by those links."""
    devices_per_chip: int
    """How many devices a framework sees for one physical chip (a TPU v7 chip shows as two)."""
    tdp_w: float | None
    """Thermal design power of the chip, watts."""
    source: str
    as_of: dt.date
    """Date of the source's copy, or the day on which a pinned source was read."""
    note: str


@functools.cache
def _table() -> Mapping[str, Device]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        entries = [_device(record) for record in csv.DictReader(stream)]
    return MappingProxyType({entry.name: entry for entry in entries})


def devices() -> dict[str, Device]:
    """Every device of the table by canonical name."""
    return dict(_table())


def device(name: str) -> Device:
    """The device of that canonical name; UsageError naming the known ones otherwise."""
    try:
        return _table()[name]
    except KeyError:
        raise UsageError(f"unknown device {name!r}; known: {', '.join(_table())}") from None


def canonical(raw: str) -> str | None:
    """The canonical name for what a driver, a catalogue or a person calls a device.

    None when the name is unknown or leaves the variant open (a bare ``H100`` may be SXM, PCIe or
    NVL): an answer is never guessed. Slice names such as ``v5p-8`` name their chip.
    """
    name = re.sub(r"[^a-z0-9]+", "-", raw.lower()).strip("-")
    if name in _table():
        return name
    for pattern, found in _NAMES:
        if pattern.fullmatch(name):
            return found
    return None


def chips_in_slice(name: str) -> int | None:
    """Physical chips of a Cloud TPU slice name; None where the name does not say.

    ``v2-N``, ``v3-N``, ``v4-N`` and ``v5p-N`` count TensorCores, two to a chip; ``v5e-N``,
    ``v5litepod-N`` and ``v6e-N`` count chips (cloud.google.com/tpu/docs, read 2026-11-22).
    Words before and after (``cloud-tpu-v5p-128-maxtext``) are no hindrance.
    """
    match = re.fullmatch(
        r"(?:[a-z]+-)*(v2|v3|v4|v5p|v5e|v5litepod|v6e|trillium)-(\d{1,6})(?:-[a-z]+)*", name.lower()
    )
    if match is None:
        return None
    kind, count = match[1], int(match[2])
    if kind in {"v5e", "v5litepod", "v6e", "trillium"}:
        return count or None
    return count // 2 if count and count % 2 == 0 else None


def _number(text: str, scale: float = 1.0) -> float | None:
    return float(text) * scale if text else None


def _device(record: dict[str, str]) -> Device:
    peaks = {p: _number(record[f"{p}_tflop_s"], 1e12) for p in PRECISIONS}
    return Device(
        name=record["name"],
        vendor=record["vendor"],
        generation=record["generation"],
        peak_flop_s=MappingProxyType({p: v for p, v in peaks.items() if v is not None}),
        hbm_bytes=float(record["hbm_bytes"]),
        hbm_bytes_s=_number(record["hbm_gbyte_s"], 1e9),
        interconnect_bytes_s=_number(record["interconnect_gbyte_s"], 1e9),
        scaleup_chips=int(record["scaleup_chips"]) if record["scaleup_chips"] else None,
        devices_per_chip=int(record["devices_per_chip"]),
        tdp_w=_number(record["tdp_w"]),
        source=record["source"],
        as_of=dt.date.fromisoformat(record["as_of"]),
        note=record["note"],
    )


def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Name patterns over lower-case words joined by single hyphens, most specific first."""
    tpu = {
        "2": "tpu-v2",
        "3": "tpu-v3",
        "4": "tpu-v4",
        "5-?e|5-?lite(?:-?pod)?": "tpu-v5e",
        "5-?p": "tpu-v5p",
        # Google's previews wrote plain v6 for what became v6e.
        "6-?e?|6-?lite": "tpu-v6e",
        "7-?x?": "tpu-v7",
    }
    slice_tail = r"(?:-(?:pod|podslice|slice|device|chip))?(?:-\d+)?(?:-trillium|-ironwood)?"
    found = [
        (rf"(?:google-)?(?:cloud-)?(?:tpu-?v?|v)(?:{generation}){slice_tail}", name)
        for generation, name in tpu.items()
    ]
    found += [
        (r"(?:google-)?(?:cloud-)?(?:tpu-)?trillium", "tpu-v6e"),
        (r"(?:google-)?(?:cloud-)?(?:tpu-)?ironwood", "tpu-v7"),
    ]
    nvidia = {
        r"a100-sxm(?:4|-4)?-?40gb|a100-40gb-sxm4?": "nvidia-a100-sxm-40gb",
        r"a100-sxm(?:4|-4)?-?80gb|a100-80gb-sxm4?": "nvidia-a100-sxm-80gb",
        r"a100-pcie-80gb|a100-80gb-pcie": "nvidia-a100-pcie-80gb",
        r"h100-(?:sxm5?|80gb-hbm3|sxm5?-80gb(?:-hbm3)?|80gb-sxm5?|hgx|mega(?:-80gb)?)"
        r"|dgx-h100|hgx-h100": "nvidia-h100-sxm",
        r"h100-(?:pcie|pcie-80gb|80gb-pcie)": "nvidia-h100-pcie",
        r"h100-(?:nvl|nvl-94gb|94gb-nvl)": "nvidia-h100-nvl",
        r"h200(?:-sxm5?)?(?:-141gb)?|h200-141gb-hbm3e|dgx-h200|hgx-h200": "nvidia-h200-sxm",
        r"b200(?:-sxm6?)?(?:-180gb)?|dgx-b200|hgx-b200": "nvidia-b200-sxm",
        r"b300(?:-sxm6?)?(?:-ac)?|dgx-b300|hgx-b300": "nvidia-b300-sxm",
        r"gb200(?:-nvl(?:72|4))?(?:-\d+gb)?": "nvidia-gb200",
        r"gb300(?:-nvl72)?(?:-\d+gb)?": "nvidia-gb300",
        r"l4(?:-pcie)?(?:-24gb)?": "nvidia-l4",
        r"l40s": "nvidia-l40s",
    }
    found += [(rf"(?:nvidia-)?(?:tesla-)?(?:{names})", name) for names, name in nvidia.items()]
    found += [
        (
            rf"(?:amd-)?(?:instinct-)?mi{model}(?:-oam)?(?:-\d+gb)?(?:-hbm3e?)?",
            f"amd-mi{model}",
        )
        for model in ("300x", "325x", "355x")
    ]
    return tuple((re.compile(pattern), name) for pattern, name in found)


_NAMES = _patterns()
