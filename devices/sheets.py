"""What each accelerator can do at most: peak FLOP/s, memory, links and power, each with its source.

One line of ``sheets.csv`` is one figure of one device. Peaks are dense (no sparsity) and for one
physical chip. A figure that no source gives is missing, never estimated: without a peak there is no
MFU, without a power there is no energy cost. Where sources disagree the figure's note says so.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tpubench.devices.precisions import PEAKS, PRECISIONS, TF32
from tpubench.errors import UsageError

GOOGLE, NVIDIA, AMD = "Google", "NVIDIA", "AMD"

_TABLE = Path(__file__).with_name("sheets.csv")
_IDENTITY = ("vendor", "generation", "form", "devices_per_chip")
"""What a device is: facts of its name, which need no source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFigure:
    """One figure of a data sheet. ``value`` is None where the sources give none; the note says why.

    ``as_of`` is the date of the source's copy, or the day on which a pinned source was read.
    """

    value: str | None
    source: str
    as_of: dt.date
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSheet:
    """One accelerator, per physical chip. None means that no usable source gives the figure."""

    name: str
    """Canonical name, as stored in a row's ``device`` column."""
    vendor: str
    generation: str
    form: str
    """Board of a GPU: ``sxm``, ``pcie``, ``nvl``, ``oam`` or ``superchip``; empty for a TPU."""
    peak_flop_s: Mapping[str, float]
    """Dense peak in FLOP/s (int8: operations/s) by precision; absent when not sourced.

    ``float32`` is the peak with TF32 off, ``tf32`` that of float32 values in the matrix units.
    A TPU has neither: its units multiply bfloat16, and XLA's default precision does a float32
    product in one such pass.
    """
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
    on_sale: dt.date
    """First day known on which it was sold or rented out; its release where only that is known."""
    figures: Mapping[str, SheetFigure]
    """Every figure by its name in the table, with source, date and note."""

    @property
    def is_tpu(self) -> bool:
        """Whether it is one of Google's."""
        return self.vendor == GOOGLE

    @property
    def source(self) -> str:
        """All sources of the sheet, in the order of its figures."""
        return "; ".join(dict.fromkeys(figure.source for figure in self.figures.values()))

    @property
    def as_of(self) -> dt.date:
        """Date of the oldest source."""
        return min(figure.as_of for figure in self.figures.values())

    @property
    def note(self) -> str:
        """All notes, each with its figure's name."""
        notes = ((name, figure.note) for name, figure in self.figures.items() if figure.note)
        return "; ".join(f"{name}: {note}" for name, note in notes)

    def peak(self, precision: str) -> float | None:
        """FLOP/s of products in that precision; of the next wider one without units for it."""
        return peak(self.peak_flop_s, precision)

    def most(self, precision: str) -> float | None:
        """FLOP/s that no program beats on values of that precision, however the product is done.

        Frameworks may do float32 products in TF32, on a TPU in bfloat16. None without a peak.
        """
        if precision != "float32":
            return self.peak(precision)
        names = ("bfloat16",) if self.is_tpu else ("float32", TF32)
        return max((self.peak_flop_s[n] for n in names if n in self.peak_flop_s), default=None)


def peak(peaks: Mapping[str, float], precision: str) -> float | None:
    """The peak of a precision, or of the next wider one that the device has units for."""
    name: str | None = precision
    while name is not None:
        if peaks.get(name):
            return peaks[name]
        name = PRECISIONS[name].wider if name in PRECISIONS else None
    return None


@functools.cache
def _table() -> Mapping[str, DeviceSheet]:
    facts: dict[str, dict[str, str]] = {}
    figures: dict[str, dict[str, SheetFigure]] = {}
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            name, figure, value = line["device"], line["figure"], line["value"]
            facts.setdefault(name, {})[figure] = value
            if figure not in _IDENTITY:
                figures.setdefault(name, {})[figure] = SheetFigure(
                    value=value or None,
                    source=line["source"],
                    as_of=dt.date.fromisoformat(line["as_of"]),
                    note=line["note"],
                )
    return MappingProxyType({name: _device(name, facts[name], figures[name]) for name in facts})


def devices() -> dict[str, DeviceSheet]:
    """Every device of the table by canonical name."""
    return dict(_table())


def device(name: str) -> DeviceSheet:
    """The device of that canonical name; UsageError naming the known ones otherwise."""
    try:
        return _table()[name]
    except KeyError:
        raise UsageError(unknown(name)) from None


def unknown(name: str) -> str:
    """What to say of a name that no device has: what it may be short for, or all there are."""
    short = " ".join(name.lower().split())[:60]
    several = [known for known in _table() if short and f"-{short}-" in f"-{known}-"]
    if len(several) > 1:
        return f"{name[:60]!r} is several devices: name one of {', '.join(several)}"
    return f"unknown device {name[:60]!r}; known: {', '.join(_table())}"


def _device(name: str, facts: dict[str, str], figures: dict[str, SheetFigure]) -> DeviceSheet:
    def number(figure: str, scale: float = 1.0) -> float | None:
        text = facts.get(figure)
        return float(text) * scale if text else None

    peaks = {precision: number(f"{precision}_tflop_s", 1e12) for precision in PEAKS}
    joined = number("scaleup_chips")
    return DeviceSheet(
        name=name,
        vendor=facts["vendor"],
        generation=facts["generation"],
        form=facts.get("form", ""),
        peak_flop_s=MappingProxyType({p: v for p, v in peaks.items() if v is not None}),
        hbm_bytes=float(facts["hbm_bytes"]),
        hbm_bytes_s=number("hbm_gbyte_s", 1e9),
        interconnect_bytes_s=number("interconnect_gbyte_s", 1e9),
        scaleup_chips=None if joined is None else int(joined),
        devices_per_chip=int(facts["devices_per_chip"]),
        tdp_w=number("tdp_w"),
        on_sale=dt.date.fromisoformat(facts["on_sale"]),
        figures=MappingProxyType(figures),
    )
