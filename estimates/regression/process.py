"""The regression behind the corrections: an additive Gaussian process of named components.

What the physical model misses is, in the logarithm, a sum of effects: of the device, of the
software, of a class of work on a device, a slope in the batch, a smooth function of the lengths
… Each is one :class:`Component` with its own standard deviation, learned by maximum marginal
likelihood with a weak prior; a level that was never seen has mean zero and keeps that deviation,
so that a prediction for it is both unmoved and less certain. (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, chapters 2 and 5; a categorical component is the random
effect of a mixed model.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

PRIOR_SPREAD = 0.4
"""Spread of each deviation's logarithm around what is expected of it. With some twenty sources
to choose eighty deviations from, what is expected must weigh: a wider prior fits the sources at
hand better and a new one worse."""
DEGREES = 4.0
"""Degrees of freedom of the noise: heavy tails, so that a misprint does not bend the fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One effect of one row: its level, and how strongly the row shows it."""

    level: str
    value: float = 1.0
    point: tuple[float, ...] | None = None
    """Where it lies, for a smooth effect; rows of one level then agree as far as they are near."""


Design = dict[str, Component]
"""Components of a row by name. A missing name means: no such effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignTable:
    """Designs of many rows as arrays, one entry a component name."""

    levels: dict[str, NDArray[np.int64]]
    values: dict[str, Array]
    points: dict[str, Array]
    names: dict[str, list[str]]
    """Levels of each component in the order of their codes."""
    size: int


def tabulate(designs: Sequence[Design], known: DesignTable | None = None) -> DesignTable:
    """Designs as arrays; with ``known``, in its codes, −1 for a level it does not have."""
    names = list(known.names) if known else sorted({n for d in designs for n in d})
    levels, values, points, order = {}, {}, {}, {}
    for name in names:
        codes = {level: i for i, level in enumerate(known.names[name])} if known else {}
        column: list[int] = []
        amount: list[float] = []
        place: list[tuple[float, ...] | None] = []
        for design in designs:
            part = design.get(name)
            if part is None:
                column.append(-2)
                amount.append(0.0)
                place.append(None)
                continue
            if not known:
                codes.setdefault(part.level, len(codes))
            column.append(codes.get(part.level, -1))
            amount.append(part.value)
            place.append(part.point)
        levels[name] = np.array(column, dtype=np.int64)
        values[name] = np.array(amount, dtype=np.float64)
        order[name] = list(codes)
        width = max((len(p) for p in place if p is not None), default=0)
        if known is not None:
            width = known.points[name].shape[1] if name in known.points else 0
        if width:
            filled = [p if p is not None and len(p) == width else (0.0,) * width for p in place]
            points[name] = np.array(filled, dtype=np.float64)
    return DesignTable(levels=levels, values=values, points=points, names=order, size=len(designs))


def covariance(name: str, a: DesignTable, b: DesignTable) -> Array:
    """Covariance of one component, at unit deviation, between the rows of two tables:
    [rows of a, rows of b]."""
    total = np.zeros((a.size, b.size))
    _add_covariance(total, 1.0, name, a, b)
    return total


def _add_covariance(
    total: Array, variance: float, name: str, a: DesignTable, b: DesignTable
) -> None:
    """Only rows of one level touch, so level by level: most blocks are small."""
    smooth = name in a.points and name in b.points
    rows_of = _rows_by_level(b.levels[name])
    for level, rows_a in _rows_by_level(a.levels[name]).items():
        rows_b = rows_of.get(level)
        if rows_b is None:
            continue
        block = variance * np.outer(a.values[name][rows_a], b.values[name][rows_b])
        if smooth:
            block *= _near(a.points[name][rows_a], b.points[name][rows_b])
        if len(rows_a) == a.size and len(rows_b) == b.size:
            total += block
        else:
            total[np.ix_(rows_a, rows_b)] += block


