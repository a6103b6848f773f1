"""What a child says, believed only where it has the form and the sense of an answer.

The other end may be another version of this package, another program altogether, or a workload that
wrote to a descriptor that it found open.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tpubench.suite.job import Outcome

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_STATUSES = ("ok", "failed", "invalid")
_LONGEST_PHASE = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityMessage:
    """How far a side's output is from the reference."""

    error: float
    tolerance: float
    ok: bool
    name: str = "reference"
    """Which of the checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A module that a process has imported; see :mod:`tpubench.suite.duets.loaded`."""

    module: str
    file: str
    sha256: str | None
    installed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedMessage:
    """What a side of a duet says once it is warm; see :mod:`tpubench.suite.duets.child`."""

    warm_up_s: list[float]
    steadiness: str
    compile_s: float | None
    parity: ParityMessage | None
    device: str
    chips: int
    description: Mapping[str, Any]
    workload_version: int
    workload_sha256: str
    loaded: list[Loaded] | None = None
    """None from a version that does not say."""
    peak_memory_bytes: int | None = None
    free_memory_bytes: int | None = None


class NonsenseError(Exception):
    """A line that is no message: half of one, garbage, or values that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A phase that begins, with the seconds it may take; or the outcome, which is the last."""

    phase: str = ""
    expected_s: float | None = None
    outcome: Outcome | None = None


def parse(line: bytes) -> Message:
    """The message of a line; NonsenseError saying what is wrong with it, without quoting it."""
    message: Message = _validated(line, Message)
    if message.outcome is not None:
        _check(message.outcome)
    elif not (message.phase.isprintable() and 0 < len(message.phase) <= _LONGEST_PHASE):
        raise NonsenseError("it sent a message without a phase or an outcome")
    return message


def prepared(values: object) -> PreparedMessage:
    """What a side said of itself; NonsenseError for anything else."""
    side: PreparedMessage = _validated(json.dumps(values), PreparedMessage)
    _check_times(asdict(side))
    return side


def _validated(text: bytes | str, form: Any) -> Any:
    from pydantic import ValidationError

    try:
        return _form(form).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"][:2]))
        raise NonsenseError(f"it sent no message but {_kind(where, first['type'])}") from None


@cache
def _form(form: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(form)


def _kind(where: str, error: str) -> str:
    return f"{where}: {error.replace('_', ' ')}" if where else "garbage"


def _check(outcome: Outcome) -> None:
    """NonsenseError for an outcome that no run has."""
    if outcome.status not in _STATUSES:
        raise NonsenseError("it sent an outcome of unknown status")
    if outcome.status != "ok" and not outcome.reason:
        raise NonsenseError("it sent a failure without a reason")
    if outcome.status == "ok" and not outcome.device:
        raise NonsenseError("it sent a success without a device")
    if outcome.chips < 1 or outcome.hosts < 1:
        raise NonsenseError("it sent a number of chips or hosts below 1")
    _check_times(asdict(outcome))


def _check_times(values: Mapping[str, Any]) -> None:
    """NonsenseError for a time (``…_s``) that is none, or laps that do not have their marks."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            _check_times(value)
        elif name.endswith("_s") and not all(math.isfinite(t) and t >= 0 for t in _numbers(value)):
            raise NonsenseError(f"it sent {name} that are no times")
    laps, marks = values.get("laps_s"), values.get("marks")
    if laps is not None and marks is not None and any(len(lap) != len(marks) for lap in laps):
        raise NonsenseError("it sent passes that do not have its marks")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value
