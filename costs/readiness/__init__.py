"""How ready the software of a device is, from evidence: rows with source and date for a plan.

Three kinds of evidence, each with its own meaning:

- *support*: what a serving engine's own nightly tests say of a model on a device
  (``support.csv``): whether it runs, whether its answers are right, whether it reaches the rate
  that the project asks of it;
- *pair*: two published rates of one model on one chip, by two software stacks, per FLOP;
- *runs*: of the same programs, how many ran on a backend here, fell back to the host or compiled
  again, or were refused (``runs.csv``, written by ``benchmarks/workload_table.py``).
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, cast, get_args

from tpubench.errors import UsageError

State = Literal["passing", "failing", "untested", "no-memory"]
Kind = Literal["support", "pair", "runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """One model on one device with one engine, as the engine's nightly tests left it."""

    device: str
    software: str
    model: str
    unit: State
    accuracy: State
    benchmark: State
    source: str
    read: dt.date


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """One row: the share of a throughput that the software reaches.

    value: None where the evidence does not say, and ``why`` says what is known.
    """

    kind: Kind
    device: str
    software: str
    model: str
    value: float | None
    why: str
    source: str
    date: dt.date


@cache
def support() -> tuple[Support, ...]:
    """Every line of the support matrices."""
    return tuple(
        Support(
            device=line["device"],
            software=line["software"],
            model=line["model"],
            unit=_state(line["unit"]),
            accuracy=_state(line["accuracy"]),
            benchmark=_state(line["benchmark"]),
            source=line["source"],
            read=dt.date.fromisoformat(line["read"]),
        )
        for line in _lines("support.csv")
    )


@cache
def rows() -> tuple[Readiness, ...]:
    """Every row of readiness, from support matrices, published pairs and runs."""
    return (*(_of_support(line) for line in support()), *_stored("pairs.csv"), *_stored("runs.csv"))


def readiness_of(device: str, software: str, model: str) -> Readiness:
    """The row of a model on a device; UsageError where there is none, or it gives no number.

    ``model`` may leave out the organisation before the slash.
    """
    mine = [row for row in rows() if row.device == device and row.software == software]
    if not mine:
        known = sorted({f"{row.software} on {row.device}" for row in rows()})
        raise UsageError(f"no readiness of {software} on {device}; there is {', '.join(known)}")
    named = [row for row in mine if model.lower() in (row.model.lower(), _short(row.model))]
    if not named:
        models = ", ".join(sorted(row.model for row in mine if row.value is not None)[:8])
        raise UsageError(f"no readiness of {model!r} with {software} on {device}; e.g. {models}")
    (row, *_) = named
    if row.value is None:
        raise UsageError(f"readiness of {row.model} with {software} on {device}: {row.why}")
    return row


def base_rate(device: str, software: str) -> tuple[int, int]:
    """Models that reach the rate asked of them, and models whose rate was tested."""
    tested = [
        line.benchmark
        for line in support()
        if (line.device, line.software) == (device, software)
        and line.benchmark in {"passing", "failing"}
    ]
    return tested.count("passing"), len(tested)


def _of_support(line: Support) -> Readiness:
    """Wrong answers and no memory serve nothing; right ones at the rate asked for, all of it.

    Right answers whose rate nobody tested count as the device's models that were tested do.
    """
    passed, tested = base_rate(line.device, line.software)
    states = (line.unit, line.accuracy)
    value: float | None = None
    if "no-memory" in (*states, line.benchmark):
        value, why = 0.0, "does not fit the memory of the slice that was tested"
    elif "failing" in states:
        value, why = 0.0, "its tests fail: it does not run, or answers wrongly"
    elif "untested" in states:
        why = "untested; write a number and where it comes from"
    elif line.benchmark == "passing":
        value, why = 1.0, "runs, answers rightly and reaches the rate asked for"
    elif line.benchmark == "failing":
        why = "runs and answers rightly, below the rate asked for, and by how much is not told"
    else:
        value = passed / tested if tested else None
        why = f"runs and answers rightly; of {tested} models tested there {passed} reach their rate"
    return Readiness(
        kind="support",
        device=line.device,
        software=line.software,
        model=line.model,
        value=value,
        why=why,
        source=line.source,
        date=line.read,
    )


def _stored(name: str) -> Iterator[Readiness]:
    for line in _lines(name):
        assert line["kind"] in ("pair", "runs"), line["kind"]
        yield Readiness(
            kind=cast(Kind, line["kind"]),
            device=line["device"],
            software=line["software"],
            model=line["model"],
            value=float(line["value"]),
            why=line["why"],
            source=line["source"],
            date=dt.date.fromisoformat(line["date"]),
        )


def _lines(name: str) -> list[dict[str, str]]:
    with Path(__file__).with_name(name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _state(text: str) -> State:
    assert text in get_args(State), text
    return cast(State, text)


def _short(model: str) -> str:
    """The name after the organisation."""
    return model.lower().partition("/")[2]
