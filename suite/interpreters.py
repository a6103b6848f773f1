"""Which Python runs a backend's children, and what is installed there.

torch_xla and TorchTPU need different versions of torch, so each may live in an environment of its
own; only its versions are asked for here, nothing of it is imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from tpubench.errors import UsageError
from tpubench.suite import processes
from tpubench.suite.conversation import CannotStartError, Conversation, FloodError

_ASK = """
import importlib.metadata, json, os, sys
*names, descriptor = sys.argv[1:]
found = {}
for name in names:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
os.write(int(descriptor), json.dumps(found).encode() + b"\\n")
"""
_ASK_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A Python interpreter; ``path`` None is the one that runs now."""

    path: str | None = None

    @property
    def command(self) -> str:
        """What to start."""
        return self.path or sys.executable

    def versions(self, packages: Iterable[str]) -> dict[str, str | None]:
        """Installed version of each package; None for one that is not there.

        UsageError when the interpreter does not answer.
        """
        wanted = tuple(packages)
        return _own(wanted) if self.path is None else dict(_asked(self.path, wanted))


OWN = Interpreter()


def _own(packages: tuple[str, ...]) -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


@cache
def _asked(path: str, packages: tuple[str, ...]) -> dict[str, str | None]:
    command = [path, "-P", "-c", _ASK, *packages]
    try:
        with Conversation.start(command, processes.environment()) as child:
            line = child.line(time.monotonic() + _ASK_TIMEOUT_S)
        answer = json.loads(line or b"")
    except (CannotStartError, TimeoutError, FloodError, ValueError, RecursionError):
        answer = None
    known = isinstance(answer, dict) and answer.keys() == set(packages)
    if not known or not all(v is None or isinstance(v, str) for v in answer.values()):
        raise UsageError(f"{path} does not answer as a Python interpreter (3.11 or newer)")
    versions: dict[str, str | None] = answer
    return versions
