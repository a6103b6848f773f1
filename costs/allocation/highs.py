"""One program through HiGHS: the relaxation with its duals, started from a basis nearby, and the
integer program started from a plan.

`highspy` rather than SciPy's front: it keeps the basis of the last solution, so that a plan with
one input changed is solved in a fraction of a millisecond instead of several. It is
imported where a program is solved: a machine that only measures and reports need not have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.timeline import Floats

if TYPE_CHECKING:
    import highspy

TOLERANCE = 1e-8
"""Of duals: below the secondary objective's size, which must count."""
SAME = 1e-9
"""Two optima that differ by less, as a share of what they are, are one: the solver cannot tell."""
WHOLE = 1e-6
"""How near to a whole number counts as one."""
SIGNATURES = 12
"""Contracts at most that are signed whole in a relaxation; of more, parts may be signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """Optimum of a relaxation. Duals are changes of the objective per unit of a bound."""

    x: Floats
    objective: float
    """Of the cost that was minimised, in the program's units."""
    row_duals: Floats
    column_duals: Floats
    basis: Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Where the next program of the same shape may start."""

    shape: tuple[int, int]
    status: highspy.HighsBasis


def significant(usd: float, total: float) -> float:
    """A difference between two optima of about ``total``; 0 for what the solver cannot tell."""
    return usd if abs(usd) > SAME * abs(total) else 0.0


def relaxed(
    program: LinearProgram,
    *,
    start: Basis | None = None,
    cost: Floats | None = None,
    low: Floats | None = None,
    high: Floats | None = None,
    row: tuple[Floats, float] | None = None,
    seconds: float = 60.0,
) -> Optimum | None:
    """The best plan when nothing but a signature needs to be whole; None when there is none, or
    time ran out.

    ``cost`` (the program's own with its secondary objective by default), ``low`` and ``high``
    take the place of the program's; ``row`` adds coefficients·x ≤ limit.
    """
    matrix, row_low, row_high = program.matrix, program.row_low, program.row_high
    if row is not None:
        extra = sparse.csr_array(row[0][None, :])
        matrix = sparse.csr_array(sparse.vstack([matrix, extra], format="csr"))
        row_low = np.append(row_low, -np.inf)
        row_high = np.append(row_high, row[1])
    lows, highs = program.low if low is None else low, program.high if high is None else high
    goal = program.cost + program.nudge if cost is None else cost
    solver = _solver(seconds)
    solver.passModel(_model(goal, matrix, (row_low, row_high), (lows, highs)))
    if start is not None and start.shape == matrix.shape:
        solver.setBasis(start.status)
    elif start is not None and row is not None and start.shape == program.matrix.shape:
        solver.setBasis(_one_row_more(start.status))
    best = _run(solver, matrix.shape)
    signs = program.signs
    if best is None or len(signs) > SIGNATURES or _is_whole(best.x[signs]):
        return best
    # A contract is signed or not: half a minimum would make every large one look better than it is.
    ends: Optimum | None = None
    waiting: list[tuple[Optimum, dict[int, float]]] = [(best, {})]
    while waiting:
        around, fixed = waiting.pop()
        if ends is not None and around.objective >= ends.objective:
            continue
        if _is_whole(around.x[signs]):
            ends = around
            continue
        column = int(signs[int(np.argmax(np.abs(around.x[signs] - np.round(around.x[signs]))))])
        nearest = float(np.round(around.x[column]))
        for value in (1.0 - nearest, nearest):
            there = {**fixed, column: value}
            for sign in signs.tolist():
                solver.changeColBounds(
                    sign, there.get(sign, lows[sign]), there.get(sign, highs[sign])
                )
            optimum = _run(solver, matrix.shape)
            if optimum is not None:
                waiting.append((optimum, there))
    return ends


def _one_row_more(basis: highspy.HighsBasis) -> highspy.HighsBasis:
    """The basis of the program without its last row, which does not bind there."""
    import highspy

    more = highspy.HighsBasis()
    more.col_status = basis.col_status
    more.row_status = [*basis.row_status, highspy.HighsBasisStatus.kBasic]
    more.valid = True
    return more


def _is_whole(x: Floats) -> bool:
    return bool((np.abs(x - np.round(x)) < WHOLE).all())


def _run(solver: highspy.Highs, shape: tuple[int, int]) -> Optimum | None:
    """The optimum of what is loaded, from the last basis."""
    import highspy

    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    solution = solver.getSolution()
    return Optimum(
        x=np.array(solution.col_value),
        objective=float(solver.getInfo().objective_function_value),
        row_duals=np.array(solution.row_dual),
        column_duals=np.array(solution.col_dual),
        basis=Basis(shape=shape, status=solver.getBasis()),
    )


def solve_rows(
    cost: Floats,
    matrix: sparse.csr_array,
    rows: tuple[Floats, Floats],
    columns: tuple[Floats, Floats],
    seconds: float = 60.0,
) -> tuple[Floats, Floats] | None:
    """min cost·x with rows[0] ≤ matrix·x ≤ rows[1], columns[0] ≤ x ≤ columns[1]: the best x and the
    duals of the rows; None if there is none."""
    import highspy

    solver = _solver(seconds)
    solver.passModel(_model(cost, matrix, rows, columns))
    solver.run()
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    solution = solver.getSolution()
    return np.array(solution.col_value), np.array(solution.row_dual)


def integer(
    program: LinearProgram, start: Floats | None, seconds: float, gap: float
) -> tuple[Floats | None, float]:
    """Branch and bound: the best whole plan, if any, and the bound that was proved (−inf: none).
    In the program's units and without the secondary objective; ``gap`` is a share of the whole
    present cost, what is paid in any case included."""
    import highspy

    paid_anyway = program.fixed_usd / program.unit_usd
    model = _model(
        program.cost,
        program.matrix,
        (program.row_low, program.row_high),
        (program.low, program.high),
    )
    model.offset_ = paid_anyway
    model.integrality_ = [
        highspy.HighsVarType.kInteger if whole else highspy.HighsVarType.kContinuous
        for whole in program.whole
    ]
    solver = _solver(seconds)
    solver.setOptionValue("mip_rel_gap", gap)
    solver.passModel(model)
    if start is not None:
        solution = highspy.HighsSolution()
        solution.col_value = start.tolist()
        solver.setSolution(solution)
    solver.run()
    info = solver.getInfo()
    bound = float(info.mip_dual_bound) - paid_anyway
    proved = bound if np.isfinite(bound) else -np.inf
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None, proved
    x = np.array(solver.getSolution().col_value)
    whole = program.whole.astype(bool)
    x[whole] = np.round(x[whole])
    return x, proved


@cache
def _silent() -> type[highspy.Highs]:
    """HiGHS without callbacks: setting them prints a banner where ``--json`` must be alone."""
    import highspy

    class Silent(highspy.Highs):
        def enableCallbacks(self) -> None:  # noqa: N802 (HiGHS's own name)
            pass

    return Silent


def _solver(seconds: float) -> highspy.Highs:
    solver = _silent()()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("time_limit", max(seconds, 0.05))
    solver.setOptionValue("dual_feasibility_tolerance", TOLERANCE)
    solver.setOptionValue("primal_feasibility_tolerance", TOLERANCE)
    return solver


def _model(
    cost: Floats,
    matrix: sparse.csr_array,
    rows: tuple[Floats, Floats],
    columns: tuple[Floats, Floats],
) -> highspy.HighsLp:
    import highspy

    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = matrix.shape
    model.col_cost_ = cost
    model.col_lower_, model.col_upper_ = columns
    model.row_lower_, model.row_upper_ = rows
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.num_row_, model.a_matrix_.num_col_ = matrix.shape
    model.a_matrix_.start_ = matrix.indptr
    model.a_matrix_.index_ = matrix.indices
    model.a_matrix_.value_ = matrix.data
    return model
