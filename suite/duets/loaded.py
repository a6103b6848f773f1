"""Which files a process has really imported, told by the process itself.

Where a module comes from is decided by the path, by finders that editable installations bring, by
``.pth`` files and by what was imported before; only the process that ran it knows.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_LIBRARIES = ("site-packages", "dist-packages")


def report(names: Iterable[str]) -> list[dict[str, Any]]:
    """Each imported module that stands under a top-level name of ``names`` or is not installed.

    ``file`` as it was found, ``sha256`` of what stands there, ``installed``: in a library folder
    of this interpreter. Modules of the interpreter itself are left out unless named.
    """
    wanted = set(names)
    standard, libraries = _folders()
    modules = []
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not Path(file).exists():
            continue  # built in, or an object that only looks like a module (torch.classes)
        file = os.path.abspath(file)  # noqa: PTH100 — links stay as they are
        installed = file.startswith(libraries)
        own = name.partition(".")[0] in wanted
        if own or not (installed or file.startswith(standard)):
            record = {"module": name, "file": file, "sha256": _sha256(file), "installed": installed}
            modules.append(record)
    return modules


def _folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Folders of the standard library, and of what is installed; each ends in a separator."""
    paths = sysconfig.get_paths()
    libraries = {entry for entry in sys.path if os.path.basename(entry) in _LIBRARIES}  # noqa: PTH119
    libraries |= {paths["purelib"], paths["platlib"]}
    standard = {paths["stdlib"], paths["platstdlib"], str(Path(os.__file__).parent)}
    return tuple(f"{entry}/" for entry in standard), tuple(f"{entry}/" for entry in libraries)


def _sha256(file: str) -> str | None:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return None  # inside an archive, or gone
