"""What the kernel's control groups leave to this process: a share of the cores, of the memory.

A container with ``--cpus 2`` sees every core of its host and may use two of them; one with
``--memory 4g`` sees all memory and is killed at 4 GiB. Both hierarchies are read, version 2 (the
unified one) and version 1; the tightest limit of a group and those above it holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
_UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" by a number near 2⁶³."""


def cpu_quota(mount: Path = MOUNT, own: Path = OWN) -> float | None:
    """Cores' worth of time that this process may use; None for no limit.

    ``cpu.max`` (version 2), or ``cpu.cfs_quota_us`` over ``cpu.cfs_period_us`` (version 1).
    """
    quotas = []
    for folder in _groups("cpu", mount, own):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def free_memory_bytes(mount: Path = MOUNT, own: Path = OWN) -> int | None:
    """Memory that this process may still take before its group's limit; None for no limit.

    What files occupy and nobody uses is given back under pressure, and so counts as free.
    """
    left = []
    for folder in _groups("memory", mount, own):
        for most, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, held = _text(folder / most), _text(folder / used)
            if limit.isdigit() and held.isdigit() and int(limit) < _UNLIMITED_BYTES:
                left.append(max(0, int(limit) - int(held) + _inactive_files_bytes(folder)))
    return min(left, default=None)


def whole_cores(cores: int, quota: float | None) -> int:
    """Cores that can be used all the time: more threads would be stopped in turn."""
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def _groups(controller: str, mount: Path, own: Path) -> Iterator[Path]:
    """Folders of this process's group and of those above it, in either version."""
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:
            tops = [mount, mount / "unified"]
        elif controller in names.split(","):
            tops = [mount / names, mount / controller]
        else:
            continue
        parts = [part for part in path.split("/") if part not in {"", "..", "."}]
        for top in tops:
            for depth in range(len(parts) + 1):
                yield top.joinpath(*parts[:depth])


def _inactive_files_bytes(folder: Path) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdigit():
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
