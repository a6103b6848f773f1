"""Intervals that are true: errors on what was held out decide how wide they are."""

from __future__ import annotations

import numpy as np
import pytest

from tpubench.estimates.regression import calibration
from tpubench.estimates.regression.calibration import Circumstance, Errors

KNOWN = Circumstance(kind="training", tpu=False, first=False, new=frozenset())
FIRST = Circumstance(kind="serving", tpu=False, first=True, new=frozenset({"source"}))


def errors(error: calibration.Array, sd: float, at: Circumstance, source: str = "") -> Errors:
    count = len(error)
    return Errors(
        error=error,
        sd=np.full(count, sd),
        at=(at,) * count,
        scheme=("source",) * count,
        source=tuple(source or f"s{i % 40}" for i in range(count)),
    )


def covered(learned: calibration.Calibration, held: Errors) -> tuple[float, float]:
    """Shares of errors beyond the lower and the upper end."""
    below, above = learned.reach(held.sd, held.at)
    return float(np.mean(held.error < -below)), float(np.mean(held.error > above))


def test_each_circumstance_gets_the_width_that_it_needs() -> None:
    random = np.random.default_rng(1)
    well = errors(random.normal(size=2000) * 0.1, 0.1, KNOWN)
    badly = errors(random.normal(size=2000) * 0.5, 0.1, FIRST)
    learned = calibration.learn(well + badly)
    for held in (well, badly):
        for beyond in covered(learned, held):
            assert beyond == pytest.approx(1 - calibration.END, abs=0.03)


def test_an_interval_reaches_further_to_the_side_on_which_errors_lie() -> None:
    random = np.random.default_rng(2)
    slower = errors(-np.abs(random.normal(size=2000)) * 0.4, 0.1, FIRST)
    below, above = calibration.learn(slower).reach(slower.sd[:1], slower.at[:1])
    assert below[0] > 3 * above[0]


def test_a_large_source_does_not_decide_alone() -> None:
    random = np.random.default_rng(3)
    exact = errors(random.normal(size=4000) * 0.02, 0.1, KNOWN, source="large")
    others = errors(random.normal(size=400) * 0.3, 0.1, KNOWN)
    low, high = covered(calibration.learn(exact + others), others)
    assert low + high < 0.2


def test_little_evidence_moves_a_factor_little() -> None:
    random = np.random.default_rng(4)
    many = errors(random.normal(size=2000) * 0.1, 0.1, KNOWN)
    new = Circumstance(kind="training", tpu=True, first=False, new=frozenset({"chip"}))
    one = errors(np.array([0.11]), 0.1, new)
    learned = calibration.learn(many + one)
    assert abs(learned.faster["tpu"]) < 0.3 and abs(learned.faster["new chip"]) < 0.3


@pytest.mark.parametrize(("sources", "further"), [(3, 2.920 / 1.645), (12, 1.796 / 1.645)])
def test_a_source_that_is_new_is_one_more_draw_of_few(sources: int, further: float) -> None:
    """Quantiles of Student's t at 0.95 with two and eleven degrees of freedom, from tables."""
    random = np.random.default_rng(5)
    known = Circumstance(kind="serving", tpu=True, first=False, new=frozenset())
    new = Circumstance(kind="serving", tpu=True, first=False, new=frozenset({"source"}))
    held = [
        errors(random.normal(size=500) * 0.1, 0.1, known, source=f"s{i}") for i in range(sources)
    ]
    total = held[0]
    for one in held[1:]:
        total = total + one
    learned = calibration.learn(total)
    assert learned.sources == {"serving on a TPU": sources, "serving": sources}
    sd = np.array([0.1, 0.1])
    for end, factors in zip(
        learned.reach(sd, (known, new)), (learned.slower, learned.faster), strict=True
    ):
        assert end[1] / end[0] == pytest.approx(further * np.exp(factors["new source"]), rel=1e-3)
