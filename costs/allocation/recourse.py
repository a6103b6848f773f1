"""The best rent and use of chips once purchases, commitments and ports are decided.

Given those, every year of every scenario is a small program of its own, so the whole recourse of a
large plan takes seconds where the joint program takes minutes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

from tpubench.costs.allocation.branch import quiet
from tpubench.costs.allocation.model import Model, work_weight_wys
from tpubench.costs.allocation.problem import Floats, Ints

WHOLE = 1e-6
"""How near to a whole number counts as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is decided before the scenario is known, in lots; ports by position in the model."""

    buy_ay: Floats
    commit_ky: Floats
    port_p: np.ndarray


def complete(model: Model, decision: Decision, deadline: float, *, exact: bool) -> Floats | None:
    """The model's solution vector with the best recourse to ``decision``; None if there is none.

    Rent is whole lots: with ``exact`` by a small integer program each, otherwise rounded up.
    """
    problem, columns = model.problem, model.columns
    x = np.zeros(columns.count)
    _place(x, columns.buy_ay, decision.buy_ay)
    _place(x, columns.commit_ky, decision.commit_ky)
    _place(x, columns.port_p, decision.port_p.astype(float))
    chips = problem.held_chips_ay[:, :, None] + np.einsum(
        "ae,aeys->ays", decision.buy_ay, problem.buy_chips_aeys
    )
    committed = np.einsum("ke,key->ky", decision.commit_ky, problem.commit_chips_key)
    np.add.at(chips, problem.commit_a, committed[:, :, None])
    weight = work_weight_wys(problem)
    open_p = decision.port_p | (columns.port_p < 0)
    with quiet():
        for y, s in np.ndindex(problem.years, len(problem.scenarios)):
            if time.monotonic() > deadline:
                return None
            if not _one(model, x, open_p, chips[:, y, s], weight[:, y, s], y, s, exact=exact):
                return None
    _close(model, x)
    return x


def _one(
    model: Model,
    x: Floats,
    open_p: np.ndarray,
    chips_a: Floats,
    weight_w: Floats,
    y: int,
    s: int,
    *,
    exact: bool,
) -> bool:
    """Year ``y`` of scenario ``s``, written into ``x``; False when it cannot be served."""
    problem, columns = model.problem, model.columns
    use, short, rent = (
        columns.use_pys[:, y, s],
        columns.short_wys[:, y, s],
        columns.rent_ays[:, y, s],
    )
    pairs = np.flatnonzero((use >= 0) & open_p)
    workloads = np.flatnonzero(problem.demand_wys[:, y, s] > 0)
    if not len(workloads):
        return True
    rentable = np.flatnonzero(rent >= 0)
    lacking = np.flatnonzero(short >= 0)
    index = np.concatenate([use[pairs], rent[rentable], short[lacking]])
    p, r, q = len(pairs), len(rentable), len(lacking)
    a, w = problem.pair_a[model.pairs[pairs]], problem.pair_w[model.pairs[pairs]]
    price = _prices(model, pairs, rentable, lacking, y, s)

    row_of = np.full(len(problem.workloads), -1)
    row_of[workloads] = np.arange(len(workloads))
    n = len(workloads)
    need = problem.demand_wys[w, y, s] / problem.mtok_pys[model.pairs[pairs], y, s]
    lot = np.where(problem.rent_chips_a > 0, problem.rent_chips_a, 1.0)
    rows = [row_of[w], row_of[lacking], n + a, n + rentable]
    cols = [np.arange(p), p + r + np.arange(q), np.arange(p), p + np.arange(r)]
    vals = [np.ones(p), np.ones(q), need / lot[a], -np.ones(r)]
    wanted = 0.0 if problem.objective == "max_margin" else 1.0
    low = [np.full(n, wanted), np.full(len(lot), -np.inf)]
    high = [np.ones(n), chips_a / lot]
    at = n + len(lot)
    vendor_a = np.array(problem.vendors)
    for vendor, share in problem.vendor_share.items():
        mine = vendor_a[a] == vendor
        part = weight_w[w] * (mine - (0.0 if problem.must_serve else share))
        rows.append(np.full(p, at))
        cols.append(np.arange(p))
        vals.append(part)
        low.append(np.array([-np.inf]))
        high.append(np.array([share * weight_w.sum() if problem.must_serve else 0.0]))
        at += 1
    matrix = sparse.csr_array(
        (np.concatenate(vals), (np.concatenate(rows), np.concatenate(cols))), shape=(at, p + r + q)
    )
    whole = np.concatenate([np.zeros(p), np.full(r, float(exact)), np.zeros(q)])
    found = milp(
        price,
        constraints=LinearConstraint(matrix, np.concatenate(low), np.concatenate(high)),
        bounds=Bounds(np.zeros(p + r + q), model.high[index]),
        integrality=whole,
        options={"mip_rel_gap": 1e-4, "time_limit": 1.0},
    )
    if found.x is None:
        return False
    x[index] = np.clip(found.x, 0, model.high[index])
    x[rent[rentable]] = _up(x[rent[rentable]])
    return True


def _prices(model: Model, pairs: Ints, rentable: Ints, lacking: Ints, y: int, s: int) -> Floats:
    """Cost of this year and scenario alone: CVaR falls with every scenario's own cost."""
    problem = model.problem
    w = problem.pair_w[model.pairs[pairs]]
    gain = -(problem.revenue_wys * problem.demand_wys)[w, y, s]
    rent = problem.rent_usd_ays[rentable, y, s]
    if problem.shortfall_wy is None:
        penalty = np.zeros(0)
    else:
        penalty = problem.shortfall_wy[lacking, y] * problem.demand_wys[lacking, y, s]
    return np.concatenate([gain, rent, penalty]) / model.unit_usd


