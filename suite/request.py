"""What a user asks of a run, from words to values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tpubench.devices import prices
from tpubench.errors import UsageError
from tpubench.suite.config import executable
from tpubench.suite.timing import Pace

DEFAULT_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A run as asked for. None means: choose, and say why. UsageError for what makes no sense."""

    workload: str
    backend: str = "auto"
    preset: str | None = None
    overrides: Mapping[str, Sequence[str]] = field(default_factory=dict)
    repeats: int | None = None
    weights: Path | None = None
    prompt: str | None = None
    prompt_ids: tuple[int, ...] | None = None
    python: str | None = None
    compile_mode: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    chips: int = 1
    price: prices.Price | None = None
    seed: int | None = None
    pace: Pace | None = None
    """The backend's own, unless it is given."""

    def __post_init__(self) -> None:
        at_least_one(self.repeats)
        timeout(self.timeout_s)
        if self.chips < 1:
            raise UsageError(f"--chips {self.chips} is below 1")
        if self.prompt is not None and self.prompt_ids is not None:
            raise UsageError("give --prompt or --prompt-ids, not both")


def timeout(seconds: float | None) -> float:
    """Seconds a case may take; UsageError for a number that is none."""
    if seconds is None:
        return DEFAULT_TIMEOUT_S
    if not math.isfinite(seconds) or not 0 < seconds <= 1e7:
        raise UsageError(f"--timeout {seconds:g} is not a positive number of seconds")
    return seconds


def at_least_one(repeats: int | None) -> int | None:
    """Repetitions asked for; UsageError for none."""
    if repeats is not None and repeats < 1:
        raise UsageError(f"--repeats {repeats} is below 1")
    return repeats


def overrides(settings: Sequence[str]) -> dict[str, list[str]]:
    """Values by key of the ``--set`` options; UsageError for one that is not KEY=VALUE."""
    by_name: dict[str, list[str]] = {}
    for text in settings:
        key, equals, values = text.partition("=")
        key = key.strip()
        if not equals or not key or not values.strip():
            raise UsageError(f"--set {text!r}: write KEY=VALUE, e.g. --set batch=8")
        if key in by_name:
            raise UsageError(f"--set {key} is given twice: write --set {key}=1,8 to run both")
        by_name[key] = [value.strip() for value in values.split(",")]
    return by_name


def token_ids(text: str | None) -> tuple[int, ...] | None:
    """Ids of ``--prompt-ids``; UsageError for what is no list of whole numbers."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--prompt-ids {text!r}: write whole numbers, e.g. 1,2,3") from None


def interpreter(path: Path | None) -> str | None:
    """The interpreter of ``--python``; UsageError for a file that is none."""
    return None if path is None else executable(path, "--python")
