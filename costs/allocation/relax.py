"""The linear relaxation of a plan: a bound that no plan can beat, and the shadow prices.

Most pairs of accelerator and workload are never used, and each costs years × scenarios columns
and rows. So the program starts from the pairs that a plan for the mean scenario uses. At its
duals the rest of the problem falls apart by accelerator: each is asked what it could gain with all
of its pairs, its own lots and its own rent (Dantzig-Wolfe pricing). Those gains, added to the
restricted optimum,
give a lower bound of the full program at any set of duals (Lagrangian duality; Lübbecke and
Desrosiers, Operations Research 53(6), 2005), so the bound holds even when time runs out; and the
pairs that a gain needs are the ones to add.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from tpubench.costs.allocation.linear import LinearSolution, solve_linear
from tpubench.costs.allocation.model import Model, build
from tpubench.costs.allocation.pricing import price_out
from tpubench.costs.allocation.problem import Floats, Problem

SMALL_PAIRS = 4000
"""Columns of use (pairs × years × scenarios) up to which all pairs are taken at once."""
FIRST_PER_WORKLOAD = 1
USED = 1e-7
ROUNDS = 12
CLOSE = 5e-5
"""Relative distance of restricted optimum and bound at which no more pairs are added."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """Restricted model with its optimum, and the bound of the full problem."""

    model: Model
    solution: LinearSolution
    bound: float
    """In the model's money units; nothing is cheaper."""
    complete: bool
    """Whether the pairs left out would change next to nothing: bound and optimum agree."""


def relax(problem: Problem, deadline: float) -> Relaxation | None:
    """The relaxation of ``problem``, by pair generation where it is large.

    None when it is infeasible, or when not even one linear program was solved by ``deadline``
    (:func:`time.monotonic`).
    """
    full = build(problem)
    if full.columns.use_pys.size <= SMALL_PAIRS:
        return _at_once(full, deadline)
    chosen = _first_pairs(problem, deadline)
    best: Relaxation | None = None
    bound = -np.inf
    for _ in range(ROUNDS):
        model = build(problem, np.flatnonzero(chosen))
        solution = solve_linear(model, deadline - time.monotonic())
        if solution is None:
            wider = chosen | _each_vendor(problem)
            if best is not None or chosen.all() or time.monotonic() > deadline:
                return best
            chosen = wider if (wider & ~chosen).any() else np.ones_like(chosen)
            continue
        gain, wanted = price_out(full, model, solution, deadline)
        bound = max(bound, solution.objective + gain)
        near = solution.objective - bound <= CLOSE * abs(solution.objective)
        best = Relaxation(model=model, solution=solution, bound=bound, complete=near)
        if near or time.monotonic() > deadline or not (wanted & ~chosen).any():
            break
        chosen |= wanted
    return best


def _at_once(full: Model, deadline: float) -> Relaxation | None:
    solution = solve_linear(full, deadline - time.monotonic())
    if solution is None:
        return None
    return Relaxation(model=full, solution=solution, bound=solution.objective, complete=True)


def _first_pairs(problem: Problem, deadline: float) -> np.ndarray:
    """The pairs that the relaxation of the mean scenario uses, and each workload's cheapest."""
    model = build(mean_scenario(problem))
    solution = solve_linear(model, deadline - time.monotonic())
    chosen = np.zeros(len(problem.pair_a), dtype=bool)
    if solution is not None:
        use = model.columns.use_pys
        chosen = np.where(use >= 0, solution.x[use], 0.0).max(axis=(1, 2)) > USED
    rank = _rough_cost(problem)
    for w in range(len(problem.workloads)):
        mine = np.flatnonzero((problem.pair_w == w) & np.isfinite(rank))
        chosen[mine[np.argsort(rank[mine], kind="stable")[:FIRST_PER_WORKLOAD]]] = True
    return chosen


def _each_vendor(problem: Problem) -> np.ndarray:
    """Each workload's cheapest pair of each vendor, so that vendor caps can be met."""
    rank = _rough_cost(problem)
    vendors = np.array(problem.vendors)[problem.pair_a]
    chosen = np.zeros(len(rank), dtype=bool)
    for w in range(len(problem.workloads)):
        for vendor in set(problem.vendors):
            mine = np.flatnonzero((problem.pair_w == w) & (vendors == vendor) & np.isfinite(rank))
            if len(mine):
                chosen[mine[np.argmin(rank[mine])]] = True
    return chosen


def mean_scenario(problem: Problem) -> Problem:
    """The same plan with one scenario: the mean of all."""
    weight = problem.probability_s

    def mean(values: Floats) -> Floats:
        return np.asarray((values * weight).sum(axis=-1, keepdims=True))

    return replace(
        problem,
        scenarios=("mean",),
        probability_s=np.ones(1),
        demand_wys=mean(problem.demand_wys),
        mtok_pys=mean(problem.mtok_pys),
        buy_chips_aeys=mean(problem.buy_chips_aeys),
        rent_usd_ays=mean(problem.rent_usd_ays),
        revenue_wys=mean(problem.revenue_wys),
        cvar_weight=0.0,
    )


def _rough_cost(problem: Problem) -> Floats:
    """Cost of serving a pair's workload alone at each year's cheapest chip-year."""
    with np.errstate(divide="ignore", invalid="ignore"):
        working = problem.buy_chips_aeys.mean(axis=3).sum(axis=2)
        bought = np.where(problem.buy_lots_ay > 0, problem.buy_usd_ay / working, np.inf)
        chip_ay = np.repeat(np.nanmin(bought, axis=1)[:, None], problem.years, axis=1)
        expected = (problem.rent_usd_ays * problem.probability_s).sum(axis=2)
        rented = np.where(
            problem.rent_lots_ay > 0, expected / problem.rent_chips_a[:, None], np.inf
        )
        chip_ay = np.fmin(chip_ay, rented)
        for k, a in enumerate(problem.commit_a):
            years = problem.commit_chips_key[k].sum(axis=1)
            rate = np.where(problem.commit_lots_ky[k] > 0, problem.commit_usd_ky[k] / years, np.inf)
            chip_ay[a] = np.fmin(chip_ay[a], np.nanmin(rate))
        demand = problem.demand_wys[problem.pair_w]
        chips = np.where(demand > 0, demand / problem.mtok_pys, 0.0)
        cost = (chips * chip_ay[problem.pair_a][:, :, None] * problem.probability_s).sum(
            axis=(1, 2)
        )
    cost = cost + problem.port_usd_p
    # A pair that cannot serve in some year still may in others: last, but not out.
    usable = problem.mtok_pys.any(axis=(1, 2))
    finite = cost[np.isfinite(cost)]
    worst = finite.max() if len(finite) else 0.0
    return np.where(usable, np.where(np.isfinite(cost), cost, 2 * worst + 1), np.inf)