def _rows_by_level(levels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    order = np.argsort(levels, kind="stable")
    values, starts = np.unique(levels[order], return_index=True)
    parts = np.split(order, starts[1:])
    return {int(k): rows for k, rows in zip(values, parts, strict=True) if k >= 0}


def _near(a: Array, b: Array) -> Array:
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.asarray(np.exp(-0.5 * np.maximum(squared, 0.0)))


def own_variance(name: str, table: DesignTable) -> Array:
    """Variance of one component at unit deviation, [rows], also for levels never seen."""
    return np.where(table.levels[name] > -2, table.values[name] ** 2, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A fitted process: the rows it rests on, and the deviations that were learned."""

    table: DesignTable
    y: Array
    classes: NDArray[np.int64]
    """Noise class of each row."""
    weights: Array
    """Weight of each row's noise: below 1 for a row that lies far out."""
    sd: dict[str, float]
    """Standard deviation of each component, natural logarithm."""
    noise: Array
    """Standard deviation of the noise of each class."""
    factor: Array
    """Lower Cholesky factor of the rows' covariance."""
    alpha: Array

    def cross(self, table: DesignTable) -> Array:
        """Covariance of new rows with the rows of the fit: [rows of table, rows of the fit]."""
        total = np.zeros((table.size, self.table.size))
        for name, sd in self.sd.items():
            _add_covariance(total, sd**2, name, table, self.table)
        return total

    def predict(self, table: DesignTable, classes: NDArray[np.int64]) -> tuple[Array, Array]:
        """(mean, standard deviation) of new figures, noise included: each [rows of table], natural
        logarithms. classes: the noise class of each row."""
        cross = self.cross(table)
        mean = cross @ self.alpha
        solved = solve_triangular(self.factor, cross.T, lower=True)
        prior = sum(
            (sd**2 * own_variance(name, table) for name, sd in self.sd.items()),
            start=np.zeros(table.size),
        )
        variance = np.maximum(prior - (solved**2).sum(0), 1e-8)
        return mean, np.sqrt(variance + self.noise[classes] ** 2)

    def effects(self, name: str) -> list[tuple[str, float, float]]:
        """(level, mean, standard deviation) of every level of a component, at value 1."""
        levels = self.table.names[name]
        design = [{name: Component(level=level)} for level in levels]
        table = tabulate(design, self.table)
        cross = self.sd[name] ** 2 * covariance(name, table, self.table)
        mean = cross @ self.alpha
        solved = solve_triangular(self.factor, cross.T, lower=True)
        sd = np.sqrt(np.maximum(self.sd[name] ** 2 - (solved**2).sum(0), 0.0))
        return [(k, float(m), float(s)) for k, m, s in zip(levels, mean, sd, strict=True)]


def assemble(
    table: DesignTable,
    y: Array,
    classes: NDArray[np.int64],
    weights: Array,
    sd: dict[str, float],
    noise: Array,
) -> Fit:
    """The process of given deviations: nothing is learned here but the rows themselves.

    Of n rows: y [n], natural logarithms; classes [n], of noise; one deviation a component in
    ``sd``, one a class in ``noise``.
    """
    total = np.diag(noise[classes] ** 2 / weights)
    for name, deviation in sd.items():
        _add_covariance(total, deviation**2, name, table, table)
    factor = np.asarray(np.linalg.cholesky(total), dtype=np.float64)
    return Fit(
        table=table,
        y=y,
        classes=classes,
        weights=weights,
        sd=sd,
        noise=noise,
        factor=factor,
        alpha=cho_solve((factor, True), y),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A way to divide the rows into blocks, each predicted from all the others."""

    blocks: tuple[NDArray[np.int64], ...]
    weights: Array
    """How much each row counts."""


def hold_out(weight: float, labels: Sequence[str]) -> HeldOut:
    """One block a label. All blocks together count ``weight`` a row, a block of n rows as √n, so
    that no large source decides alone."""
    _, codes, counts = np.unique(
        np.array(labels, dtype=str), return_inverse=True, return_counts=True
    )
    each = weight * len(labels) / np.sqrt(counts).sum() / np.sqrt(counts)
    return HeldOut(
        blocks=tuple(np.flatnonzero(codes == i) for i in range(len(counts))), weights=each[codes]
    )


def learn(
    designs: Sequence[Design],
    y: Array,
    classes: NDArray[np.int64],
    held_out: Sequence[HeldOut],
    *,
    start: Fit | None = None,
    steps: int = 80,
    expected: Callable[[str], float],
) -> Fit:
    """Deviations for which held-out blocks are predicted best; then the fit itself.

    The loss is the negative logarithm of the density that the other rows give to each held-out
    figure, with Student's t in place of the normal so that a misprint does not bend the fit
    (cross-validation: Rasmussen and Williams, chapter 5.4.2; for blocks instead of single rows).
    ``expected`` gives the deviation that is expected of a component. Of n rows: y [n], natural
    logarithms of what was left unexplained; classes [n], of noise; each block covers all n.
    """
    table = tabulate(designs)
    names = list(table.names)
    parts = np.stack([covariance(name, table, table) for name in names]).astype(np.float32)
    count = int(classes.max()) + 1
    centre = np.log([expected(name) for name in names] + [0.05] * count)
    theta = centre.copy()
    if start is not None:
        for i, name in enumerate(names):
            if name in start.sd:
                theta[i] = np.log(max(start.sd[name], 1e-4))
        theta[len(names) :] = np.log(start.noise[:count])
    optimum = minimize(
        _loss, theta, args=(parts, y, classes, held_out, centre), jac=True, method="L-BFGS-B",
        bounds=[(-8.0, 1.0)] * len(names) + [(-4.0, 1.0)] * count,
        options={"maxiter": steps},
    )  # fmt: skip
    sd = {n: float(np.exp(t)) for n, t in zip(names, optimum.x, strict=False)}
    noise = np.exp(optimum.x[len(names) :])
    ones = np.ones(len(y))
    first = assemble(table, y, classes, ones, sd, noise)
    inverse = cho_solve((first.factor, True), np.eye(len(y)))
    ratio = first.alpha / np.sqrt(np.diag(inverse))  # left out alone, in its own deviations
    weights = np.clip((DEGREES + 1) / (DEGREES + ratio**2), 0.05, 1.0)
    return assemble(table, y, classes, weights, sd, noise)


def _loss(
    theta: Array,
    parts: NDArray[np.float32],
    y: Array,
    classes: NDArray[np.int64],
    held_out: Sequence[HeldOut],
    centre: Array,
) -> tuple[float, Array]:
    count = len(parts)
    squares = np.exp(2 * theta[:count])
    diagonal = np.exp(2 * theta[count:])[classes]
    total = np.tensordot(squares.astype(np.float32), parts, axes=1).astype(np.float64)
    total[np.diag_indices_from(total)] += diagonal + 1e-8
    inverse = cho_solve(cho_factor(total, lower=True), np.eye(len(y)))
    alpha = inverse @ y
    loss, inner = 0.0, np.zeros_like(inverse)
    for division in held_out:
        through, direction = np.empty_like(inverse), np.empty_like(inverse)
        error, variance = np.empty_like(y), np.empty_like(y)
        for rows in division.blocks:
            spread = np.linalg.inv(inverse[np.ix_(rows, rows)])
            error[rows], variance[rows] = spread @ alpha[rows], np.diag(spread)
            through[rows] = spread @ inverse[rows]
            direction[rows] = through[rows].T @ alpha[rows] - alpha
        variance = np.maximum(variance, 1e-8)
        ratio, weight = error**2 / variance, division.weights
        tails = 0.5 * (DEGREES + 1) * np.log1p(ratio / DEGREES) + 0.5 * np.log(variance)
        loss += float(weight @ tails)
        pull = weight * (DEGREES + 1) / (DEGREES + ratio)
        by_error = pull * error / variance
        by_variance = 0.5 * (weight - pull * ratio) / variance
        inner += through.T @ (by_error[:, None] * direction + by_variance[:, None] * through)
    flat = inner.astype(np.float32).ravel()
    slope = np.asarray(parts.reshape(count, -1) @ flat, dtype=np.float64) * 2 * squares
    own = np.diag(inner) * diagonal * 2
    slope_noise = np.bincount(classes, weights=own, minlength=len(theta) - count)
    away = (theta - centre) / PRIOR_SPREAD
    loss += 0.5 * float(away @ away)
    gradient = np.concatenate([slope, slope_noise]) + away / PRIOR_SPREAD
    return loss, gradient
