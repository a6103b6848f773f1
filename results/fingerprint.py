"""Which machine, which libraries, which settings: recorded by an allow-list, never wholesale.

Two parts. ``fingerprint`` holds everything that must be equal before two rows may be gated
against each other; its SHA-256 is a column. ``host`` holds what a reader wants to know besides.
Nothing is copied from the environment, the command line or git remotes, so no secret can leak.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from tpubench.results import control_group, git

_GIT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GitState:
    """Commit of a working directory; both None outside a git checkout."""

    sha: str | None
    dirty: bool | None


def cpu_model() -> str:
    """Marketing name of the processor, or the machine type where the system gives none."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def last_level_cache_bytes() -> int | None:
    """Size of the largest cache that core 0 sees; None where the kernel does not say."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) * 1024)
    return max(sizes, default=None)


def usable_cores() -> int:
    """Cores that this process may use all the time: by its affinity, and its group's quota."""
    return control_group.whole_cores(len(os.sched_getaffinity(0)), control_group.cpu_quota())


def host() -> dict[str, str | int | float | None]:
    """What a reader wants to know of the machine, beside what must match."""
    return {
        "os": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": cpu_model(),
        "usable_cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "last_level_cache_bytes": last_level_cache_bytes(),
        "python_implementation": platform.python_implementation(),
    }


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def sha256(value: object) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def git_state(directory: Path) -> GitState:
    """Commit and cleanliness of ``directory``; unknown where there is no git or no checkout."""
    status = git.ask(
        *("status", "--porcelain=v2", "--branch", "--untracked-files=no"),
        directory=directory,
        timeout_s=_GIT_TIMEOUT_S,
    )
    lines = (status or "").splitlines()
    oid = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if oid == "(initial)":
        return GitState(sha=None, dirty=None)
    return GitState(sha=oid, dirty=any(not line.startswith("#") for line in lines))
