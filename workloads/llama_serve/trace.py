"""A recorded trace: when each request came, how long it was, and what it shared with others.

JSON lines as the Mooncake project records them (kvcache-ai/Mooncake, FAST25-release/traces)::

    {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, …]}

timestamp: milliseconds. hash_ids: one for each 512 tokens of the prompt; equal ids are equal
tokens, so that what a cache of prefixes could save in the recording, it can save in the replay.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path

from tpubench.suite.serving.service import Ask, UsageError, open_regular
from tpubench.workloads.llama_serve import prompts

BLOCK = 512
"""Tokens behind one hash id."""
MOST_BYTES = 256 << 20
MOST_TOKENS = 10_000_000
"""Of one prompt or answer: no model takes more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One request of a trace."""

    at_s: float
    input_len: int
    output_len: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A whole file, in the order of time."""

    name: str
    sha256: str
    lines: tuple[Line, ...]


_read: dict[str, Trace] = {}


def read(path: Path) -> Trace:
    """The trace in a file; UsageError with the line of what makes no sense."""
    try:
        with open_regular(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise UsageError(f"{path} is larger than {MOST_BYTES >> 20} MiB")
    lines = [
        _line(f"{path}, line {number}", text)
        for number, text in enumerate(data.splitlines(), 1)
        if text.strip()
    ]
    if not lines:
        raise UsageError(f"{path} holds no request")
    trace = Trace(
        name=path.name,
        sha256=hashlib.sha256(data).hexdigest()[:16],
        lines=tuple(sorted(lines, key=lambda line: line.at_s)),
    )
    _read[trace.sha256] = trace
    return trace


def recalled(sha256: str) -> Trace:
    """A trace that was read before."""
    return _read[sha256]


def _line(where: str, text: bytes) -> Line:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{where} is no JSON") from None
    if not isinstance(said, dict):
        raise UsageError(f"{where} is no JSON object")
    stamp = said.get("timestamp")
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not math.isfinite(stamp):
        raise UsageError(f"{where}: timestamp is no number of milliseconds")
    lengths = []
    for key in ("input_length", "output_length"):
        value = said.get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MOST_TOKENS:
            raise UsageError(f"{where}: {key} is no count of tokens")
        lengths.append(value)
    blocks = said.get("hash_ids") or []
    if not isinstance(blocks, list) or not all(isinstance(each, int) for each in blocks):
        raise UsageError(f"{where}: hash_ids is no list of whole numbers")
    return Line(
        at_s=stamp / 1000, input_len=lengths[0], output_len=lengths[1], blocks=tuple(blocks)
    )


def asks(lines: tuple[Line, ...], rescaled_to: object, seed: int) -> list[Ask]:
    """The requests of the trace; ``rescaled_to``: at this mean rate, its bursts kept."""
    first = lines[0].at_s
    stretch = 1.0
    if isinstance(rescaled_to, int | float) and len(lines) > 1:
        span = lines[-1].at_s - first
        stretch = (len(lines) - 1) / rescaled_to / span if span > 0 else 1.0
    return [
        Ask(
            prompt=_prompt(line, seed, number),
            output_len=line.output_len,
            at_s=(line.at_s - first) * stretch,
        )
        for number, line in enumerate(lines)
    ]


def _prompt(line: Line, seed: int, number: int) -> tuple[int, ...]:
    """A block's tokens follow from its id; what no block covers is the request's own."""
    tokens: tuple[int, ...] = ()
    for block in line.blocks:
        tokens += prompts.ids(random.Random(f"{seed} block {block}"), BLOCK)
    own = max(0, line.input_len - len(tokens))
    return (tokens + prompts.ids(random.Random(f"{seed} request {number}"), own))[: line.input_len]
