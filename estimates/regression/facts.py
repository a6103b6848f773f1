"""Published rows as facts: the logarithm of a run's speed over what closed forms give.

Rows of one run that say the same thing twice (tokens/s and step time, a benchmark entered under
two names) are one fact.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from tpubench.estimates.problem import MeasuredLine, Problem
from tpubench.estimates.regression import features
from tpubench.estimates.roofline import physics
from tpubench.estimates.roofline.terms import Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What rows of one run say in common: the logarithm of their speed over the nominal one."""

    problem: Problem
    terms: Terms
    log_speed: float
    entries: tuple[MeasuredLine, ...]

    @property
    def source(self) -> str:
        """The source of its rows."""
        return self.problem.source


def log_speed(terms: Terms, value: float) -> float:
    """log of a measured value's speed over the nominal prediction's."""
    return log(value / terms.value()) * (1 if terms.rate else -1)


_SAME = {"train_tok_s_per_chip": "tokens", "step_time_s": "tokens", "flop_s_per_chip": "flops",
         "mfu": "flops", "hfu": "flops"}  # fmt: skip


def facts(entries: Sequence[MeasuredLine]) -> dict[str, list[Fact]]:
    """Facts by group of problems; rows that beat the hardware, or cannot be used, left out."""
    by_run: dict[tuple[str, ...], list[tuple[MeasuredLine, Problem, Terms, float]]] = defaultdict(
        list
    )
    for entry in entries:
        problem, value = entry.problem, entry.value
        if problem is None or value is None or physics.implausible(problem, value):
            continue
        terms = physics.terms(problem)
        by_run[_key(problem)].append((entry, problem, terms, log_speed(terms, value)))
    groups: dict[str, list[Fact]] = {name: [] for name in features.GROUPS}
    for rows in by_run.values():
        _, problem, terms, _ = rows[0]
        groups[features.group(problem)].append(
            Fact(
                problem=problem,
                terms=terms,
                log_speed=float(np.mean([row[3] for row in rows])),
                entries=tuple(row[0] for row in rows),
            )
        )
    return groups


def _key(problem: Problem) -> tuple[str, ...]:
    skip = {"metric", "shape", "work", "attention", "chip"}
    names = [f.name for f in dataclasses.fields(problem) if f.name not in skip]
    same = _SAME.get(problem.metric, problem.metric)
    values = (str(sorted(v) if isinstance(v := getattr(problem, n), frozenset) else v)
              for n in names)  # fmt: skip
    return (same, problem.chip.name, str(problem.chip.hbm_bytes_s), *values)


def run(fact: Fact) -> str:
    """The source, model, device and precision of a fact, in one word."""
    problem = fact.problem
    return f"{problem.source}|{problem.model}|{problem.chip.name}|{problem.precision}"
