"""What each accelerator could still gain at given prices of the limits that all share."""

from __future__ import annotations

import time

import numpy as np

from tpubench.costs.allocation.linear import LinearSolution, solve_rows
from tpubench.costs.allocation.model import Model
from tpubench.costs.allocation.problem import Floats, Ints

NOTHING = 1e-9
USED = 1e-7


def price_out(
    full: Model, model: Model, solution: LinearSolution, deadline: float
) -> tuple[float, np.ndarray]:
    """Sum of the gains of all accelerators (≤ 0, the objective's units), and the pairs they use.

    −inf when ``deadline`` passes before every accelerator was asked: then there is no bound.
    """
    problem = full.problem
    n = full.shared_rows
    duals = solution.row_duals[:n].copy()
    capacity = _capacity_rows(full)
    rent_prices = duals[capacity]
    duals[capacity] = 0.0
    reduced = full.cost - full.matrix[:n].T @ duals
    held = _spread(full, model, solution.x)
    in_model = np.zeros(len(problem.pair_a), dtype=bool)
    in_model[model.pairs] = True
    wanted = np.zeros(len(problem.pair_a), dtype=bool)
    total = 0.0
    for a in range(len(problem.accelerators)):
        pairs = np.flatnonzero(problem.pair_a == a)
        if in_model[pairs].all():
            continue
        columns = _columns_of(full, a, pairs)
        rows = capacity[a].ravel()
        if _cannot_gain(full, pairs[~in_model[pairs]], reduced, rows, rent_prices[a].ravel()):
            continue
        if time.monotonic() > deadline:
            return -np.inf, wanted
        ports = full.port_rows(pairs)
        block = full.matrix[np.concatenate([rows, ports])][:, columns]
        limits = np.concatenate([rows, ports])
        best = solve_rows(
            reduced[columns],
            block,
            (full.row_low[limits], full.row_high[limits]),
            (full.low[columns], full.high[columns]),
            deadline - time.monotonic(),
        )
        if best is None:
            return -np.inf, wanted
        gain = best.objective - float(reduced[columns] @ held[columns])
        if gain < -NOTHING:
            total += gain
            x = np.zeros(full.columns.count)
            x[columns] = best.x
            use = full.columns.use_pys[pairs]
            wanted[pairs] |= np.where(use >= 0, x[use], 0.0).max(axis=(1, 2)) > USED
    return total, wanted


def _capacity_rows(full: Model) -> Ints:
    first = full.problem.demand_wys.size
    shape = full.columns.rent_ays.shape
    return np.arange(first, first + int(np.prod(shape))).reshape(shape)


def _columns_of(full: Model, a: int, pairs: Ints) -> Ints:
    families = [
        full.columns.buy_ay[a],
        full.columns.commit_ky[full.problem.commit_a == a],
        full.columns.rent_ays[a],
        full.columns.port_p[pairs],
        full.columns.use_pys[pairs],
    ]
    index = np.concatenate([family.ravel() for family in families])
    return np.asarray(index[index >= 0])


def _cannot_gain(full: Model, left_out: Ints, reduced: Floats, rows: Ints, prices: Floats) -> bool:
    """Whether the pairs left out lose money at the restricted program's own capacity prices."""
    use = full.columns.use_pys[left_out]
    flat = np.where(use >= 0, use, 0)
    chips = full.matrix[rows].T @ prices
    gain = np.where(use >= 0, np.minimum(reduced[flat] - chips[flat], 0.0), 0.0)
    value = full.problem.port_usd_p[left_out] / full.unit_usd + gain.sum(axis=(1, 2))
    return bool((value >= -NOTHING).all())


def _spread(full: Model, model: Model, x: Floats) -> Floats:
    """A solution of the restricted model in the columns of the full one."""
    spread = np.zeros(full.columns.count)
    for name in ("buy_ay", "commit_ky", "rent_ays", "short_wys", "work_ys", "tail"):
        ours, theirs = getattr(full.columns, name), getattr(model.columns, name)
        keep = ours >= 0
        spread[ours[keep]] = x[theirs[keep]]
    for name in ("port_p", "use_pys"):
        ours, theirs = getattr(full.columns, name)[model.pairs], getattr(model.columns, name)
        keep = ours >= 0
        spread[ours[keep]] = x[theirs[keep]]
    return spread
