"""The allocation against trying everything, against CBC, and against its own duals."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pulp
import pytest
from small_plans import best_by_trying, dearer, small_problem

from tpubench.costs.allocation.infeasible import explain
from tpubench.costs.allocation.model import Model, build
from tpubench.costs.allocation.relax import relax
from tpubench.costs.allocation.rounding import feasible
from tpubench.costs.allocation.solve import Solved, solve

EXACT = 1e-7


def solved(problem: object) -> Solved | None:
    return solve(problem, seconds=30, gap=EXACT)


@pytest.mark.parametrize("batch", range(10))
def test_the_optimum_is_the_one_found_by_trying_everything(batch: int) -> None:
    possible = 0
    for seed in range(60 * batch, 60 * (batch + 1)):
        problem = small_problem(seed)
        expected = best_by_trying(problem)
        found = solved(problem)
        if expected is None:
            assert found is None, seed
            assert "infeasible" in str(explain(problem)), seed
        else:
            possible += 1
            assert found is not None, seed
            assert found.objective == pytest.approx(expected, rel=1e-5, abs=1e-5), seed
            assert found.bound <= expected * (1 + 1e-6) + 1e-6, seed
            assert feasible(found.model, found.x)
    assert possible >= 20


def with_cbc(model: Model) -> float | None:
    """The same rows and columns given to CBC."""
    program = pulp.LpProblem("plan", pulp.LpMinimize)
    columns = [
        pulp.LpVariable(
            f"x{j}",
            None if np.isinf(low) else low,
            None if np.isinf(high) else high,
            pulp.LpInteger if whole else pulp.LpContinuous,
        )
        for j, (low, high, whole) in enumerate(zip(model.low, model.high, model.whole, strict=True))
    ]
    program += pulp.lpSum(c * x for c, x in zip(model.cost, columns, strict=True) if c)
    matrix = model.matrix
    for i in range(matrix.shape[0]):
        inside = range(matrix.indptr[i], matrix.indptr[i + 1])
        row = pulp.lpSum(float(matrix.data[k]) * columns[matrix.indices[k]] for k in inside)
        if np.isfinite(model.row_high[i]):
            program += row <= float(model.row_high[i])
        if np.isfinite(model.row_low[i]):
            program += row >= float(model.row_low[i])
    program.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-7, timeLimit=60))
    if program.status != pulp.LpStatusOptimal:
        return None
    return float(pulp.value(program.objective) or 0.0) * model.unit_usd


@pytest.mark.parametrize("objective", ["min_cost", "max_margin"])
@pytest.mark.parametrize("seed", range(1000, 1012))
def test_cbc_agrees_on_medium_plans(seed: int, objective: str) -> None:
    problem = small_problem(seed, most=4, objective=objective)
    expected, found = with_cbc(build(problem)), solved(problem)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.objective == pytest.approx(expected, rel=2e-5, abs=2e-5)


@pytest.mark.parametrize("seed", range(60))
def test_a_dearer_chip_is_never_bought_more(seed: int) -> None:
    problem = replace(small_problem(seed), capex_cash=None)
    before, after = solved(problem), solved(dearer(problem, 0, 1.4))
    if before is None or after is None:
        assert before is after
        return

    def bought(answer: Solved) -> float:
        columns = answer.model.columns.buy_ay[0]
        lots = np.where(columns >= 0, answer.x[columns], 0.0)
        return float(lots @ problem.buy_usd_ay[0])

    assert bought(after) <= bought(before) + 1e-6
    assert after.objective >= before.objective - 1e-6


def test_the_shadow_price_of_power_is_what_a_little_more_of_it_saves() -> None:
    tried = 0
    for seed in range(400):
        problem = small_problem(seed, most=3)
        if problem.megawatts_y is None:
            continue
        base = relax(problem, time.monotonic() + 10)
        if base is None:
            continue
        step = 1e-4
        more = relax(
            replace(problem, megawatts_y=problem.megawatts_y + step), time.monotonic() + 10
        )
        less = relax(
            replace(problem, megawatts_y=problem.megawatts_y - step), time.monotonic() + 10
        )
        if more is None or less is None:
            continue
        rows = [i for i, name in enumerate(base.model.row_names) if name[0] == "power"]
        gain = -(base.solution.row_duals[rows] / problem.megawatts_y).sum()
        up = base.solution.objective - more.solution.objective
        down = less.solution.objective - base.solution.objective
        tolerance = 1e-7
        assert up - tolerance <= gain * step <= down + tolerance, seed
        tried += gain > 1e-6
    assert tried >= 5


def test_bound_and_optimum_of_the_relaxation_agree() -> None:
    """Strong duality: the duals times the limits give the objective back."""
    for seed in range(40):
        found = relax(small_problem(seed), time.monotonic() + 10)
        if found is None:
            continue
        model, best = found.model, found.solution
        rows = np.where(best.row_duals < 0, model.row_high, model.row_low)
        rows = np.where(np.abs(best.row_duals) > 1e-12, rows, 0.0)
        highs = np.where(np.abs(best.high_duals) > 1e-12, model.high, 0.0)
        lows = np.where(np.abs(best.low_duals) > 1e-12, model.low, 0.0)
        dual = best.row_duals @ rows + best.high_duals @ highs + best.low_duals @ lows
        assert dual == pytest.approx(best.objective, rel=1e-6, abs=1e-6)


def test_pair_generation_gives_the_bound_of_the_whole_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import tpubench.costs.allocation.relax as module

    for seed in range(2000, 2020):
        problem = small_problem(seed, most=4)
        whole = relax(problem, time.monotonic() + 20)
        with monkeypatch.context() as patch:
            patch.setattr(module, "SMALL_PAIRS", 0)
            generated = relax(problem, time.monotonic() + 20)
        if whole is None:
            assert generated is None
            continue
        assert generated is not None
        assert generated.bound <= whole.bound + 1e-6 * abs(whole.bound)
        assert generated.bound == pytest.approx(whole.bound, rel=2e-4)


def test_more_of_a_limit_never_costs_more() -> None:
    for seed in range(30):
        problem = small_problem(seed)
        loose = replace(problem, capex_cash=None, megawatts_y=None, vendor_share={})
        tight, free = solved(problem), solved(loose)
        if tight is not None:
            assert free is not None
            assert free.objective <= tight.objective + 1e-6
