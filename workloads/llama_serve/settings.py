"""What ``--set`` takes of ``llama-serve``: a rate may be a fraction, so these are read here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tpubench.suite.serving.service import Parameter, UsageError

PARAMETERS = {
    "request_rate": Parameter(default=0, doc="requests a second, Poisson; 0.5,1,2 runs all three"),
    "concurrency": Parameter(default=0, minimum=1, doc="requests in flight; 1,8,64 runs all three"),
    "input_len": Parameter(default=0, minimum=1, doc="tokens of a prompt; 0: the shape's"),
    "output_len": Parameter(default=0, minimum=2, doc="tokens of an answer; 0: the shape's"),
    "prefix_len": Parameter(default=-1, minimum=0, doc="tokens all share; -1: the shape's"),
    "requests": Parameter(default=0, minimum=1, doc="requests measured; 0: the shape's"),
    "warm_up": Parameter(default=-1, minimum=0, doc="requests before them; -1: the shape's"),
    "trace": Parameter(default="", doc="file of the trace shape"),
    "seed": Parameter(default=0, minimum=0, doc="seed of prompts and arrivals"),
}
MOST_RATE = 10_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values by key; None, or nothing, where the user said nothing."""

    request_rate: tuple[float, ...]
    concurrency: tuple[int, ...]
    input_len: int | None
    output_len: int | None
    prefix_len: int | None
    requests: int | None
    warm_up: int | None
    trace: Path | None
    seed: int


def parse(given: Mapping[str, Sequence[str]]) -> Settings:
    """The settings as typed; UsageError for an unknown key, or a value that does not fit."""
    for key in given:
        if key not in PARAMETERS:
            raise UsageError(
                f"llama-serve has no parameter {key!r}; it has {', '.join(PARAMETERS)}"
            )
    trace = _one(given, "trace")
    return Settings(
        request_rate=tuple(dict.fromkeys(_rate(text) for text in given.get("request_rate", []))),
        concurrency=tuple(
            dict.fromkeys(_count("concurrency", text) for text in given.get("concurrency", []))
        ),
        input_len=_counted(given, "input_len"),
        output_len=_counted(given, "output_len"),
        prefix_len=_counted(given, "prefix_len"),
        requests=_counted(given, "requests"),
        warm_up=_counted(given, "warm_up"),
        trace=None if trace is None else Path(trace),
        seed=_counted(given, "seed") or 0,
    )


def _one(given: Mapping[str, Sequence[str]], key: str) -> str | None:
    values = given.get(key, [])
    if len(values) > 1:
        raise UsageError(f"--set {key}: only request_rate and concurrency take several values")
    return values[0] if values else None


def _counted(given: Mapping[str, Sequence[str]], key: str) -> int | None:
    text = _one(given, key)
    return None if text is None else _count(key, text)


def _count(key: str, text: str) -> int:
    value = PARAMETERS[key].parse(key, text)
    assert isinstance(value, int)
    return value


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= MOST_RATE:
        raise UsageError(f"request_rate={text!r} is not a rate above 0, at most {MOST_RATE:g}")
    return rate
