"""The regression: closed forms against doing it the long way."""

from __future__ import annotations

import numpy as np
import pytest

from tpubench.estimates.regression import fitting, process
from tpubench.estimates.regression.process import Component, Design


def toy(count: int = 40) -> tuple[list[Design], process.Array, np.ndarray, list[str]]:
    random = np.random.default_rng(0)
    designs: list[Design] = [
        {
            "group": Component(level=str(i % 4)),
            "slope": Component(level="all", value=float(random.normal())),
            "smooth": Component(level="all", point=(float(random.normal()),)),
        }
        for i in range(count)
    ]
    effect = random.normal(size=4) * 0.3
    y = np.array([effect[i % 4] for i in range(count)]) + random.normal(size=count) * 0.05
    return designs, y, np.array([i % 2 for i in range(count)]), [str(i % 5) for i in range(count)]


def test_gradient_of_the_loss() -> None:
    designs, y, classes, labels = toy()
    table = process.tabulate(designs)
    parts = np.stack([process.covariance(n, table, table) for n in table.names])
    held = [process.hold_out(1.0, labels), process.hold_out(0.5, [str(i) for i in range(len(y))])]
    theta, centre = np.array([-1.0, -1.5, -0.7, -1.2, -0.9]), np.full(5, -2.0)
    parts32 = parts.astype(np.float32)
    _, gradient = process._loss(theta, parts32, y, classes, held, centre)
    for i in range(5):
        step = np.eye(5)[i] * 1e-3
        up = process._loss(theta + step, parts32, y, classes, held, centre)[0]
        down = process._loss(theta - step, parts32, y, classes, held, centre)[0]
        assert gradient[i] == pytest.approx((up - down) / 2e-3, rel=1e-2, abs=1e-2)


def test_held_out_predictions_are_those_of_a_fit_without_the_block() -> None:
    designs, y, classes, labels = toy()
    sd = {"group": 0.3, "slope": 0.1, "smooth": 0.2}
    noise, ones = np.array([0.05, 0.1]), np.ones(len(y))
    fit = process.assemble(process.tabulate(designs), y, classes, ones, sd, noise)
    error, stated = fitting.held_out(fit, labels)
    out = np.array([label == "3" for label in labels])
    kept = [d for d, o in zip(designs, out, strict=True) if not o]
    table = process.tabulate(kept)
    rest = process.assemble(table, y[~out], classes[~out], ones[~out], sd, noise)
    left = [d for d, o in zip(designs, out, strict=True) if o]
    mean, spread = rest.predict(process.tabulate(left, table), classes[out])
    assert error[out] == pytest.approx(y[out] - mean, abs=1e-8)
    assert stated[out] == pytest.approx(spread, rel=1e-6)


def test_a_level_never_seen_is_not_moved_and_less_certain() -> None:
    designs, y, classes, labels = toy()
    fit = process.learn(
        designs, y, classes, [process.hold_out(1.0, labels)], steps=10, expected=lambda _: 0.2
    )
    new: list[Design] = [{"group": Component(level=level)} for level in ("1", "unheard of")]
    mean, sd = fit.predict(process.tabulate(new, fit.table), np.array([0, 0]))
    assert mean[1] == pytest.approx(0.0)
    assert sd[1] > sd[0]
    assert sd[1] == pytest.approx(np.hypot(fit.sd["group"], fit.noise[0]), rel=1e-3)


def test_effects_come_with_their_uncertainty() -> None:
    designs, y, classes, labels = toy()
    fit = process.learn(
        designs, y, classes, [process.hold_out(1.0, labels)], steps=10, expected=lambda _: 0.2
    )
    truth = [np.mean([v for i, v in enumerate(y) if i % 4 == k]) for k in range(4)]
    for level, mean, sd in fit.effects("group"):
        assert mean == pytest.approx(truth[int(level)], abs=4 * sd + 0.05)
        assert 0 < sd < fit.sd["group"]


def test_a_block_counts_as_the_root_of_its_rows() -> None:
    held = process.hold_out(1.0, ["a"] * 9 + ["b"])
    assert held.weights.sum() == pytest.approx(10)
    assert held.weights[:9].sum() == pytest.approx(3 * held.weights[9])
