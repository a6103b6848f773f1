"""What every backend on libtpu shares: how it is probed, how it dies, what a chip is."""

from __future__ import annotations

import math
import os
from abc import abstractmethod
from typing import ClassVar

from tpubench.devices.sheets import devices
from tpubench.suite.backend import Backend, Probe
from tpubench.suite.backends import _chips, _tpu_faults
from tpubench.suite.interpreters import OWN, Interpreter

VISIBLE_VARIABLE = "TPU_VISIBLE_CHIPS"
_ONE_CHIP = {
    VISIBLE_VARIABLE: "0",
    "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
    "TPU_PROCESS_BOUNDS": "1,1,1",
}


class TpuRuntime(Backend):
    """A library that reaches TPUs through libtpu, or a stand-in on the host's cores."""

    extra: ClassVar[str]
    """The extra of tpubench that installs it."""
    stand_in: ClassVar[str]
    """What runs it on the host's cores."""
    without_tpu: ClassVar[str]
    """What to do where there is no TPU."""
    shares_device: ClassVar[bool] = False
    open_timeout_s = 240.0
    symptoms = _tpu_faults.SYMPTOMS
    silence = _tpu_faults.SILENCE

    @abstractmethod
    def on_cpu(self) -> bool:
        """Whether the environment asks for the stand-in."""

    @property
    def accelerator(self) -> bool:
        return not self.on_cpu()

    def device_present(self) -> str | None:
        return "cpu" if self.on_cpu() else next(iter(_chips.tpus()), None)

    def float32_precision(self) -> str:
        # A TPU multiplies float32 in bfloat16 unless told otherwise; the stand-in never does.
        return "float32" if self.on_cpu() else super().float32_precision()

    def probe(self, python: Interpreter = OWN) -> Probe:
        versions = python.versions(self.packages)
        fix = f"pip install 'tpubench[{self.extra}]'"
        library = self.packages[0]
        if versions[library] is None:
            return Probe(available=False, detail=f"{library} is not installed", fix=fix)
        what = f"{library} {versions[library]}, torch {versions['torch']}"
        if self.on_cpu():
            return Probe(available=True, detail=f"the host's cores through {self.stand_in}, {what}")
        chips = _chips.tpus()
        if not chips:
            detail = f"no TPU on the PCI bus ({what})"
            return Probe(available=False, detail=detail, fix=self.without_tpu)
        if versions["libtpu"] is None:
            return Probe(available=False, detail="libtpu is not installed", fix=fix)
        return Probe(available=True, detail=f"{len(chips)} × {chips[0]}, {what}")

    def devices(self, chips: int) -> int:
        present = [] if self.on_cpu() else _chips.tpus()
        sheet = devices().get(present[0]) if present else None
        return chips * (sheet.devices_per_chip if sheet else 1)

    def one_chip(self, chips: int) -> dict[str, str]:
        """Variables by which libtpu leaves the other chips of the machine alone, if one is asked.

        Those of ``torch_xla._internal.tpu.configure_one_chip_topology``. What is set stays.
        """
        if chips > 1 or self.on_cpu():
            return {}
        return {name: os.environ.get(name, value) for name, value in _ONE_CHIP.items()}

    def physical_chips(self, devices_held: int) -> int:
        sheet = devices().get(self.device_name())
        return math.ceil(devices_held / (sheet.devices_per_chip if sheet else 1))
