"""Starts the two children, one that exports and one that compiles, and says how they ended.

Both load libraries that abort the process when something is wrong, so neither is loaded here. A
child that dies, hangs or finds a package missing is one clear line; the parent goes on.
"""

from __future__ import annotations

import json
import re
import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite import processes
from tpubench.suite.conversation import MOST_SAID_BYTES, CannotStartError, Conversation, FloodError

_MISSING = re.compile(r"No module named '?([\w.]+)")
_LOCKED = re.compile(r"libtpu multi-process lockfile|libtpu_lockfile", re.I)
_CAUSE = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Z]\w*(?:Error|Exception)): (.*)$", re.M)
_FATAL = re.compile(r"^F\d{4} [^\]]*\] (.*)$", re.M)

ENVIRONMENT = {
    # A plain import of torch would look for a TPU and load TorchTPU by itself.
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    # No TPU: nothing to ask the cloud's metadata server, which off the cloud never answers.
    "TPU_SKIP_MDS_QUERY": "1",
    # libtpu holds a lockfile for the whole machine, meant for the chips that are not used here.
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def ask(
    module: str,
    request: Mapping[str, Any],
    *,
    python: str | None,
    timeout_s: float,
    what: str,
) -> dict[str, Any]:
    """The answer of ``python -m module`` to ``request``, within ``timeout_s`` seconds.

    RunFailedError, one line with what to do, when it gives none or answers with an error;
    UsageError when it says that what is asked for cannot be.
    """
    environment = processes.environment(ENVIRONMENT)
    environment.pop("TPU_LIBRARY_PATH", None)
    with tempfile.TemporaryDirectory(prefix="tpubench-") as folder:
        answer = Path(folder) / "answer.json"
        command = processes.command(python, module, str(answer))
        try:
            child = Conversation.start(command, environment)
        except CannotStartError as error:
            raise RunFailedError(str(error)) from None
        with child:
            child.say(json.dumps(request).encode(), last=True)
            try:
                child.leave(timeout_s)
            except FloodError as error:
                raise RunFailedError(f"{what} failed: {error}") from None
            late = child.alive
        if late:
            raise RunFailedError(f"{what} took longer than {timeout_s:g} s: raise --timeout")
        if not answer.exists():
            raise RunFailedError(f"{what} failed: {_why(child.process.returncode, child.log)}")
        message = _read(answer, what)
    if "unusable" in message:  # what was asked for cannot be
        raise UsageError(message["unusable"])
    if "error" in message:
        raise RunFailedError(f"{what} failed: {message['error']}")
    return message


def _read(answer: Path, what: str) -> dict[str, Any]:
    """The child's answer; RunFailedError where it is none."""
    try:
        if answer.stat().st_size > MOST_SAID_BYTES:
            raise RunFailedError(f"{what} failed: its answer is over {MOST_SAID_BYTES >> 20} MiB")
        document = json.loads(answer.read_bytes())
    except (OSError, ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RunFailedError(f"{what} failed: its answer is garbage")
    return document


def _why(code: int, printed: str) -> str:
    """One line from how a child died and what it printed."""
    missing = _MISSING.search(printed)
    if missing:
        return f"its Python has no {missing[1]}: pip install 'tpubench[compile]' there"
    if _LOCKED.search(printed):
        return "another process holds libtpu's lockfile: end it, or wait for it"
    causes = _CAUSE.findall(printed)
    if causes:
        kind, message = causes[-1]
        return f"{kind}: {message[:200]}"
    fatal = _FATAL.search(printed)
    if code < 0:
        name = signal.Signals(-code).name
        hint = f": {fatal[1][:200]}" if fatal else ""
        return f"killed by {name}{hint}"
    return f"exit code {code}"
