"""How wide an interval must be to be true, learned from errors on what was held out.

The regression states a deviation for each figure. Whether that is enough depends on what is new
about the figure: another row of a known run, a device nobody published, software of which nothing
is known. So facts are predicted from others in several ways (:data:`SCHEMES`), and the 95 % ends of
the errors, divided by the stated deviations, are fitted with a factor for each circumstance: a
quantile regression (Koenker and Bassett 1978), once for figures slower than predicted and once for
faster ones, since what goes wrong makes a program slower. Sources count alike, not rows, or the
largest would decide; a factor for which there is little evidence stays near 1.

The ends were learned from few sources, of TPUs that serve from four, and a source that nobody has
seen is one more draw: for it they reach further by as much as the quantile of Student's t, with one
degree of freedom less than there are sources, lies beyond the normal one ("Student" 1908; the
predictive interval of a sample of that size).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import norm, t

from tpubench.estimates.problem import Problem

Array = NDArray[np.float64]

NORMAL_90 = 1.6449
"""Half-width of the 90 % interval of a normal variable, in standard deviations."""
END = 0.95
"""Quantile at which either end is put."""
SCHEMES: Mapping[str, float] = {
    "fact": 2, "run": 1, "model": 1, "chip": 1, "generation": 1, "software": 1, "source": 3,
}  # fmt: skip
"""What is held out together, and how much it counts. Random tenths of the facts; the facts of one
source, model, device and precision; of a model, a device, a generation, a family of software, and
whole sources, which is what a reader's own figures are."""
NEW = ("source", "software", "chip", "model")
"""Of what a figure may be the first."""
TYPICAL_SD = 0.12
"""Deviation, in the logarithm, at which its factor is 1."""
NEARNESS = 0.01
"""Weight of keeping factors near 1, against the mean loss of all facts."""
SMOOTH = 0.05
"""Width over which the loss of quantile regression is rounded, in stated deviations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstance:
    """What decides by how much a stated deviation is off."""

    kind: str
    """training, offline, serving (a queue, or a latency limit) or images."""
    tpu: bool
    first: bool
    """Whether the figure is the time to a first token."""
    new: frozenset[str]
    """Which of :data:`NEW` no fitted fact shares."""


def kind(problem: Problem) -> str:
    """The class of a problem by which accuracy is told."""
    if problem.kind == "training":
        return "training"
    if problem.kind == "samples":
        return "images"
    limited = problem.scenario in {"mlperf-server", "mlperf-interactive"}
    return "serving" if limited or problem.kind in {"server", "concurrency"} else "offline"


def names(problem: Problem) -> dict[str, str]:
    """What a problem is an instance of, for each of :data:`NEW`."""
    return {
        "source": problem.source,
        "software": problem.software,
        "chip": problem.chip.name,
        "model": problem.model,
    }


def circumstance(problem: Problem, seen: Mapping[str, frozenset[str]]) -> Circumstance:
    """The circumstance of a problem, where facts of the names ``seen`` were fitted."""
    own = names(problem)
    return Circumstance(
        kind=kind(problem),
        tpu=problem.chip.is_tpu,
        first=problem.metric == "ttft_s",
        new=frozenset(name for name in NEW if own[name] not in seen[name]),
    )


FACTORS = (
    "all", "deviation", "training", "offline", "serving", "images", "tpu", "training on a TPU",
    "offline on a TPU", "serving on a TPU", "images on a TPU", "first token",
    "first token on a TPU", *(f"new {name}" for name in NEW),
    "deviation, training", "deviation, offline", "deviation, serving",
)  # fmt: skip
"""What is learned, for either end: logarithms of factors, and for ``deviation`` the power of the
stated one beyond the first, which each kind of run may have more or less of."""


def _row(sd: float, at: Circumstance) -> list[float]:
    kinds = ("training", "offline", "serving", "images")
    mine = [float(at.kind == each) for each in kinds]
    deviation = float(np.log(sd / TYPICAL_SD))
    return [
        1.0,
        deviation,
        *mine,
        float(at.tpu),
        *(each * at.tpu for each in mine),
        float(at.first),
        float(at.first and at.tpu),
        *(float(name in at.new) for name in NEW),
        *(deviation * each for each in mine[:3]),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of held-out facts: what the logarithm of speed was, less what was predicted."""

    error: Array
    sd: Array
    """Stated deviations."""
    at: tuple[Circumstance, ...]
    scheme: tuple[str, ...]
    source: tuple[str, ...]

    def __add__(self, more: Errors) -> Errors:
        return Errors(
            error=np.concatenate([self.error, more.error]),
            sd=np.concatenate([self.sd, more.sd]),
            at=self.at + more.at,
            scheme=self.scheme + more.scheme,
            source=self.source + more.source,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Logarithms of the factors of :data:`FACTORS`, for either end of an interval."""

    slower: Mapping[str, float]
    faster: Mapping[str, float]
    sources: Mapping[str, int]
    """Sources that the ends of each of :func:`classes` were learned from."""

    def reach(self, sd: Array, at: Sequence[Circumstance]) -> tuple[Array, Array]:
        """(below, above): how far the 90 % interval of the logarithm of speed reaches."""
        rows = np.array([_row(float(s), each) for s, each in zip(sd, at, strict=True)])
        few = np.array([self._few(each) for each in at])
        below, above = (
            few * sd * np.exp(np.clip(rows @ [end[name] for name in FACTORS], -3.0, 4.0))
            for end in (self.slower, self.faster)
        )
        return below, above

    def _few(self, at: Circumstance) -> float:
        known = self.sources.get(classes(at)[0], 0)
        return student(known) if "source" in at.new else 1.0


def classes(at: Circumstance) -> tuple[str, ...]:
    """Classes that a figure is one of, the narrowest first: its kind of run on TPUs, and on all."""
    return (f"{at.kind} on a TPU", at.kind) if at.tpu else (at.kind,)


def student(sources: int) -> float:
    """How much further an end must reach that was learned from so many sources, at least two."""
    return float(t.ppf(END, max(sources, 2) - 1) / norm.ppf(END))


def learn(errors: Errors) -> Calibration:
    """The factors of both ends."""
    rows = np.array([_row(float(s), each) for s, each in zip(errors.sd, errors.at, strict=True)])
    z, weights = errors.error / errors.sd, _weights(errors)
    ends = (_end(rows, -z, weights), _end(rows, z, weights))
    slower, faster = (
        {name: round(float(value), 3) for name, value in zip(FACTORS, end, strict=True)}
        for end in ends
    )
    pairs = zip(errors.at, errors.source, strict=True)
    both = {(name, source) for at, source in pairs for name in classes(at)}
    return Calibration(
        slower=slower, faster=faster, sources=Counter(name for name, _ in sorted(both))
    )


def _weights(errors: Errors) -> Array:
    """A source of n facts counts √n, a class √ of what its sources do, a scheme what it says."""
    classes = [(s, a.kind, a.tpu) for s, a in zip(errors.scheme, errors.at, strict=True)]
    sources = list(zip(classes, errors.source, strict=True))
    weights = 1 / np.sqrt(_totals(np.ones(len(sources)), sources))
    weights /= np.sqrt(_totals(weights, classes))
    weights *= [SCHEMES[s] for s in errors.scheme] / _totals(weights, errors.scheme)
    return np.asarray(weights / weights.sum())


def _totals(values: Array, labels: Sequence[object]) -> Array:
    """For each entry the sum of all with its label."""
    sums: dict[object, float] = {}
    for label, value in zip(labels, values, strict=True):
        sums[label] = sums.get(label, 0.0) + float(value)
    return np.array([sums[label] for label in labels])


def _end(rows: Array, z: Array, weights: Array) -> Array:
    """Coefficients with which exp(rows · coefficients) is the quantile :data:`END` of ``z``."""
    centre = np.zeros(rows.shape[1])
    centre[0] = np.log(NORMAL_90)
    near = np.full(len(centre), NEARNESS)
    near[0] = 0.0

    def loss(theta: Array) -> tuple[float, Array]:
        end = np.exp(np.clip(rows @ theta, -3.0, 4.0))
        beyond = (z - end) / SMOOTH
        value = END * (z - end) + SMOOTH * np.logaddexp(0.0, -beyond)
        slope = END - 1 / (1 + np.exp(np.clip(beyond, -50, 50)))
        away = theta - centre
        total = float(weights @ value) + 0.5 * float(near @ away**2)
        return total, -(rows.T @ (weights * slope * end)) + near * away

    return np.asarray(minimize(loss, centre, jac=True, method="L-BFGS-B").x)
