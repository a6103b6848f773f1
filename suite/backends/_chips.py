"""Accelerators on the PCI bus, found in files alone: no driver library, no device is touched.

PCI ids of TPUs are those that torch_tpu 0.2.0 and torch_xla 2.9.0 scan for (read 2026-11-22).
"""

from __future__ import annotations

import re
from pathlib import Path

_PCI = Path("/sys/bus/pci/devices")
_NVIDIA = Path("/proc/driver/nvidia")
_GOOGLE = "0x1ae0"
_TPUS = {
    "0x0027": "tpu",  # v2 and v3 share an id: the generation is left open
    "0x005e": "tpu-v4",
    "0x0062": "tpu-v5p",
    "0x0063": "tpu-v5e",
    "0x006f": "tpu-v6e",
    "0x0076": "tpu-v7",
}


def tpus(bus: Path = _PCI) -> list[str]:
    """Canonical name of each TPU on the bus; empty where there is none."""
    found = []
    for folder in sorted(bus.glob("*")):
        if _word(folder / "vendor") == _GOOGLE:
            name = _TPUS.get(_word(folder / "device"))
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
