"""The fit that ships comes from the tables in this repository, and its intervals are true.

The search for deviations takes a minute and is left to ``benchmarks/fit_estimates.py --check``; all
else is done again here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from tpubench.estimates.regression import calibration, features, fitting, model, process
from tpubench.estimates.regression.calibration import Errors
from tpubench.estimates.regression.facts import Fact

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import fit_estimates

Groups = dict[str, list[Fact]]


@pytest.fixture(scope="module")
def groups() -> Groups:
    return fit_estimates.read()


@pytest.fixture(scope="module")
def errors(groups: Groups) -> Errors:
    first, *more = (
        fitting.held_out_errors(model.shipped().fits[name], groups[name]) for name in groups
    )
    for some in more:
        first = first + some
    return first


def test_facts_and_designs_are_those_that_ship(groups: Groups) -> None:
    for name, facts in groups.items():
        fit = model.shipped().fits[name]
        assert np.allclose(fit.y, [fact.log_speed for fact in facts], atol=1e-5)
        assert list(fit.classes) == [features.noise_class(fact.problem) for fact in facts]
        table = process.tabulate([features.design(f.problem, f.terms) for f in facts], fit.table)
        for effect in fit.sd:
            assert np.array_equal(table.levels[effect], fit.table.levels[effect]), effect
            assert np.allclose(table.values[effect], fit.table.values[effect], atol=1e-4), effect


def test_the_data_are_those_that_the_fit_names() -> None:
    stored = json.loads(model.PARAMETERS.read_text(encoding="utf-8"))
    assert stored["data"] == [
        {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in fit_estimates.TABLES
    ]


def test_the_calibration_is_found_again(errors: Errors) -> None:
    again, ships = calibration.learn(errors), model.shipped().calibration
    for end in ("slower", "faster"):
        for name, factor in getattr(ships, end).items():
            assert getattr(again, end)[name] == pytest.approx(factor, abs=0.05), (end, name)


def test_a_group_of_problems_is_fitted_again(groups: Groups) -> None:
    again, ships = fitting.learn("samples", groups["samples"]), model.shipped().fits["samples"]
    for effect, sd in ships.sd.items():
        assert again.sd[effect] == pytest.approx(sd, rel=0.05, abs=0.003), effect


def test_nine_in_ten_of_a_source_held_out_lie_inside_in_every_class(errors: Errors) -> None:
    """For TPUs too. Effects are predicted without the source; deviations and calibration know it,
    so this is a floor: benchmarks/estimate_accuracy.py judges without."""
    below, above = model.shipped().calibration.reach(errors.sd, errors.at)
    inside = (errors.error >= -below) & (errors.error <= above)
    classes: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    for at, scheme, held in zip(errors.at, errors.scheme, inside, strict=True):
        if scheme == "source":
            classes[at.kind, at.tpu].append(bool(held))
    assert len(classes) == 8
    for name, held_ in classes.items():
        assert 0.85 <= np.mean(held_) <= 1.0, name
