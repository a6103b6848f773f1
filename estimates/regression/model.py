"""The fitted model: what the fit stored, and predictions with their interval.

``parameters.json`` holds what was learned, readable: deviations of every component, effects with
intervals, calibration, and which data they rest on. ``parameters.npz`` holds the facts that the
regression conditions on (designs and logarithms of speed, no text of any source).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tpubench.errors import DamagedError
from tpubench.estimates.problem import Problem
from tpubench.estimates.regression import calibration, features, process
from tpubench.estimates.regression.calibration import Calibration
from tpubench.estimates.regression.process import DesignTable, Fit
from tpubench.estimates.roofline import physics
from tpubench.estimates.roofline.terms import Terms

PARAMETERS = Path(__file__).with_name("parameters.json")
FACTS = Path(__file__).with_name("parameters.npz")
FORMAT = 3

NEGLIGIBLE = 0.003
"""Deviation below which a component is not stored: 0.3 % of speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A predicted figure in the unit of its metric, with the ends of its 90 % interval."""

    value: float
    low: float
    high: float
    bound: str
    """The resource that takes the most time: compute, HBM, interconnect, overhead, request rate."""
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Fits by group of problems, and how far to trust them."""

    fits: Mapping[str, Fit]
    seen: Mapping[str, Mapping[str, frozenset[str]]]
    """Of each group the sources, families of software, devices and models that were fitted."""
    calibration: Calibration
    version: str
    """Date of the fit and the first digits of its data's hash."""

    def predict(self, problems: Sequence[Problem]) -> list[Prediction]:
        """Every problem's prediction, in order."""
        predictions: list[Prediction | None] = [None] * len(problems)
        for name in features.GROUPS:
            chosen = [i for i, p in enumerate(problems) if features.group(p) == name]
            for part in range(0, len(chosen), 2000):  # memory: rows × facts
                some = chosen[part : part + 2000]
                for i, each in zip(some, self._group(name, [problems[i] for i in some]),
                                   strict=True):  # fmt: skip
                    predictions[i] = each
        return [each for each in predictions if each is not None]

    def _group(self, name: str, problems: Sequence[Problem]) -> list[Prediction]:
        fit = self.fits[name]
        terms = [physics.terms(problem) for problem in problems]
        designs = [features.design(p, t) for p, t in zip(problems, terms, strict=True)]
        classes = np.array([features.noise_class(p) for p in problems], dtype=np.int64)
        classes = np.minimum(classes, len(fit.noise) - 1)
        mean, sd = fit.predict(process.tabulate(designs, fit.table), classes)
        at = [calibration.circumstance(problem, self.seen[name]) for problem in problems]
        below, above = self.calibration.reach(sd, at)
        return [
            prediction(problem, t, float(m), float(b), float(a))
            for problem, t, m, b, a in zip(problems, terms, mean, below, above, strict=True)
        ]


def prediction(
    problem: Problem, terms: Terms, log_speed: float, below: float, above: float
) -> Prediction:
    """The figure at a corrected speed, never faster than the hardware.

    ``below`` and ``above``: how far the interval of the logarithm of speed reaches.
    """
    value = terms.value(log_speed)
    ends = (terms.value(log_speed - below), terms.value(log_speed + above))
    low, high = min(ends), max(ends)
    limit = physics.limit(problem)
    if limit is not None and terms.rate:
        value, low, high = min(value, limit), min(low, limit), min(high, limit)
    elif limit is not None:
        value, low, high = max(value, limit), max(low, limit), max(high, limit)
    return Prediction(value=value, low=low, high=high, bound=terms.bound, terms=terms)


def save(model_fits: Mapping[str, Fit], summary: Mapping[str, Any], parameters: Path = PARAMETERS,
         facts: Path = FACTS) -> None:  # fmt: skip
    """Write what was learned; both files, the readable one last."""
    arrays: dict[str, Any] = {}
    for group, fit in model_fits.items():
        for name in fit.sd:
            if fit.sd[name] < NEGLIGIBLE:
                continue
            key = f"{group}/{name}"
            arrays[f"{key}/levels"] = fit.table.levels[name].astype(np.int16)
            arrays[f"{key}/values"] = fit.table.values[name].astype(np.float32)
            arrays[f"{key}/names"] = np.array(fit.table.names[name], dtype=np.str_)
            if name in fit.table.points:
                arrays[f"{key}/points"] = fit.table.points[name].astype(np.float32)
        arrays[f"{group}//y"] = fit.y.astype(np.float32)
        arrays[f"{group}//classes"] = fit.classes.astype(np.int8)
        arrays[f"{group}//weights"] = fit.weights.astype(np.float32)
    np.savez_compressed(facts, **arrays)
    parameters.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", "utf-8")


@functools.cache
def shipped() -> Model:
    """The model of this version of tpubench; DamagedError if its files were altered."""
    return load(PARAMETERS, FACTS)


def load(parameters: Path, facts: Path) -> Model:
    """A stored model; DamagedError for files that are missing, altered or of another version."""
    try:
        summary = json.loads(parameters.read_text(encoding="utf-8"))
        if summary["format"] != FORMAT:
            raise DamagedError(f"{parameters}: format {summary['format']}, expected {FORMAT}")
        with np.load(facts, allow_pickle=False) as arrays:
            fits = {g: _fit(g, summary["groups"][g], arrays) for g in features.GROUPS}
        return Model(
            fits=fits,
            seen={
                g: {n: frozenset(summary["groups"][g]["seen"][n]) for n in calibration.NEW}
                for g in features.GROUPS
            },
            calibration=Calibration(**summary["calibration"]),
            version=summary["version"],
        )
    except (OSError, ValueError, KeyError, TypeError, np.linalg.LinAlgError) as error:
        raise DamagedError(
            f"{parameters.name}: the fitted model cannot be read ({error})"
        ) from None


def _fit(group: str, stored: Mapping[str, Any], arrays: Any) -> Fit:
    sd = {n: float(v) for n, v in stored["sd"].items() if v >= NEGLIGIBLE}
    levels, values, points, names = {}, {}, {}, {}
    for name in sd:
        key = f"{group}/{name}"
        levels[name] = arrays[f"{key}/levels"].astype(np.int64)
        values[name] = arrays[f"{key}/values"].astype(np.float64)
        names[name] = [str(level) for level in arrays[f"{key}/names"]]
        if f"{key}/points" in arrays:
            points[name] = arrays[f"{key}/points"].astype(np.float64)
    y = arrays[f"{group}//y"].astype(np.float64)
    table = DesignTable(levels=levels, values=values, points=points, names=names, size=len(y))
    return process.assemble(
        table,
        y,
        arrays[f"{group}//classes"].astype(np.int64),
        arrays[f"{group}//weights"].astype(np.float64),
        sd,
        np.array(stored["noise"], dtype=np.float64),
    )
