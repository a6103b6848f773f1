"""Starts the two children, one that exports and one that compiles, and says how they ended.

Both load libraries that abort the process when something is wrong, so neither is loaded here. A
child that dies, hangs or finds a package missing is one clear line; the parent goes on.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError, UsageError
from tpubench.suite import processes

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
        with tempfile.TemporaryFile() as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=environment,
                )
            except OSError as error:
                raise RunFailedError(f"cannot start {command[0]}: {error.strerror}") from None
            try:
                process.communicate(json.dumps(request).encode() + b"\n", timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise RunFailedError(
                    f"{what} took longer than {timeout_s:g} s: raise --timeout"
                ) from None
            finally:
                _kill(process)
            log.seek(0)
            printed = log.read().decode("utf-8", "replace")
        if not answer.exists():
            raise RunFailedError(f"{what} failed: {_why(process.returncode, printed)}")
        told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if "unusable" in told:  # what was asked for cannot be
        raise UsageError(told["unusable"])
    if "error" in told:
        raise RunFailedError(f"{what} failed: {told['error']}")
    return told


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
