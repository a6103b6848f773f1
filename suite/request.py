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
    """A run as asked for. None means: choose, and say why."""

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


def parse(
    *,
    workload: str,
    backend: str,
    preset: str | None,
    settings: Sequence[str],
    repeats: int | None,
    weights: Path | None,
    prompt: str | None,
    prompt_ids: str | None,
    python: Path | None,
    compile_mode: str | None,
    timeout_s: float,
    chips: int,
    price: prices.Price | None,
    seed: int | None,
) -> Request:
    """The request behind the options of ``tpubench run``; UsageError for what makes no sense."""
    at_least_one(repeats)
    timeout(timeout_s)
    if chips < 1:
        raise UsageError(f"--chips {chips} is below 1")
    if prompt is not None and prompt_ids is not None:
        raise UsageError("give --prompt or --prompt-ids, not both")
    return Request(
        workload=workload,
        backend=backend,
        preset=preset,
        overrides=overrides(settings),
        repeats=repeats,
        weights=weights,
        prompt=prompt,
        prompt_ids=None if prompt_ids is None else _ids(prompt_ids),
        python=None if python is None else executable(python, "--python"),
        compile_mode=compile_mode,
        timeout_s=timeout_s,
        chips=chips,
        price=price,
        seed=seed,
    )


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


def _ids(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--prompt-ids {text!r}: write whole numbers, e.g. 1,2,3") from None
