"""Device libraries that the tests run for real, each in an environment of its own.

``make test`` builds the environments and names their interpreters in the variables below; a plain
``pytest`` without them skips what needs them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
VARIABLES = {"xla": "TPUBENCH_TEST_XLA_PYTHON", "tpu": "TPUBENCH_TEST_TPU_PYTHON"}
_PLUGIN = "import lammps_jax_pjrt_cpu as p; print(list(p.__path__)[0])"
_TIMEOUT_S = 550


@dataclass(frozen=True, kw_only=True)
class Library:
    """One backend's interpreter, and the variables under which it runs on the host's cores."""

    backend: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def lines(self, script: str, *arguments: str, stdin: str = "") -> list[dict[str, Any]]:
        """The JSON lines that a script of ``in_child`` prints."""
        done = subprocess.run(
            [self.python, str(ROOT / "tests" / "suite" / "in_child" / script), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, **self.environment},
            check=False,
        )
        documents = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert done.returncode == 0, done.stderr[-3000:]
        return documents


def library(backend: str, folder: Path) -> Library:
    """The library of a backend; skips where ``make test`` has not named one."""
    python = os.environ.get(VARIABLES[backend])
    if not python:
        pytest.skip(f"{VARIABLES[backend]} is not set: make test builds that environment")
    python = str(Path(python).absolute())
    assert Path(python).exists(), f"{VARIABLES[backend]}={python} does not exist"
    environment = {
        "PYTHONPATH": str(ROOT / ".import"),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
        **(_pjrt_cpu() if backend == "xla" else _shimmed_plugin(python, folder)),
    }
    return Library(backend=backend, python=python, environment=environment)


def _pjrt_cpu() -> dict[str, str]:
    return {"PJRT_DEVICE": "CPU"}


def _shimmed_plugin(python: str, folder: Path) -> dict[str, str]:
    shim = folder / "libpjrt_shim.so"
    source = ROOT / "suite" / "backends" / "_pjrt_shim.c"
    _check(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"])
    package = Path(_check([python, "-c", _PLUGIN]).strip())
    return {
        "PJRT_SHIM_REAL": str(package / "pjrt_c_api_cpu_plugin.so"),
        "TPU_LIBRARY_PATH": str(shim),
        "TPUBENCH_TPU_PLUGIN": "cpu",
    }


def _check(command: Iterable[str]) -> str:
    return subprocess.run(list(command), capture_output=True, text=True, check=True).stdout
