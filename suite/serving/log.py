"""The load generator's own log, request by request: what it sent when, and what came back.

AIPerf 0.13 writes one JSON object a request (``profile_export.jsonl``). Nothing but this log is
used of it: neither its averages nor its percentiles. Times are the generator's clock.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpubench.errors import RunFailedError
from tpubench.results.plain_text import one_line
from tpubench.results.regular_file import read_bounded, why

MOST_BYTES = 1 << 30
_LONGEST_ERROR = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one request. Times in seconds of one clock whose zero means nothing.

    issued_s: when its turn came. sent_s: when it was sent. first_s, last_s: when its first and its
    last token came. Tokens as the server counts them; None where it does not say.
    """

    number: int
    issued_s: float
    sent_s: float
    ended_s: float
    first_s: float | None = None
    last_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    gaps_s: tuple[float, ...] = ()
    """Between the chunks that came."""
    error: str | None = None


def name_of(number: int) -> str:
    """What the generator calls the request of that number."""
    return f"r{number:07d}"


def read(path: Path) -> list[Answer]:
    """The answers in the order in which they were asked for.

    A last line that was cut off is left out: the generator was ended while it wrote.
    RunFailedError for a log that is none.
    """
    try:
        lines = read_bounded(path, MOST_BYTES).split(b"\n")
    except OSError as error:
        raise RunFailedError(
            f"the load generator left no log of its requests: {why(error)}"
        ) from None
    answers = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            answer = _answer(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError):
            if number == len(lines):
                continue
            raise RunFailedError(
                f"line {number} of the load generator's log is not as AIPerf 0.13 writes it"
            ) from None
        if answer.number in answers:
            raise RunFailedError(f"the load generator sent request {answer.number} twice")
        answers[answer.number] = answer
    return [answers[number] for number in sorted(answers)]


def _answer(record: Mapping[str, Any]) -> Answer:
    about, metrics = record["metadata"], record["metrics"]
    sent_s = _seconds(about["request_start_ns"])
    ttft_s, e2e_s = (
        _number(metrics, name, 1e-3) for name in ("time_to_first_token", "request_latency")
    )
    return Answer(
        number=int(str(about["conversation_id"]).removeprefix("r")),
        issued_s=_seconds(about["credit_issued_ns"]),
        sent_s=sent_s,
        ended_s=_seconds(about["request_end_ns"]),
        first_s=None if ttft_s is None else sent_s + ttft_s,
        last_s=None if e2e_s is None else sent_s + e2e_s,
        input_tokens=_count(metrics, "usage_prompt_tokens"),
        output_tokens=_count(metrics, "usage_completion_tokens"),
        cached_tokens=_count(metrics, "usage_prompt_cache_read_tokens"),
        gaps_s=tuple(1e-3 * _finite(gap) for gap in _value(metrics, "inter_chunk_latency") or ()),
        error=_error(record, about),
    )


def _error(record: Mapping[str, Any], about: Mapping[str, Any]) -> str | None:
    error = record.get("error")
    if error:
        code, kind = error.get("code"), str(error.get("type") or "error")
        text = f"HTTP {code}" if isinstance(code, int) else kind
        return one_line(text)[:_LONGEST_ERROR]
    return "cancelled" if about.get("was_cancelled") else None


def _value(metrics: Mapping[str, Any], name: str) -> Any:
    entry = metrics.get(name)
    return None if entry is None else entry["value"]


def _number(metrics: Mapping[str, Any], name: str, scale: float) -> float | None:
    value = _value(metrics, name)
    return None if value is None else scale * _finite(value)


def _count(metrics: Mapping[str, Any], name: str) -> int | None:
    value = _value(metrics, name)
    return None if value is None else int(_finite(value))


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError
    return number


def _seconds(nanoseconds: Any) -> float:
    """From an integer, whose last digits a float of it would lose only below a microsecond."""
    return int(nanoseconds) / 1e9
