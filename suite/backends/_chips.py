"""TPUs on the PCI bus, found in files alone: no driver library, no device is touched."""

from __future__ import annotations

from pathlib import Path

from tpubench.devices.names import of_pci

_PCI = Path("/sys/bus/pci/devices")


def tpus(bus: Path = _PCI) -> list[str]:
    """Canonical name of each TPU on the bus; empty where there is none."""
    names = []
    for folder in sorted(bus.glob("*")):
        name = of_pci(_word(folder / "vendor"), _word(folder / "device"))
        names += [name] if name else []
    return names


def _word(path: Path) -> str:
    return _text(path).strip().lower()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
