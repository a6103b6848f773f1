"""The fit: facts to corrections, and how far to trust them.

Every figure of accuracy comes from facts that the prediction did not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve

from tpubench.estimates.regression import calibration, features, process
from tpubench.estimates.regression.calibration import Errors
from tpubench.estimates.regression.facts import Fact, run
from tpubench.estimates.regression.model import Model
from tpubench.estimates.regression.process import Array, Fit

TENTHS = 10
SEED = 20261122
STEPS = 12
"""Steps of the search for deviations: more of them suit the sources at hand, not new ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A group's corrections, and their errors on facts held out."""

    fit: Fit
    errors: Errors


def train(group: str, facts: Sequence[Fact]) -> Trained:
    """Fit a group, and hold its facts out in every way."""
    learned = learn(group, facts)
    return Trained(fit=learned, errors=held_out_errors(learned, facts))


def learn(group: str, facts: Sequence[Fact], *, steps: int = STEPS) -> Fit:
    """The corrections of one group of problems, from its facts."""
    expected = features.expected_sd_of_samples if group == "samples" else features.expected_sd
    divisions = [
        process.hold_out(1.0, [fact.source for fact in facts]),
        process.hold_out(0.7, [run(fact) for fact in facts]),
    ]
    return process.learn(
        [features.design(f.problem, f.terms) for f in facts],
        np.array([f.log_speed for f in facts]),
        np.array([features.noise_class(f.problem) for f in facts]),
        divisions,
        steps=steps,
        expected=expected,
    )


def seen(facts: Sequence[Fact]) -> dict[str, frozenset[str]]:
    """What facts are instances of: sources, software, devices, models."""
    own = [calibration.names(fact.problem) for fact in facts]
    return {name: frozenset(each[name] for each in own) for name in calibration.NEW}


def held_out(fit: Fit, labels: Sequence[str]) -> tuple[Array, Array]:
    """(error, stated deviation) of each fact, predicted from those of other labels.

    The deviations of the effects are those of the fit. Closed form by blocks of the inverse
    covariance (Rasmussen and Williams, equation 5.12).
    """
    inverse = cho_solve((fit.factor, True), np.eye(len(fit.y)))
    error, variance = np.empty_like(fit.y), np.empty_like(fit.y)
    for label in sorted(set(labels)):
        rows = np.flatnonzero(np.array(labels) == label)
        spread = np.linalg.inv(inverse[np.ix_(rows, rows)])
        error[rows] = spread @ fit.alpha[rows]
        own = np.diag(spread)
        usual = fit.noise[fit.classes[rows]] ** 2
        variance[rows] = own - usual / fit.weights[rows] + usual
    return error, np.sqrt(np.maximum(variance, 1e-8))


def tenths(count: int) -> list[str]:
    """Random tenths, the same on every run."""
    return [str(i) for i in np.random.default_rng(SEED).integers(0, TENTHS, count)]


def labels(scheme: str, facts: Sequence[Fact]) -> list[str]:
    """What a scheme of :data:`calibration.SCHEMES` holds out together."""
    if scheme == "fact":
        return tenths(len(facts))
    if scheme == "run":
        return [run(fact) for fact in facts]
    if scheme == "generation":
        return [fact.problem.chip.architecture for fact in facts]
    return [calibration.names(fact.problem)[scheme] for fact in facts]


def held_out_errors(fit: Fit, facts: Sequence[Fact]) -> Errors:
    """Errors of all facts of a group, held out in every way."""
    own = [calibration.names(fact.problem) for fact in facts]
    whole = {name: Counter(each[name] for each in own) for name in calibration.NEW}
    total: Errors | None = None
    for scheme in calibration.SCHEMES:
        groups = labels(scheme, facts)
        parts = {
            name: Counter(zip(groups, (each[name] for each in own), strict=True))
            for name in calibration.NEW
        }
        at = []
        for fact, mine, label in zip(facts, own, groups, strict=True):
            left = {
                name: frozenset(
                    {mine[name]} if whole[name][mine[name]] > parts[name][label, mine[name]] else ()
                )
                for name in calibration.NEW
            }
            at.append(calibration.circumstance(fact.problem, left))
        error, sd = held_out(fit, groups)
        some = Errors(
            error=error,
            sd=sd,
            at=tuple(at),
            scheme=(scheme,) * len(facts),
            source=tuple(fact.source for fact in facts),
        )
        total = some if total is None else total + some
    assert total is not None
    return total


def fit(
    facts: Mapping[str, Sequence[Fact]], version: str, kept: Mapping[str, Trained] | None = None
) -> Model:
    """The model of all groups of facts; ``kept`` are groups that need no new fit."""
    groups = {name: (kept or {}).get(name) or train(name, facts[name]) for name in features.GROUPS}
    errors, *more = (each.errors for each in groups.values())
    for some in more:
        errors = errors + some
    return Model(
        fits={name: each.fit for name, each in groups.items()},
        seen={name: seen(facts[name]) for name in groups},
        calibration=calibration.learn(errors),
        version=version,
    )
