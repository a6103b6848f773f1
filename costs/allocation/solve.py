"""Solve a plan: bound it, round it, branch where it helps, keep the better, give the gap.

Plain branch and bound leaves large gaps on plans of this shape, while the relaxation is tight
(porting is put as f ≤ z year by year) and rounds well: decide the ports, solve the rest again,
round purchases and commitments, then the recourse anew. Branching runs as well wherever it has a
chance: on the ports alone, which lifts the bound, and on everything in small plans. Every answer
is checked against every row before it counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.branch import branch
from tpubench.costs.allocation.linear import LinearSolution, solve_rows
from tpubench.costs.allocation.model import Model, build
from tpubench.costs.allocation.problem import Floats, Ints, Problem
from tpubench.costs.allocation.recourse import complete
from tpubench.costs.allocation.relax import Relaxation, relax
from tpubench.costs.allocation.rounding import feasible, nearby_decisions

SMALL_COLUMNS = 4_000
"""Columns of use up to which the whole integer program is solved even after a good rounding."""
BRANCH_COLUMNS = 60_000
"""Columns of use above which branching would not get past its first linear program."""
SECOND_OPINION_S = 10.0
"""Time for the integer program of a small plan whose rounding is good enough already."""
PORT_LEVELS = (0.05, 0.15, 0.3, 1e-4, 0.5)
"""Shares of use above which a pair counts as ported; each is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A plan that meets every row, and how far from the best it can be."""

    model: Model
    x: Floats
    objective: float
    """Present value in dollars of what was decided: cost, or minus the margin."""
    bound: float
    """No plan has a lower objective, in dollars."""
    gap: float
    """(objective − bound) ÷ |objective|."""
    method: str
    """Which way gave the answer."""
    tried: dict[str, float]
    """Objective of each way that gave one, in dollars."""
    relaxation: Relaxation
    seconds: float


@dataclass(slots=True)
class _Best:
    """The best plan so far and the best bound, in the model's money units."""

    bound: float
    model: Model | None = None
    x: Floats | None = None
    value: float = np.inf
    method: str = ""

    def offer(self, model: Model, x: Floats | None, method: str, tried: dict[str, float]) -> None:
        if x is None or not feasible(model, x):
            return
        value = float(model.cost @ x)
        tried[method] = min(tried.get(method, np.inf), value * model.unit_usd)
        if value < self.value:
            self.model, self.x, self.value, self.method = model, x, value, method

    @property
    def gap(self) -> float:
        if not np.isfinite(self.bound) or not np.isfinite(self.value):
            return np.inf
        return max(0.0, self.value - self.bound) / max(abs(self.value), 1e-9)


def solve(problem: Problem, seconds: float = 60.0, gap: float = 1e-3) -> Solved | None:
    """The best plan found in about ``seconds``; None when even the relaxation has no solution."""
    started = time.monotonic()
    deadline = started + seconds
    relaxation = relax(problem, deadline)
    if relaxation is None:
        return None
    tried: dict[str, float] = {}
    best = _Best(bound=relaxation.bound)
    model = relaxation.model
    for keep in _port_choices(model, relaxation.solution.x):
        _round(problem, keep, best, tried, deadline, gap)
        if best.gap <= gap / 2 or time.monotonic() > deadline:
            break
    columns = len(problem.pair_a) * problem.years * len(problem.scenarios)
    full = build(problem) if columns <= BRANCH_COLUMNS else None
    if full is not None and best.gap > gap and (full.columns.port_p >= 0).any():
        ports = np.zeros_like(full.whole)
        ports[full.columns.port_p[full.columns.port_p >= 0]] = 1
        left = deadline - time.monotonic()
        relaxed, bound = branch(full, ports, left * 0.6, gap / 4)
        best.bound = max(best.bound, bound)
        if relaxed is not None:
            z = np.where(full.columns.port_p >= 0, relaxed[full.columns.port_p], 1.0)
            _round(problem, full.pairs[z > 0.5], best, tried, deadline, gap)
    if full is not None and (columns <= SMALL_COLUMNS or best.gap > gap):
        left = deadline - time.monotonic()
        left = left if best.gap > gap else min(left, SECOND_OPINION_S)
        x, bound = branch(full, full.whole, left, gap / 10)
        best.bound = max(best.bound, bound)
        best.offer(full, x, "integer program", tried)
    if best.model is None or best.x is None:
        return None
    unit = best.model.unit_usd
    return Solved(
        model=best.model,
        x=best.x,
        objective=best.value * unit,
        bound=min(best.bound, best.value) * unit,
        gap=best.gap,
        method=best.method,
        tried=tried,
        relaxation=relaxation,
        seconds=time.monotonic() - started,
    )


def _port_choices(model: Model, x: Floats) -> list[Ints]:
    """Sets of pairs to use, from the relaxation's shares of porting."""
    share = np.where(model.columns.port_p >= 0, x[model.columns.port_p], 1.0)
    found: list[Ints] = []
    for level in PORT_LEVELS:
        keep = model.pairs[share > level]
        if not any(np.array_equal(keep, other) for other in found):
            found.append(keep)
    return found


def _round(
    problem: Problem,
    keep: Ints,
    best: _Best,
    tried: dict[str, float],
    deadline: float,
    gap: float,
) -> None:
    """With just these pairs, all ported: relax, round the lots, complete; offer what comes."""
    model = build(problem, keep)
    solution = _with_all_ports(model, deadline)
    if solution is None or solution.objective >= best.value:
        return
    for decision in nearby_decisions(model, solution.x):
        for exact in (False, True):
            x = complete(model, decision, deadline, exact=exact)
            if x is None:
                break
            best.offer(model, x, "rounded relaxation", tried)
            distance = (float(model.cost @ x) - solution.objective) / max(abs(best.value), 1e-9)
            if best.gap <= gap / 2 or distance <= gap / 4:
                return


def _with_all_ports(model: Model, deadline: float) -> LinearSolution | None:
    low = model.low.copy()
    low[model.columns.port_p[model.columns.port_p >= 0]] = 1.0
    return solve_rows(
        model.cost,
        model.matrix,
        (model.row_low, model.row_high),
        (low, model.high),
        deadline - time.monotonic(),
    )
