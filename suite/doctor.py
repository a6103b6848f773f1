"""What this machine can run, and the exact command that would make it run more."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from typing import Any

from tpubench.results import fingerprint
from tpubench.suite import registry

_PACKAGES = ("torch", "gguf", "safetensors", "tokenizers", "pyarrow", "pandas", "matplotlib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One backend: can it run here, and if not, what to type."""

    backend: str
    available: bool
    detail: str
    fix: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The whole machine."""

    findings: list[Finding]
    host: dict[str, Any]
    python: str
    packages: dict[str, str | None]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def examine() -> Examination:
    """Probe every backend; under a second each, and nothing is initialised."""
    findings = []
    for backend in registry.backends().values():
        found = backend.probe()
        findings.append(
            Finding(
                backend=backend.name,
                available=found.available,
                detail=found.detail,
                fix=found.fix,
            )
        )
    return Examination(
        findings=findings,
        host=fingerprint.host(),
        python=platform.python_version(),
        packages={name: _version(name) for name in _PACKAGES},
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
