"""What the TPU compiler is asked to compile for: generations, topologies and their clocks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tpubench.devices.names import canonical
from tpubench.devices.sheets import DeviceSheet, device
from tpubench.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One TPU generation as libtpu knows it.

    prefix: libtpu's name in a topology. torus: dimensions of its interconnect.
    clock_hz: the stated clock, from ``mxus`` (rows × columns and number of the matrix units of one
    chip): a unit multiplies and adds rows × columns pairs a cycle, so clock = peak bfloat16
    FLOP/s ÷ (2 × rows × columns × units). Units: jax-ml.github.io/scaling-book, "How to think
    about TPUs", and Google's system architecture pages, read 2026-11-22.
    wraps_at: length from which an axis of a slice is closed to a ring.
    """

    device: str
    prefix: str
    torus: int
    mxus: tuple[int, int]
    wraps_at: int
    chip_config: str = "default"
    """libtpu's name of the chip's configuration: a v4 chip can show as one device or as two."""
    kernels: bool = True
    """Whether TorchTPU's attention kernel can be compiled for it."""

    @property
    def sheet(self) -> DeviceSheet:
        return device(self.device)

    @property
    def clock_hz(self) -> float:
        side, units = self.mxus
        return round(self.sheet.peak_flop_s["bfloat16"] / (2 * side * side * units) / 1e7) * 1e7


_GENERATIONS = {
    generation.device: generation
    for generation in (
        Generation(
            device="tpu-v4", prefix="v4", torus=3, mxus=(128, 8), wraps_at=4,
            chip_config="megacore", kernels=False,
        ),
        Generation(device="tpu-v5e", prefix="v5e", torus=2, mxus=(128, 4), wraps_at=16),
        Generation(device="tpu-v5p", prefix="v5p", torus=3, mxus=(128, 8), wraps_at=4),
        Generation(device="tpu-v6e", prefix="v6e", torus=2, mxus=(256, 4), wraps_at=16),
        Generation(device="tpu-v7", prefix="tpu7x", torus=3, mxus=(256, 8), wraps_at=4),
    )
}  # fmt: skip

_FLAT = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8),
         128: (8, 16), 256: (16, 16)}  # fmt: skip
_SOLID = {1: (1, 1, 1), 2: (1, 2, 1), 4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4),
          64: (4, 4, 4), 128: (4, 4, 8), 256: (4, 8, 8), 512: (8, 8, 8)}  # fmt: skip
"""The slices that Google Cloud offers, by chips (and half a host of two)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A slice of one generation: what is compiled for, and what its parts can do.

    Rates and sizes are those of one *device*, half a chip on v7.
    """

    generation: Generation
    axes: tuple[int, ...]

    @property
    def topology(self) -> str:
        """libtpu's name of the slice: ``v6e:2x2``."""
        return f"{self.generation.prefix}:{'x'.join(map(str, self.axes))}"

    @property
    def chips(self) -> int:
        return math.prod(self.axes)

    @property
    def devices(self) -> int:
        return self.chips * self.generation.sheet.devices_per_chip

    @property
    def clock_hz(self) -> float:
        return self.generation.clock_hz

    @property
    def hbm_bytes_s(self) -> float:
        rate = self.generation.sheet.hbm_bytes_s
        assert rate is not None  # every TPU of the table has one
        return rate / self.generation.sheet.devices_per_chip

    def peak_flop_s(self, dtype: str) -> float:
        """Dense peak of one device; float32 runs as several bfloat16 passes, at the bf16 peak."""
        sheet = self.generation.sheet
        peak = sheet.most(dtype)
        assert peak is not None  # every TPU of the table has a bfloat16 peak
        return peak / sheet.devices_per_chip

    @property
    def link_bytes_s(self) -> float:
        """One link of a chip, one direction: the sheet counts all of them, both ways."""
        total = self.generation.sheet.interconnect_bytes_s
        assert total is not None
        return total / (2 * 2 * self.generation.torus)

    def wraps(self, length: int) -> bool:
        """Whether an axis of that length is closed to a ring."""
        return length >= self.generation.wraps_at and length % self.generation.wraps_at == 0


def target(name: str, chips: int = 1, topology: str | None = None) -> Target:
    """The slice that ``--device``, ``--chips`` and ``--topology`` name.

    UsageError when it is no TPU that libtpu compiles for, or no slice of so many chips exists.
    """
    generation = _GENERATIONS.get(canonical(name) or name)
    if generation is None:
        known = ", ".join(g.device.removeprefix("tpu-") for g in _GENERATIONS.values())
        raise UsageError(
            f"tpubench compile knows {known}, not {name!r}: use tpubench estimate for others"
        )
    if topology is not None:
        return Target(generation=generation, axes=_axes(generation, topology))
    offered = _FLAT if generation.torus == 2 else _SOLID
    if chips not in offered:
        raise UsageError(
            f"no {generation.prefix} slice has {chips} chips: choose {', '.join(map(str, offered))}"
            " or name one with --topology"
        )
    return Target(generation=generation, axes=offered[chips])


def _axes(generation: Generation, topology: str) -> tuple[int, ...]:
    shape = "x".join(["N"] * generation.torus)
    text = topology.removeprefix(f"{generation.prefix}:")
    if not re.fullmatch(r"[1-9]\d{0,2}(x[1-9]\d{0,2})*", text):
        raise UsageError(f"--topology {topology!r} is not of the form {shape}")
    axes = tuple(int(part) for part in text.split("x"))
    if len(axes) != generation.torus:
        raise UsageError(f"--topology {topology!r}: {generation.prefix} is {shape}")
    if math.prod(axes) > 512:
        raise UsageError(f"--topology {topology!r} has {math.prod(axes)} chips, at most 512")
    return axes
