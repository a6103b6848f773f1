"""Where compilers keep what they have compiled, from one process to the next.

The folder may be deleted at any time: the next process compiles again. Its entries are keyed by the
compilers themselves, by source, shapes, device and versions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def folder(name: str) -> Path | None:
    """``compile/name`` in ``$TPUBENCH_CACHE``, else in the user's cache; None if not writable."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    root = Path(os.environ.get("TPUBENCH_CACHE") or Path(base) / "tpubench")
    path = root / "compile" / name
    try:
        # Compiled code is run as it is found: nobody else may put any there.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return None
    return path if os.access(path, os.W_OK | os.X_OK) else None


def inductor(name: str) -> Mapping[str, str]:
    """Variables by which torch.compile and Triton keep their programs."""
    path = folder(name)
    if path is None:
        return {}
    return {
        "TORCHINDUCTOR_CACHE_DIR": str(path / "inductor"),
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "1",
        "TRITON_CACHE_DIR": str(path / "triton"),
    }
