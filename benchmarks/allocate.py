"""How far from the best a plan is after a minute: this solver, plain branch and bound, and CBC.

    python benchmarks/allocate.py [--seconds 60] [--sizes 5x7x6,8x12x12] [--peers milp,cbc]

Sizes are years × accelerators × workloads, each with four vendors under caps, porting costs,
purchase lots, commitments of one and three years, rent, a budget, megawatts and 20 scenarios of
demand, price and readiness. All three get the same program and the same time, one after another;
the gap of each is held against the best bound that any of them proved.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from tpubench.costs.allocation.branch import branch
from tpubench.costs.allocation.model import Model, build
from tpubench.costs.allocation.problem import Problem
from tpubench.costs.allocation.rounding import feasible
from tpubench.costs.allocation.solve import solve
from tpubench.costs.owned import HOURS_PER_YEAR

SIZES = "5x7x6,8x12x12,10x20x20,10x40x40"
SCENARIOS = 20
PORT_MUSD = (0.3, 5.0)
"""Range of the cost of porting a workload to a chip, in millions of US dollars."""
VENDORS = 4
WACC = 0.09
LIFE_YEARS = 5


def instance(
    years: int, chips: int, works: int, seed: int = 0, port_musd: tuple[float, float] = PORT_MUSD
) -> Problem:
    """A random plan of that size in the proportions of real ones (billions of dollars)."""
    r = np.random.default_rng(seed)
    vendors = tuple(f"vendor {a % VENDORS}" for a in range(chips))
    pairs = [
        (a, w) for a in range(chips) for w in range(works) if r.random() < 0.6 or a == w % chips
    ]
    pair_a, pair_w = (np.array(side) for side in zip(*pairs, strict=True))
    native = np.array([v == vendors[0] for v in vendors])[pair_a]
    speed = r.uniform(0.5, 2, chips)[pair_a] * r.uniform(0.5, 2, works)[pair_w]
    speed *= r.uniform(0.7, 1.3, len(pairs)) * 1000 * 31.536 * 0.6
    ready = np.clip(r.uniform(0.5, 0.9, len(pairs))[:, None] + 0.1 * np.arange(years), 0, 1)
    ready = np.where(native[:, None], 1.0, ready)
    future = np.where(native[:, None], 1.0, r.uniform(0.8, 1.1, (len(pairs), SCENARIOS)))
    mtok = speed[:, None, None] * np.minimum(1, ready[:, :, None] * future[:, None, :])
    growth = r.uniform(1.1, 1.6, works)[:, None] ** np.arange(years)
    demand = r.uniform(2e7, 2e8, works)[:, None, None] * growth[:, :, None]
    demand = demand * r.lognormal(0, 0.2, (works, 1, SCENARIOS))
    fastest = np.zeros_like(demand)
    np.maximum.at(fastest, pair_w, mtok)
    needed = (demand / fastest).mean(axis=2).sum(axis=0)

    discount = (1 + WACC) ** -np.arange(years + 1.0)
    price = r.uniform(20e3, 60e3, chips)
    running = 0.05 * price + 1.5 * HOURS_PER_YEAR * 0.08 * 1.1 + 12 * 1.5 * 150
    lot = r.choice([8, 16, 64, 72], chips).astype(float)
    buy = np.zeros((chips, years))
    bought, power = np.zeros((chips, years, years, SCENARIOS)), np.zeros((chips, years, years))
    for e in range(years):
        works_in = slice(e, min(years, e + LIFE_YEARS))
        worth = max(0.0, 1 - (years - e) / LIFE_YEARS) * discount[years]
        buy[:, e] = lot * (price * (discount[e] - worth) + running * discount[1:][works_in].sum())
        bought[:, e, works_in, :] = 0.97 * lot[:, None, None]
        power[:, e, works_in] = (lot * 1.5 * 1.1 / 1e3)[:, None]
    hourly = (price / LIFE_YEARS + running) / HOURS_PER_YEAR
    terms = [(a, term) for a in range(chips) for term in (1, 3)]
    commit_a = np.array([a for a, _ in terms])
    markup = np.where([term == 1 for _, term in terms], 1.5, 1.15) * r.uniform(0.9, 1.2, len(terms))
    commit, started = np.zeros((len(terms), years)), np.zeros((len(terms), years, years))
    for k, (a, term) in enumerate(terms):
        for e in range(years):
            run = slice(e, min(years, e + term))
            started[k, e, run] = lot[a]
            commit[k, e] = lot[a] * hourly[a] * markup[k] * HOURS_PER_YEAR * discount[1:][run].sum()
    rent = hourly * 2.2 * r.uniform(0.8, 1.3, chips) * HOURS_PER_YEAR * lot
    rents = rent[:, None, None] * discount[1:][None, :, None]
    ones = np.ones((1, years))
    return Problem(
        objective="min_cost",
        first_year=2027,
        accelerators=tuple(f"chip {a}" for a in range(chips)),
        vendors=vendors,
        workloads=tuple(f"work {w}" for w in range(works)),
        scenarios=tuple(f"future {s}" for s in range(SCENARIOS)),
        probability_s=np.full(SCENARIOS, 1 / SCENARIOS),
        demand_wys=demand,
        pair_a=pair_a,
        pair_w=pair_w,
        mtok_pys=mtok,
        port_usd_p=np.where(native, 0.0, 1e6 * r.uniform(*port_musd, len(pairs))),
        buy_lots_ay=np.ceil(0.15 * needed.mean() / lot[:, None] * ones),
        buy_usd_ay=buy,
        buy_capex_cash_ay=(lot * price)[:, None] * ones,
        buy_chips_aeys=bought,
        buy_mw_aey=power,
        commit_names=tuple(f"chip {a} {term}y" for a, term in terms),
        commit_a=commit_a,
        commit_lots_ky=np.ceil(0.2 * needed.mean() / lot[commit_a][:, None] * ones),
        commit_min_lots_k=np.zeros(len(terms)),
        commit_usd_ky=commit,
        commit_chips_key=started,
        rent_lots_ay=np.ceil(20 * needed.max()) * np.ones((chips, years)),
        rent_chips_a=lot,
        rent_usd_ays=rents * r.lognormal(0, 0.15, (chips, 1, SCENARIOS)),
        held_chips_ay=np.zeros((chips, years)),
        held_mw_y=np.zeros(years),
        capex_cash=float(0.4 * needed.max() * price.mean()),
        capex_cash_y=None,
        megawatts_y=np.linspace(0.3, 0.6, years) * needed.max() * 1.65 / 1e3,
        vendor_share={f"vendor {v}": 0.5 for v in range(VENDORS)},
        revenue_wys=np.zeros_like(demand),
        shortfall_wy=None,
        fixed_usd=0.0,
        cvar_level=0.9,
        cvar_weight=0.0,
    )


Found = tuple[float | None, float]
"""Objective in dollars of a plan that meets every row, and the bound that was proved."""


def with_milp(model: Model, seconds: float) -> Found:
    """Plain branch and bound of ``scipy.optimize.milp`` (HiGHS) on the whole program."""
    x, bound = branch(model, model.whole, seconds, 1e-4)
    value = None
    if x is not None and feasible(model, x):
        value = float(model.cost @ x) * model.unit_usd
    return value, bound * model.unit_usd


def with_cbc(model: Model, seconds: float) -> Found:
    """CBC through PuLP; its bound is not exposed there."""
    import pulp

    program = pulp.LpProblem("plan", pulp.LpMinimize)
    columns = [
        pulp.LpVariable(
            f"x{j}",
            None if np.isinf(model.low[j]) else model.low[j],
            None if np.isinf(model.high[j]) else model.high[j],
            pulp.LpInteger if model.whole[j] else pulp.LpContinuous,
        )
        for j in range(model.columns.count)
    ]
    program += pulp.LpAffineExpression(
        (columns[j], float(model.cost[j])) for j in np.flatnonzero(model.cost)
    )
    matrix = model.matrix
    for i in range(matrix.shape[0]):
        inside = range(matrix.indptr[i], matrix.indptr[i + 1])
        row = pulp.LpAffineExpression(
            (columns[matrix.indices[k]], float(matrix.data[k])) for k in inside
        )
        low, high = model.row_low[i], model.row_high[i]
        if low == high:
            program += row == float(low)
        elif np.isfinite(high):
            program += row <= float(high)
        else:
            program += row >= float(low)
    program.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-4, timeLimit=seconds, threads=2))
    if program.sol_status not in {pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible}:
        return None, -np.inf
    x = np.array([column.varValue or 0.0 for column in columns])
    whole = model.whole.astype(bool)
    x[whole] = np.round(x[whole])
    return (float(model.cost @ x) * model.unit_usd if feasible(model, x) else None), -np.inf


PEERS: dict[str, Callable[[Model, float], Found]] = {"milp": with_milp, "cbc": with_cbc}


def measure(
    size: str, seconds: float, peers: list[str], seed: int, port_musd: tuple[float, float]
) -> list[dict[str, object]]:
    """One row a solver: objective, gap against the best bound of all, and wall time."""
    years, chips, works = map(int, size.split("x"))
    problem = instance(years, chips, works, seed=seed, port_musd=port_musd)
    results: dict[str, tuple[float | None, float, float]] = {}
    started = time.perf_counter()
    solved = solve(problem, seconds=seconds, gap=1e-3)
    took = time.perf_counter() - started
    if solved is None:
        results["tpubench"] = (None, -np.inf, took)
    else:
        results["tpubench"] = (solved.objective, solved.bound, took)
    model = build(problem) if peers else None
    for peer in peers:
        assert model is not None
        started = time.perf_counter()
        value, bound = PEERS[peer](model, seconds)
        results[peer] = (value, bound, time.perf_counter() - started)
    bound = max(found[1] for found in results.values())
    return [
        {
            "size": size,
            "solver": name,
            "usd": value,
            "gap": None if value is None else max(0.0, value - bound) / value,
            "seconds": round(took, 1),
        }
        for name, (value, _, took) in results.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--peers", default="milp,cbc")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port-musd", default="{},{}".format(*PORT_MUSD), metavar="LOW,HIGH")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    low, high = map(float, asked.port_musd.split(","))
    peers = [peer for peer in asked.peers.split(",") if peer]
    if not asked.json:
        print(f"{'size':>10} {'solver':>10} {'gap':>9} {'seconds':>8}")
    rows = []
    for size in asked.sizes.split(","):
        for row in measure(size, asked.seconds, peers, asked.seed, (low, high)):
            rows.append(row)
            if not asked.json:
                gap = "none" if row["gap"] is None else f"{row['gap']:.3%}"
                print(
                    f"{row['size']:>10} {row['solver']:>10} {gap:>9} {row['seconds']:>8}",
                    flush=True,
                )
    if asked.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
