"""The GPUs that a process may see: the driver's own files, and the variables that hide some.

Where the driver's files are, no library is loaded and no device touched, so the parent can count
them. Sandboxed containers (gVisor) and WSL have none: there the driver's library is asked, and
where it is not to be had either, the device nodes are counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpubench.suite.backends import _nvml

_DRIVER, _NODES = Path("/proc/driver/nvidia"), Path("/dev")
_CUDA, _CONTAINER = "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU as the driver lists it. uuid: ``GPU-…``; empty where the driver does not tell."""

    name: str
    uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """What a process may see. hidden_by: the variable that chose, None where all are seen.

    mig: a MIG slice that was asked for, which is no whole GPU.
    """

    gpus: Sequence[Gpu]
    hidden_by: str | None = None
    mig: str | None = None


_UNNAMED = "unnamed GPU"


def present(driver: Path = _DRIVER, nodes: Path = _NODES) -> list[Gpu]:
    """The GPUs that the Nvidia driver holds, in the order of the bus; empty without the driver."""
    return _in_files(driver) or _by_library() or _by_nodes(nodes)


def _by_library() -> list[Gpu]:
    nvml = _nvml.library()
    if nvml is None:
        return []
    return [Gpu(name=name or _UNNAMED, uuid=uuid.lower()) for name, uuid in _nvml.gpus(nvml)]


def _by_nodes(nodes: Path) -> list[Gpu]:
    return [Gpu(name=_UNNAMED) for _ in nodes.glob("nvidia[0-9]*")]


def _in_files(driver: Path) -> list[Gpu]:
    gpus = []
    for path in sorted(driver.glob("gpus/*/information")):
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError:
            text = ""
        model = re.search(r"^Model:\s*(.+?)\s*$", text, re.M)
        uuid = re.search(r"^GPU UUID:\s*(GPU-[0-9a-fA-F-]+)\s*$", text, re.M)
        gpus.append(Gpu(name=model[1] if model else _UNNAMED, uuid=uuid[1].lower() if uuid else ""))
    return gpus


def visible(gpus: Sequence[Gpu], environment: Mapping[str, str], nodes: Path = _NODES) -> Visible:
    """Those of ``gpus`` that CUDA shows a process with these variables.

    The container's variable first, then CUDA's, by the rules of Nvidia's documents: numbers or
    beginnings of UUIDs; what follows the first unknown entry is not seen; an entry named twice
    hides all; an empty value of CUDA's hides all, of the container's none. Where device nodes are
    there after all, a container's ``void`` meant that another than its runtime brings them (CDI).
    """
    outer = environment.get(_CONTAINER, "")
    hidden_by = None
    if outer in ("none", "void"):
        if not _by_nodes(nodes):
            gpus, hidden_by = [], f"{_CONTAINER}={outer}"
    elif outer not in ("", "all"):
        chosen = _chosen(gpus, outer)
        # A container's runtime has hidden the others already; then the numbers are the host's.
        if len(chosen) == len(outer.split(",")) and len(chosen) < len(gpus):
            gpus, hidden_by = chosen, f"{_CONTAINER}={outer}"
    inner = environment.get(_CUDA)
    if inner is not None:
        hidden_by = f"{_CUDA}={inner}"
        mig = next((part for part in inner.split(",") if part.strip().startswith("MIG-")), None)
        if mig is not None:
            return Visible(gpus=[], hidden_by=hidden_by, mig=mig.strip())
        gpus = _chosen(gpus, inner)
    return Visible(gpus=list(gpus), hidden_by=hidden_by)


def _chosen(gpus: Sequence[Gpu], text: str) -> list[Gpu]:
    indices: list[int] = []
    for part in text.split(","):
        index = _index(gpus, part.strip())
        if index is None:
            break
        if index in indices:
            return []
        indices.append(index)
    return [gpus[index] for index in indices]


def _index(gpus: Sequence[Gpu], part: str) -> int | None:
    """The GPU that an entry names: as CUDA reads it, by the digits that it begins with."""
    if part.lower().startswith("gpu-"):
        matching = [i for i, gpu in enumerate(gpus) if gpu.uuid.startswith(part.lower())]
        return matching[0] if len(matching) == 1 else None
    digits = re.match(r"\+?(\d+)", part)
    if digits is None or int(digits[1]) >= len(gpus):
        return None
    return int(digits[1])
