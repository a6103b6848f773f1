"""Values out of a checkpoint's header: a file anyone may have written, so each is checked.

Whatever a header holds (a negative width, NaN, a string for a number, a million layers), reading
it ends in a value that fits or in one :class:`UsageError` naming the file and the key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tpubench.suite.workload import UsageError, read_bounded
from tpubench.workloads.llama.config import LlamaConfig

PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Suffixes of checkpoints that run code when they are read."""

MAX_COUNT = 2**26
"""Largest width, vocabulary or context believed; far above any published model."""

MAX_LAYERS = 4096

MAX_JSON_BYTES = 16 << 20
"""Far above any configuration or index of a supported model; parsed, it takes twenty times that."""

MIN_NUMBER, MAX_NUMBER = 1e-15, 1e15
"""Least and largest rotary base, scale or epsilon believed."""


def refused(path: Path, why: str) -> UsageError:
    """The error for a file that cannot be used: one line."""
    return UsageError(f"{path}: {why}")


def quoted(value: object) -> str:
    """A value out of a header as it may stand in a one-line message."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def one_line(error: Exception) -> str:
    """What a library says is wrong, fit for a one-line message."""
    return quoted(str(error)).strip("'\"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Header values by key. A key that is absent or null takes the default; None: it must be there.

    path: the file named in errors.
    prefix: what stands before every key in the file (GGUF: ``llama.``).
    """

    path: Path
    values: Mapping[str, object]
    prefix: str = ""

    def get(self, key: str) -> object:
        """The value as stored, or None."""
        return self.values.get(self.prefix + key)

    def error(self, key: str, why: str) -> UsageError:
        """The error for a key whose value cannot be used."""
        return refused(self.path, f"{self.prefix}{key} = {quoted(self.get(key))}: {why}")

    def count(self, key: str, default: int | None = None, maximum: int = MAX_COUNT) -> int:
        """A whole number from 1 to ``maximum``."""
        value = self._stored(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
            raise self.error(key, f"not a whole number from 1 to {maximum}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A number above zero, of a sensible size."""
        value = self._stored(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "not a number")
        if not MIN_NUMBER <= value <= MAX_NUMBER:  # NaN and infinity fail too
            raise self.error(key, "not a number above zero, of a sensible size")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._stored(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "neither true nor false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self._stored(key, default)
        if not isinstance(value, str):
            raise self.error(key, "not a string")
        return value

    def is_set(self, key: str) -> bool:
        """Whether the key holds anything but null, false, zero or nothing."""
        return bool(self.get(key))

    def _stored(self, key: str, default: object) -> object:
        value = self.get(key)
        if value is None:
            value = default
        if value is None:
            raise refused(self.path, f"{self.prefix}{key} is missing")
        return value


def is_file(path: Path) -> bool:
    """Whether there is a file of that name, or something that stands for one; never an error."""
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that name; never an error."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def read_json(path: Path) -> dict[str, object]:
    """A JSON file holding an object; UsageError when it cannot be read or holds something else."""
    try:
        value = json.loads(read_bounded(path, MAX_JSON_BYTES).decode("utf-8"))
    except OSError as error:
        raise refused(path, f"cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise refused(path, "not valid JSON: the file is damaged") from None
    if not isinstance(value, dict):
        raise refused(path, "does not hold a JSON object: the file is damaged")
    return value


def check_shape(path: Path, config: LlamaConfig) -> LlamaConfig:
    """The configuration, once its numbers agree with each other."""
    if config.n_heads % config.n_kv_heads:
        raise refused(
            path,
            f"{config.n_heads} query heads cannot share {config.n_kv_heads} key/value heads evenly",
        )
    if config.head_dim % 2:
        raise refused(path, f"head width {config.head_dim} is odd: rotary positions need pairs")
    scaling = config.rope_scaling
    if scaling is not None and scaling.high_freq_factor <= scaling.low_freq_factor:
        raise refused(path, "the rotary high_freq_factor is not above low_freq_factor")
    if scaling is not None and scaling.kind == "yarn":
        if config.rope_theta <= 1:
            raise refused(path, "yarn scaling needs a rotary base above 1")
        if scaling.fast_turns < scaling.slow_turns:
            raise refused(path, "the rotary beta_fast is below beta_slow")
    return config
