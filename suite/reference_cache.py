"""What references computed before: a disposable folder of tensors, keyed by all they depend on.

A float32 reference takes seconds to minutes and is the same for every repetition, so it is kept in
``references`` of the user's cache. Deleting the folder costs time and nothing else. An entry is a
file whose name is the digest of its key; it begins with the digest of its own content, so one that
was cut short or changed is computed again.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tpubench.results import cache_folder
from tpubench.results.fingerprint import canonical_json

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 2 * 2**30
"""The oldest entries go when the folder holds more."""
_DIGEST_BYTES = hashlib.sha256().digest_size


def folder() -> Path | None:
    """Where references are kept; it need not exist. None where there is no cache at all."""
    base = cache_folder.root()
    return None if base is None else base / "references"


class ReferenceCache:
    """Tensors on the CPU by key; a folder that is none, or cannot be written, remembers nothing."""

    def __init__(self, where: Path | None) -> None:
        self.where = where

    def recall(self, key: Mapping[str, object]) -> dict[str, Tensor] | None:
        """What was kept under ``key``; None when nothing was, or it is no longer whole."""
        import torch

        if self.where is None or not self.where.is_dir() or not cache_folder.usable(self.where):
            return None  # who else may write there could say what is right
        data = _read(self.where / _name(key))
        if data is None:
            return None
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            return None
        tensors: dict[str, Tensor] = torch.load(io.BytesIO(content), weights_only=True)
        return tensors if _whole(tensors) else None

    def keep(self, key: Mapping[str, object], tensors: Mapping[str, Tensor]) -> None:
        """Remember tensors under ``key``."""
        import torch

        if self.where is None or not _whole(tensors):
            return
        stream = io.BytesIO()
        torch.save({name: tensor.cpu().clone() for name, tensor in tensors.items()}, stream)
        content = stream.getvalue()
        if len(content) + _DIGEST_BYTES > MOST_BYTES:
            return
        partial = self.where / f".{secrets.token_hex(8)}"
        if not cache_folder.usable(self.where):
            return
        try:
            partial.write_bytes(hashlib.sha256(content).digest() + content)
            partial.replace(self.where / _name(key))
        except OSError:  # a full or read-only disk: computed again next time
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        self._prune(self.where)

    @staticmethod
    def _prune(where: Path) -> None:
        entries = sorted(cache_folder.files(where), key=lambda entry: entry[1])
        held = sum(size for size, _, _ in entries)
        for size, _, file in entries:
            if held <= MOST_BYTES:
                return
            held -= size
            with suppress(OSError):
                Path(file).unlink()


def _name(key: Mapping[str, object]) -> str:
    import torch

    text = canonical_json({**key, "torch": torch.__version__})
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> bytes | None:
    """A regular file of a size that is kept; None for anything else, a pipe above all."""
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            return None
        return file.read_bytes()
    except OSError:
        return None


def _whole(tensors: Mapping[str, Tensor]) -> bool:
    """Whether every value is a number: what spoilt a reference must not outlive its process."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors.values())
