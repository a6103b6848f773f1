"""Accelerators on the PCI bus, found in files alone: no driver library, no device is touched."""

from __future__ import annotations

import re
from pathlib import Path

from tpubench.devices.names import of_pci

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = Path("/proc/driver/nvidia")


def tpus(bus: Path = _PCI) -> list[str]:
    """Canonical name of each TPU on the bus; empty where there is none."""
    found = []
    for folder in sorted(bus.glob("*")):
        name = of_pci(_word(folder / "vendor"), _word(folder / "device"))
        found += [name] if name else []
    return found


def nvidia_gpus(driver: Path = _NVIDIA) -> list[str]:
    """Marketing name of each GPU that the Nvidia driver holds; empty without the driver."""
    found = []
    for path in sorted(driver.glob("gpus/*/information")):
        model = re.search(r"^Model:\s*(.+?)\s*$", _text(path), re.M)
        found.append(model[1] if model else "unnamed GPU")
    return found


def _word(path: Path) -> str:
    return _text(path).strip().lower()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
