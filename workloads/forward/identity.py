"""Which program a module is: what a remembered reference of it depends on.

A workload's own files say little about it where a library, or a package beside it that changes from
day to day, holds the model.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from tpubench.workloads.forward import Forward

_VERSIONED = frozenset({"torch", "tpubench"})
"""Their code is told by what else is in the key: torch's version, the workload's own files."""


def program_sha256(workload: Forward, module: nn.Module) -> str:
    """SHA-256 of the workload's name, of the module's parts, and of the code behind them.

    parts: the class, the forms of the tensors, and each plain attribute of every submodule. code:
    every file that is loaded of the packages in which those classes lie.
    """
    parts = [
        (
            name,
            f"{type(part).__module__}.{type(part).__qualname__}",
            [(key, list(p.shape)) for key, p in part.named_parameters(recurse=False)],
            [(key, list(b.shape)) for key, b in part.named_buffers(recurse=False)],
            [(key, repr(value)) for key, value in vars(part).items() if _is_plain(value)],
        )
        for name, part in module.named_modules()
    ]
    kind = type(workload)
    packages = {type(part).__module__.partition(".")[0] for part in module.modules()}
    packages.add(kind.__module__.partition(".")[0])
    identity = {
        "workload": [workload.name, kind.__module__, kind.__qualname__],
        "parts": parts,
        "code": _files(packages - _VERSIONED),
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _files(packages: set[str]) -> dict[str, str]:
    """SHA-256 of each loaded Python file of these packages, by module."""
    files = {}
    for name, module in sorted(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "")
        if name.partition(".")[0] in packages and path.suffix == ".py" and path.is_file():
            files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return files


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
