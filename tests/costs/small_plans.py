"""Random small plans, and the best answer to each by trying everything."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from tpubench.costs.allocation.problem import Problem

CHIPS_A_LOT = 2.0


def small_problem(seed: int, *, most: int = 2, objective: str = "min_cost") -> Problem:
    """One or two of everything (or up to ``most``), in chips of two a lot."""
    r = np.random.default_rng(seed)
    years, chips, works, futures = r.integers(1, most + 1, size=4)
    vendors = tuple(f"vendor {a}" for a in range(chips))
    pairs = [(a, w) for a in range(chips) for w in range(works) if r.random() < 0.85]
    pairs = pairs or [(0, 0)]
    pair_a, pair_w = (np.array(side) for side in zip(*pairs, strict=True))
    demand = r.integers(1, 8, size=(works, years, futures)).astype(float)
    mtok = r.uniform(0.8, 3.0, size=(len(pairs), years, futures))
    mtok[r.random(mtok.shape) < 0.03] = 0.0
    bought = np.zeros((chips, years, years, futures))
    power = np.zeros((chips, years, years))
    for e, y in itertools.product(range(years), range(years)):
        if y >= e:
            bought[:, e, y, :] = CHIPS_A_LOT * r.choice([1.0, 0.9])
            power[:, e, y] = 1.0
    terms = np.zeros((chips, years, years))
    for e in range(years):
        terms[:, e, e] = CHIPS_A_LOT
    share = {v: float(r.uniform(0.5, 1.0)) for v in vendors} if works == 1 and chips == 2 else {}
    if r.random() < 0.5:
        share = {}
    margin = objective == "max_margin"
    revenue = r.uniform(5, 15, size=(works, 1, 1)) * margin
    return Problem(
        objective=objective,
        first_year=2027,
        accelerators=tuple(f"chip {a}" for a in range(chips)),
        vendors=vendors,
        workloads=tuple(f"work {w}" for w in range(works)),
        scenarios=tuple(f"future {s}" for s in range(futures)),
        probability_s=np.full(futures, 1 / futures),
        demand_wys=demand,
        pair_a=pair_a,
        pair_w=pair_w,
        mtok_pys=mtok,
        port_usd_p=np.where(r.random(len(pairs)) < 0.5, r.uniform(1, 12, len(pairs)), 0.0),
        buy_lots_ay=r.integers(0, 3, size=(chips, years)).astype(float),
        buy_usd_ay=r.uniform(5, 15, size=(chips, years)),
        buy_capex_cash_ay=r.uniform(5, 12, size=(chips, years)),
        buy_chips_aeys=bought,
        buy_mw_aey=power,
        commit_names=tuple(f"chip {a} term" for a in range(chips)),
        commit_a=np.arange(chips),
        commit_lots_ky=r.integers(0, 2, size=(chips, years)).astype(float),
        commit_min_lots_k=np.zeros(chips),
        commit_usd_ky=r.uniform(5, 12, size=(chips, years)),
        commit_chips_key=terms,
        rent_lots_ay=r.integers(0, 5, size=(chips, years)).astype(float),
        rent_chips_a=np.full(chips, CHIPS_A_LOT),
        rent_usd_ays=r.uniform(6, 20, size=(chips, years, futures)),
        held_chips_ay=r.integers(0, 2, size=(chips, years)).astype(float),
        held_mw_y=np.zeros(years),
        capex_cash=float(r.uniform(5, 40)) if r.random() < 0.4 else None,
        capex_cash_y=None,
        megawatts_y=r.integers(1, 5, size=years).astype(float) if r.random() < 0.4 else None,
        vendor_share=share,
        revenue_wys=np.broadcast_to(revenue, demand.shape).copy(),
        shortfall_wy=None,
        fixed_usd=0.0,
        cvar_level=0.5,
        cvar_weight=float(r.choice([0.0, 0.0, 0.4])),
    )


def best_by_trying(problem: Problem) -> float | None:
    """Least cost over every whole-lot decision; None when none can serve all demand.

    Independent of the program: chips are handed out by a knapsack, not by an equation.
    """
    chips, years = problem.buy_lots_ay.shape
    futures = range(len(problem.scenarios))
    ported = [p for p in range(len(problem.pair_a)) if problem.port_usd_p[p] > 0]
    buys = [range(int(n) + 1) for n in problem.buy_lots_ay.ravel()]
    terms = [range(int(n) + 1) for n in problem.commit_lots_ky.ravel()]
    least = None
    known: dict[tuple[object, ...], float | None] = {}
    for chosen in itertools.product((False, True), repeat=len(ported)):
        closed = frozenset(p for p, on in zip(ported, chosen, strict=True) if not on)
        port = sum(problem.port_usd_p[p] for p in ported if p not in closed)
        for lots in itertools.product(*buys):
            buy = np.array(lots, float).reshape(chips, years)
            if not _within_limits(problem, buy):
                continue
            for rest in itertools.product(*terms):
                commit = np.array(rest, float).reshape(chips, years)
                fixed = port + (buy * problem.buy_usd_ay).sum()
                fixed += (commit * problem.commit_usd_ky).sum()
                if least is not None and fixed >= least:
                    continue
                held = problem.held_chips_ay[:, :, None] + np.einsum(
                    "ae,aeys->ays", buy, problem.buy_chips_aeys
                )
                held = held + np.einsum("ke,key->ky", commit, problem.commit_chips_key)[:, :, None]
                costs = []
                for s in futures:
                    parts = []
                    for y in range(years):
                        key = (closed, y, s, tuple(held[:, y, s]))
                        if key not in known:
                            known[key] = _rent(problem, closed, held[:, y, s], y, s)
                        parts.append(known[key])
                    costs.append(None if None in parts else sum(parts))
                if None in costs:
                    continue
                total = fixed + _risk(problem, np.array(costs))
                least = total if least is None else min(least, total)
    return least


def _risk(problem: Problem, costs: np.ndarray) -> float:
    """Expected cost mixed with the mean of the worst share of futures, by sorting."""
    mean = float(costs @ problem.probability_s)
    if problem.cvar_weight == 0:
        return mean
    tail, left, worst = 1 - problem.cvar_level, 1 - problem.cvar_level, 0.0
    for s in np.argsort(-costs):
        part = min(left, float(problem.probability_s[s]))
        worst, left = worst + part * costs[s], left - part
    return (1 - problem.cvar_weight) * mean + problem.cvar_weight * worst / tail


def _within_limits(problem: Problem, buy: np.ndarray) -> bool:
    spent = (buy * problem.buy_capex_cash_ay).sum()
    if problem.capex_cash is not None and spent > problem.capex_cash:
        return False
    power = np.einsum("ae,aey->y", buy, problem.buy_mw_aey)
    return problem.megawatts_y is None or bool((power <= problem.megawatts_y).all())


def _rent(
    problem: Problem, closed: frozenset[int], held: np.ndarray, y: int, s: int
) -> float | None:
    """Cheapest whole lots to rent so that everything is served; None if nothing suffices."""
    best = None
    most = [int(n) for n in problem.rent_lots_ay[:, y]]
    for lots in itertools.product(*(range(n + 1) for n in most)):
        cost = float(np.dot(lots, problem.rent_usd_ays[:, y, s]))
        if (best is None or cost < best) and _serves(
            problem, closed, held + np.array(lots) * CHIPS_A_LOT, y, s
        ):
            best = cost
    return best


def _serves(problem: Problem, closed: frozenset[int], chips: np.ndarray, y: int, s: int) -> bool:
    """Whether these chips serve all demand: the second chip gets what the first cannot."""
    needs = []
    for w in range(len(problem.workloads)):
        need: list[float | None] = [None] * len(chips)
        for p in range(len(problem.pair_a)):
            if problem.pair_w[p] == w and p not in closed and problem.mtok_pys[p, y, s] > 0:
                speed = problem.mtok_pys[p, y, s]
                need[problem.pair_a[p]] = float(problem.demand_wys[w, y, s] / speed)
        needs.append(need)
    if len(chips) == 1:
        loads = [need[0] for need in needs]
        return None not in loads and sum(loads) <= chips[0] + 1e-9
    first, second = 0.0, 0.0
    movable = []
    for need in needs:
        low = 0.0 if need[1] is not None else 1.0
        high = 1.0 if need[0] is not None else 0.0
        if problem.vendor_share:
            high = min(high, problem.vendor_share[problem.vendors[0]])
            low = max(low, 1 - problem.vendor_share[problem.vendors[1]])
        if low > high + 1e-12:
            return False
        first += low * (need[0] or 0.0)
        second += (1 - low) * (need[1] or 0.0)
        if high > low:
            movable.append((need[1] / need[0], (high - low) * need[0]))
    if first > chips[0] + 1e-9:
        return False
    for saved, load in sorted(movable, reverse=True):
        moved = min(load, chips[0] - first)
        first, second = first + moved, second - moved * saved
    return bool(second <= chips[1] + 1e-9)


def dearer(problem: Problem, a: int, factor: float) -> Problem:
    """The same plan with one chip's purchase price changed."""
    usd = problem.buy_usd_ay.copy()
    usd[a] *= factor
    return replace(problem, buy_usd_ay=usd)
