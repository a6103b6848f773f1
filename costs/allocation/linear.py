"""One linear program: the relaxation of a model, with its duals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from tpubench.costs.allocation.model import Model
from tpubench.costs.allocation.problem import Floats

INTERIOR_POINT_ROWS = 10_000
"""Rows from which the interior point overtakes the dual simplex (measured on plans)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSolution:
    """Optimum of a linear program. Duals are changes of the objective per unit of a bound."""

    x: Floats
    objective: float
    row_duals: Floats
    low_duals: Floats
    high_duals: Floats


def solve_linear(model: Model, seconds: float) -> LinearSolution | None:
    """Optimum of the relaxation of one model; None when it is infeasible or time ran out."""
    return solve_rows(
        model.cost, model.matrix, (model.row_low, model.row_high), (model.low, model.high), seconds
    )


def solve_rows(
    cost: Floats,
    matrix: sparse.csr_array,
    rows: tuple[Floats, Floats],
    columns: tuple[Floats, Floats],
    seconds: float,
) -> LinearSolution | None:
    """min cost·x with rows[0] ≤ matrix·x ≤ rows[1], columns[0] ≤ x ≤ columns[1]."""
    row_low, row_high = rows
    equal = row_low == row_high
    below = ~equal & np.isfinite(row_high)
    above = ~equal & np.isfinite(row_low)
    inequalities = matrix[below]
    if above.any():
        inequalities = sparse.vstack([inequalities, -matrix[above]], format="csr")
    found = linprog(
        cost,
        A_ub=inequalities,
        b_ub=np.concatenate([row_high[below], -row_low[above]]),
        A_eq=matrix[equal] if equal.any() else None,
        b_eq=row_high[equal] if equal.any() else None,
        bounds=np.column_stack(columns),
        method="highs-ipm" if matrix.shape[0] > INTERIOR_POINT_ROWS else "highs-ds",
        options={"time_limit": max(seconds, 0.1)},
    )
    if found.status != 0:
        return None
    duals = np.zeros(matrix.shape[0])
    n = int(below.sum())
    duals[below] = found.ineqlin.marginals[:n]
    duals[above] -= found.ineqlin.marginals[n:]
    if equal.any():
        duals[equal] = found.eqlin.marginals
    return LinearSolution(
        x=np.asarray(found.x),
        objective=float(found.fun),
        row_duals=duals,
        low_duals=np.asarray(found.lower.marginals),
        high_duals=np.asarray(found.upper.marginals),
    )