def _up(lots: Floats) -> Floats:
    nearest = np.round(lots)
    return np.where(np.abs(lots - nearest) < WHOLE, nearest, np.ceil(lots))


def _place(x: Floats, columns: Ints, values: Floats) -> None:
    keep = columns >= 0
    x[columns[keep]] = values[keep]


def _close(model: Model, x: Floats) -> None:
    """The columns that follow from the others: work served, and the tail of the scenarios."""
    problem, columns = model.problem, model.columns
    if (columns.work_ys >= 0).any():
        weight = work_weight_wys(problem)[problem.pair_w[model.pairs]]
        share = np.where(columns.use_pys >= 0, x[columns.use_pys], 0.0)
        _place(x, columns.work_ys, (weight * share).sum(axis=0))
    if problem.cvar_weight > 0:
        cost_s = scenario_costs(model, x) / model.unit_usd
        order = np.argsort(cost_s)
        cumulative = np.cumsum(problem.probability_s[order])
        at = int(np.searchsorted(cumulative, problem.cvar_level - 1e-12))
        threshold = cost_s[order[min(at, len(order) - 1)]]
        x[columns.tail[0]] = threshold
        x[columns.tail[1:]] = np.maximum(cost_s - threshold, 0.0)


def scenario_costs(model: Model, x: Floats) -> Floats:
    """Recourse cost of each scenario in dollars: rent and penalties less revenue."""
    problem, columns = model.problem, model.columns

    def part(family: Ints, usd: Floats) -> Floats:
        amount = np.where(family >= 0, x[family], 0.0)
        return np.asarray((amount * usd).sum(axis=(0, 1)))

    revenue = (problem.revenue_wys * problem.demand_wys)[problem.pair_w[model.pairs]]
    cost = part(columns.rent_ays, problem.rent_usd_ays) - part(columns.use_pys, revenue)
    if problem.shortfall_wy is not None:
        penalty = problem.shortfall_wy[:, :, None] * problem.demand_wys
        cost = cost + part(columns.short_wys, penalty)
    if not math.isfinite(float(cost.sum())):
        raise ValueError("a scenario's cost is not finite")
    return cost
