"""Writes a wheel, so that pip can install something without a registry."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], needs: Sequence[str] = ()
) -> Path:
    """A wheel of pure Python (PEP 427): ``files`` by their path inside it."""
    info = f"{name}-{version}.dist-info"
    about = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    about += [f"Requires-Dist: {need}" for need in needs]
    kind = ["Wheel-Version: 1.0", "Generator: test", "Root-Is-Purelib: true", "Tag: py3-none-any"]
    held = {**files, f"{info}/METADATA": _lines(about), f"{info}/WHEEL": _lines(kind)}
    record = [f"{inside},sha256={_digest(text)},{len(text)}" for inside, text in held.items()]
    held[f"{info}/RECORD"] = _lines([*record, f"{info}/RECORD,,"])
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in held.items():
            archive.writestr(inside, text)
    return path


def _lines(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"


def _digest(text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return digest.decode().rstrip("=")
