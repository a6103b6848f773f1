"""From what a table calls a device to the limits that a prediction needs.

Published tables write ``NVIDIA H100-SXM-80GB``, ``TPU v6e (Trillium)`` or ``AMD Instinct
MI300X-NPS1-SPX-192GB-750W``. A name that leaves the variant open (``NVIDIA A100``) takes the usual
one and is marked; a figure in the name (2.4TB/s) overrules the data sheet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tpubench.devices.names import likeliest
from tpubench.devices.sheets import GOOGLE, DeviceSheet, device, peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The limits of one chip. Rates per second, sizes in bytes."""

    name: str
    """Canonical name of the data sheet used."""
    vendor: str
    generation: str
    peak_flop_s: Mapping[str, float]
    hbm_bytes: float
    hbm_bytes_s: float
    link_bytes_s: float
    """Links of the scale-up domain, both directions added; 64e9 (PCIe) where none is listed."""
    domain: int
    """Chips joined by those links."""
    assumed: str | None = None
    """What had to be assumed about the name, if anything."""

    def peak(self, precision: str) -> float | None:
        """FLOP/s at that precision; the next wider one where this chip has no such units."""
        return peak(self.peak_flop_s, precision)

    @property
    def nic_bytes_s(self) -> float:
        """One-way rate out of those links, a chip's share: 400 Gb/s, as in the H100's data sheet;
        800 Gb/s on Blackwell Ultra (NVIDIA's HGX data sheet: 1.6 TB/s for eight B300, 0.8 for eight
        B200, both directions)."""
        return 100e9 if self.generation == "Blackwell Ultra" else 50e9

    @property
    def architecture(self) -> str:
        """The generation by which programs know the chip: Blackwell Ultra runs Blackwell's kernels,
        as an H200 runs those of an H100."""
        return self.generation.removesuffix(" Ultra")

    @property
    def joined(self) -> int:
        """Chips of a domain that layouts fill: the largest power of two, 64 of an NVL72."""
        return 1 << (self.domain.bit_length() - 1)

    @property
    def is_tpu(self) -> bool:
        """Whether it is one of Google's."""
        return self.vendor == GOOGLE


def resolve(raw: str) -> Chip | None:
    """The chip behind a name; None when no data sheet fits or it lists no peak or bandwidth."""
    likely = likeliest(raw)
    if likely is None:
        return None
    sheet = device(likely.device)
    chip = from_sheet(sheet, likely.assumed)
    return None if chip is None else _adjusted(chip, raw, sheet.tdp_w)


def from_sheet(sheet: DeviceSheet, assumed: str | None = None) -> Chip | None:
    """The limits of a data sheet; None when peak or bandwidth is missing."""
    if not sheet.peak_flop_s.get("bfloat16") or not sheet.hbm_bytes_s:
        return None
    return Chip(
        name=sheet.name,
        vendor=sheet.vendor,
        generation=sheet.generation,
        peak_flop_s=dict(sheet.peak_flop_s),
        hbm_bytes=sheet.hbm_bytes,
        hbm_bytes_s=sheet.hbm_bytes_s,
        link_bytes_s=sheet.interconnect_bytes_s or 64e9,
        domain=sheet.scaleup_chips or 1,
        assumed=assumed,
    )


def _adjusted(chip: Chip, raw: str, power_w: float | None) -> Chip:
    rate = re.search(r"(\d+(?:\.\d+)?)\s*TB/s", raw)
    if rate and 0.1 <= float(rate[1]) <= 100:
        chip = replace(chip, hbm_bytes_s=float(rate[1]) * 1e12)
    limit = re.search(r"(\d{2,4})\s?W\b", raw)
    if limit and power_w and 0.3 * power_w <= float(limit[1]) < power_w:
        # Dynamic power grows faster than the clock: half the cut, in the logarithm.
        slower = (float(limit[1]) / power_w) ** 0.5
        chip = replace(chip, peak_flop_s={k: v * slower for k, v in chip.peak_flop_s.items()})
    if "one gcd" in raw.lower():
        half = {name: peak / 2 for name, peak in chip.peak_flop_s.items()}
        chip = replace(
            chip, peak_flop_s=half, hbm_bytes=chip.hbm_bytes / 2, hbm_bytes_s=chip.hbm_bytes_s / 2
        )
    return chip
