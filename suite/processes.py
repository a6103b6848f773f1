"""How a child process is started: what it imports does not depend on where it was started.

``python -m`` puts the working directory first, and so does an empty entry of ``PYTHONPATH``: a
``json.py`` or a whole project lying there would be imported in place of what is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def command(python: str | None, module: str, *arguments: str) -> list[str]:
    """``python -P -m module arguments``; this interpreter when ``python`` is None."""
    return [python or sys.executable, "-P", "-m", module, *arguments]


def environment(*changes: Mapping[str, str]) -> dict[str, str]:
    """This process's variables and ``changes``, with a path that is safe for grandchildren too."""
    found = dict(os.environ)
    for change in changes:
        found |= change
    found["PYTHONSAFEPATH"] = "1"
    path = python_path(found.get("PYTHONPATH", ""))
    found.pop("PYTHONPATH", None)
    return found | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})


def python_path(text: str | None = None) -> list[str]:
    """Entries of ``PYTHONPATH`` that name a folder: an empty one means the working directory."""
    text = os.environ.get("PYTHONPATH", "") if text is None else text
    return [entry for entry in text.split(os.pathsep) if entry]
