"""The fit: published rows to facts, facts to corrections, and how far to trust them.

Rows of one run that say the same thing twice (tokens/s and step time, a benchmark entered under
two names) are one fact. Every figure of accuracy comes from facts that the prediction did not see:
whole sources held out, or random tenths of the facts.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from scipy.linalg import cho_solve

from tpubench.estimates.problem import Entry, Problem
from tpubench.estimates.regression import features, process
from tpubench.estimates.regression.process import Array, Fit
from tpubench.estimates.roofline import physics
from tpubench.estimates.roofline.terms import Terms

NORMAL_90 = 1.6449
"""Half-width of the 90 % interval of a normal variable, in standard deviations."""
FOLDS = 10
SEED = 20261122


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What rows of one run say in common: the logarithm of their speed over the nominal one."""

    problem: Problem
    terms: Terms
    log_speed: float
    entries: tuple[Entry, ...]

    @property
    def source(self) -> str:
        """The source of its rows."""
        return self.problem.source


def log_speed(terms: Terms, value: float) -> float:
    """log of a measured value's speed over the nominal prediction's."""
    return log(value / terms.value()) * (1 if terms.rate else -1)


_SAME = {"tokens_per_s_per_chip": "tokens", "step_time_s": "tokens", "tflops_per_chip": "flops",
         "mfu_pct": "flops", "hfu_pct": "flops"}  # fmt: skip


def facts(entries: Sequence[Entry]) -> dict[str, list[Fact]]:
    """Facts by group of problems; rows that beat the hardware, or cannot be used, left out."""
    found: dict[tuple[str, ...], list[tuple[Entry, Problem, Terms, float]]] = defaultdict(list)
    for entry in entries:
        problem, value = entry.problem, entry.value
        if problem is None or value is None or physics.implausible(problem, value):
            continue
        terms = physics.terms(problem)
        found[_key(problem)].append((entry, problem, terms, log_speed(terms, value)))
    groups: dict[str, list[Fact]] = {name: [] for name in features.GROUPS}
    for rows in found.values():
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


def learn(group: str, chosen: Sequence[Fact], *, start: Fit | None = None, steps: int = 60) -> Fit:
    """The corrections of one group of problems, from its facts."""
    expected = features.expected_sd_of_samples if group == "samples" else features.expected_sd
    divisions = [
        process.hold_out(1.0, [fact.source for fact in chosen]),
        process.hold_out(0.7, [_run(fact) for fact in chosen]),
    ]
    return process.learn(
        [features.design(f.problem, f.terms) for f in chosen],
        np.array([f.log_speed for f in chosen]),
        np.array([features.noise_class(f.problem) for f in chosen]),
        divisions,
        start=start,
        steps=steps,
        expected=expected,
    )


def _run(fact: Fact) -> str:
    problem = fact.problem
    return f"{problem.source}|{problem.model}|{problem.chip.name}|{problem.precision}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Predictions of facts by the other facts: error and stated deviation of the log speed."""

    error: Array
    sd: Array
    weights: Array
    """How much each fact counts: a source of n facts counts √n."""


def predict_held_out(fit: Fit, labels: Sequence[str]) -> HeldOut:
    """Each fact predicted from those of other labels, the deviations being those of the fit.

    Closed form by blocks of the inverse covariance (Rasmussen and Williams, equation 5.12).
    """
    inverse = cho_solve((fit.factor, True), np.eye(len(fit.y)))
    weights = process.hold_out(1.0, labels).weights
    error, variance = np.empty_like(fit.y), np.empty_like(fit.y)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.array(labels) == label)
        spread = np.linalg.inv(inverse[np.ix_(rows, rows)])
        error[rows] = spread @ fit.alpha[rows]
        own = np.diag(spread)
        usual = fit.noise[fit.classes[rows]] ** 2
        variance[rows] = own - usual / fit.weights[rows] + usual
    return HeldOut(error=error, sd=np.sqrt(np.maximum(variance, 1e-8)), weights=weights)


def folds(count: int) -> list[str]:
    """Random tenths, the same on every run."""
    return [str(i) for i in np.random.default_rng(SEED).integers(0, FOLDS, count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """From a stated deviation to one that covers: √((factor · sd)² + floor²)."""

    factor: float
    floor: float

    def apply(self, sd: Array) -> Array:
        """The calibrated deviations."""
        return np.asarray(np.sqrt((self.factor * sd) ** 2 + self.floor**2))


def calibrate(by_source: HeldOut, at_random: HeldOut) -> Calibration:
    """The narrowest pair whose 90 % interval covers 90 % of both kinds of held-out facts."""
    best, found = np.inf, Calibration(factor=1.0, floor=0.03)
    for factor in np.linspace(0.6, 2.0, 29):
        for floor in np.linspace(0.0, 0.15, 31):
            trial = Calibration(factor=float(factor), floor=float(floor))
            missed, width = 0.0, 0.0
            for held in (by_source, at_random):
                sd = trial.apply(held.sd)
                inside = np.abs(held.error) <= NORMAL_90 * sd
                covered = float(np.average(inside, weights=held.weights))
                missed += (covered - 0.9) ** 2
                width += float(np.mean(sd))
            loss = missed + 1e-3 * width
            if loss < best:
                best, found = loss, trial
    return found
