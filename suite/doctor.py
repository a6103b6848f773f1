"""What this machine can run, and the exact command that would make it run more."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import UsageError
from tpubench.results import cache_folder, fingerprint
from tpubench.suite import config, registry
from tpubench.suite.interpreters import OWN

_PACKAGES = (
    "torch",
    "torch_xla",
    "torch_tpu",
    "libtpu",
    "gguf",
    "safetensors",
    "tokenizers",
    "pyarrow",
    "pandas",
    "matplotlib",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One backend: can it run here, and if not, what to type. Or a broken configuration file."""

    backend: str
    available: bool
    detail: str
    fix: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The whole machine."""

    findings: list[Diagnosis]
    host: dict[str, Any]
    python: str
    packages: dict[str, str | None]
    cache: str | None
    """Folder of all caches, each of which may be deleted at any time."""
    cache_bytes: dict[str, int]
    """Bytes of each."""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def examine() -> Examination:
    """Probe every backend; under a second each, and nothing is initialised."""
    findings = []
    try:
        configured = config.interpreters()
    except UsageError as error:
        configured = {}
        fix = "mend or remove that file"
        findings.append(
            Diagnosis(backend="configuration", available=False, detail=str(error), fix=fix)
        )
    unread = config.passed_over()
    if unread is not None:
        findings.append(
            Diagnosis(backend="configuration", available=False, detail=unread, fix=None)
        )
    for backend in registry.backends().values():
        probe = registry.probe(backend, configured.get(backend.name, OWN))
        findings.append(
            Diagnosis(
                backend=backend.name,
                available=probe.available,
                detail=probe.detail,
                fix=probe.fix,
            )
        )
    for fault in registry.faults():
        fix = "mend or uninstall it"
        findings.append(Diagnosis(backend="extension", available=False, detail=fault, fix=fix))
    root = cache_folder.root()
    return Examination(
        findings=findings,
        host=fingerprint.host(),
        python=platform.python_version(),
        packages=OWN.versions(_PACKAGES),
        cache=None if root is None else str(root),
        cache_bytes=_sizes(root),
    )


def _sizes(root: Path | None) -> dict[str, int]:
    """Bytes of each cache."""
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root else []
    except OSError:  # nothing was kept yet, or not here
        return {}
    return {path.name: cache_folder.size_bytes(path) for path in folders}
