"""What references computed before: a disposable folder of tensors, keyed by all they depend on.

A float32 reference takes seconds to minutes and is the same for every repetition, so it is kept in
``$XDG_CACHE_HOME/tpubench/references`` (``~/.cache`` without it). Deleting the folder costs time
and nothing else. An entry is a file whose name is the digest of its key; it begins with the digest
of its own content, so one that was cut short or changed is computed again.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.results.fingerprint import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 2 * 2**30
"""The oldest entries go when the folder holds more."""
_DIGEST_BYTES = hashlib.sha256().digest_size


def folder() -> Path:
    """Where references are kept; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base if base else Path.home() / ".cache") / "tpubench" / "references"


class ReferenceCache:
    """Tensors on the CPU by key; a folder that cannot be written remembers nothing."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def recall(self, key: Mapping[str, object]) -> dict[str, Tensor] | None:
        """What was kept under ``key``; None when nothing was, or it is no longer whole."""
        import torch

        try:
            data = self._file(key).read_bytes()
        except OSError:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        tensors: dict[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True)
        return tensors if _whole(tensors) else None

    def keep(self, key: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
        """Remember tensors under ``key``."""
        import torch

        if not _whole(tensors):
            return
        stream = io.BytesIO()
        torch.save({name: tensor.cpu().clone() for name, tensor in tensors.items()}, stream)
        content = stream.getvalue()
        try:
            self.where.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.where, delete=False) as file:
                file.write(hashlib.sha256(content).digest() + content)
            Path(file.name).replace(self._file(key))
            self._prune()
        except OSError:
            return  # a full or read-only disk: computed again next time

    def _file(self, key: Mapping[str, object]) -> Path:
        import torch

        text = canonical_json({**key, "torch": torch.__version__})
        return self.where / hashlib.sha256(text.encode()).hexdigest()

    def _prune(self) -> None:
        entries = sorted((file.stat().st_mtime, file) for file in self.where.iterdir())
        held = sum(file.stat().st_size for _, file in entries)
        for _, file in entries:
            if held <= MOST_BYTES:
                return
            held -= file.stat().st_size
            file.unlink(missing_ok=True)


def _whole(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every value is a number: what spoilt a reference must not outlive its process."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())
