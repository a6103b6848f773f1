"""How far from the best a plan is, and how long a plan and its verdict take.

    python benchmarks/allocate.py [--seconds 60] [--sizes 5x7x6,8x12x12] [--peers milp,cbc]
    python benchmarks/allocate.py --verdict PLAN.toml

Sizes are years × accelerators × workloads, each with vendors under caps, porting costs, purchase
lots, commitments of one and three years, rent, a budget, megawatts and 20 scenarios of demand,
price and readiness. All solvers get the same program and the same time, one after another; the gap
of each is held against the best bound that any of them proved. Seconds are of this process's own
computing, so a busy machine does not change them; CBC runs outside it and gets wall time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import relaxed
from tpubench.costs.allocation.plan import Plan, plan_of
from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.solve import feasible, solve
from tpubench.devices.sheets import devices

SIZES = "5x7x6,8x12x12,10x20x20"
SCENARIOS = 20
PORT_MUSD = (0.3, 5.0)
"""Range of the cost of porting a workload to a chip, in millions of US dollars."""


def instance(
    years: int, chips: int, works: int, seed: int = 0, port_musd: tuple[float, float] = PORT_MUSD
) -> Plan:
    """A random plan of that size in the proportions of real ones (billions of dollars)."""
    r = np.random.default_rng(seed)
    names = sorted(devices(), key=lambda name: (not name.startswith("tpu-"), name))
    tpus, gpus = names[: chips // 3], names[::-1][: chips - chips // 3]
    source = {"source": "random", "as_of": "2026-11-01"}
    price = r.uniform(20e3, 60e3, chips)
    hourly = price * 0.3 / 8760 + 0.4
    speed, size = r.uniform(0.5, 2, chips), r.uniform(0.5, 2, works)
    accelerators = []
    for a, name in enumerate([*tpus, *gpus]):
        lot = int(r.choice([8, 16, 64, 72]))
        markup = r.uniform(0.9, 1.2, 2) * np.array([1.5, 1.15])
        accelerators.append(
            {
                "name": name,
                "kw": 1.5,
                "buy": {
                    "capex_usd": price[a], "lot": lot, "max_chips": 20_000.0, "life_years": 5.0,
                    "opex_rate": 0.05, "availability": 0.97, **source,
                },
                "commit": [
                    {
                        "name": f"{term}y", "usd_per_chip_hour": hourly[a] * factor, "lot": lot,
                        "term_years": term, "max_chips": 30_000.0, **source,
                    }
                    for term, factor in zip((1, 3), markup, strict=True)
                ],
                "rent": {
                    "usd_per_chip_hour": hourly[a] * 2.2 * r.uniform(0.8, 1.3), "lot": lot,
                    "max_chips": 1e6, **source,
                },
            }
        )  # fmt: skip
    pairs = []
    for a, chip in enumerate(accelerators):
        for w in range(works):
            if r.random() > 0.6 and a != w % chips:
                continue
            native = a >= len(tpus)
            ready = np.clip(r.uniform(0.5, 0.9) + 0.1 * np.arange(years), 0, 1)
            pairs.append(
                {
                    "accelerator": chip["name"], "workload": f"work {w}", "evidence": "assumed",
                    "tok_s": 1000 * speed[a] * size[w] * r.uniform(0.7, 1.3), "source": "random",
                    "readiness": 1.0 if native else ready.tolist(),
                    "porting_usd": 0.0 if native else 1e6 * r.uniform(*port_musd),
                }
            )  # fmt: skip
    vendors = {devices()[str(chip["name"])].vendor for chip in accelerators}
    demand = r.uniform(2e7, 2e8, works)
    content: dict[str, Any] = {
        "plan": {
            "name": "random", "first_year": 2027, "years": years, "wacc": 0.09, "utilisation": 0.6,
        },
        "site": {
            "usd_per_kwh": 0.08, "pue": 1.1, "colo_usd_per_kw_month": 150.0, **source,
        },
        "limits": {
            "capex_usd": float(1e9 * works), "vendor_share": dict.fromkeys(sorted(vendors), 0.7),
            "megawatts": np.linspace(8, 20, years).tolist(),
        },
        "workload": [
            {
                "name": f"work {w}", "demand_mtok_first": float(demand[w]),
                "growth": float(r.uniform(0.1, 0.6)),
            }
            for w in range(works)
        ],
        "accelerator": accelerators,
        "throughput": pairs,
        "scenario": [
            {
                "name": f"future {s}", "probability": 1 / SCENARIOS,
                "demand": {f"work {w}": float(r.lognormal(0, 0.2)) for w in range(works)},
                "rent_price": {str(c["name"]): float(r.lognormal(0, 0.15)) for c in accelerators},
                "readiness": {name: float(r.uniform(0.8, 1.1)) for name in tpus},
            }
            for s in range(SCENARIOS)
        ],
    }  # fmt: skip
    return plan_of(_dated(content), "random plan")


def _dated(content: Any) -> Any:
    """Dates as TOML gives them."""
    import datetime as dt

    if isinstance(content, dict):
        return {
            key: dt.date.fromisoformat(value) if key == "as_of" else _dated(value)
            for key, value in content.items()
        }
    return [_dated(part) for part in content] if isinstance(content, list) else content


Outcome = tuple[float | None, float]
"""Cost of a plan that meets every row, and the bound that was proved; the program's units."""


def with_tpubench(program: LinearProgram, seconds: float, gap: float = 1e-3) -> Outcome:
    """The solver of ``tpubench allocate``."""
    relaxation = relaxed(program, seconds=seconds)
    if relaxation is None:
        return None, -np.inf
    solved = solve(program, relaxation, seconds, gap)
    if solved is None:
        return None, -np.inf
    value = float(program.cost @ solved.x)
    fixed = program.fixed_usd / program.unit_usd
    return value, value - solved.gap * abs(value + fixed)


def with_milp(program: LinearProgram, seconds: float, gap: float = 1e-4) -> Outcome:
    """Plain branch and bound of ``scipy.optimize.milp`` (HiGHS) on the whole program."""
    optimum = milp(
        program.cost,
        constraints=LinearConstraint(program.matrix, program.row_low, program.row_high),
        bounds=Bounds(program.low, program.high),
        integrality=program.whole,
        options={"time_limit": seconds, "mip_rel_gap": gap},
    )
    bound = float(optimum.mip_dual_bound) if optimum.mip_dual_bound is not None else -np.inf
    if optimum.x is None:
        return None, bound
    x = np.asarray(optimum.x)
    whole = program.whole.astype(bool)
    x[whole] = np.round(x[whole])
    return (float(program.cost @ x) if feasible(program, x) else None), bound


def with_cbc(program: LinearProgram, seconds: float) -> Outcome:
    """CBC through PuLP; its bound is not exposed there."""
    import pulp

    model = pulp.LpProblem("plan", pulp.LpMinimize)
    columns = [
        pulp.LpVariable(
            f"x{j}",
            None if np.isinf(program.low[j]) else program.low[j],
            None if np.isinf(program.high[j]) else program.high[j],
            pulp.LpInteger if program.whole[j] else pulp.LpContinuous,
        )
        for j in range(len(program.cost))
    ]
    costly = np.flatnonzero(program.cost)
    model += pulp.LpAffineExpression((columns[j], float(program.cost[j])) for j in costly)
    matrix = program.matrix
    for i in range(matrix.shape[0]):
        inside = range(matrix.indptr[i], matrix.indptr[i + 1])
        row = pulp.LpAffineExpression(
            (columns[matrix.indices[k]], float(matrix.data[k])) for k in inside
        )
        low, high = program.row_low[i], program.row_high[i]
        if low == high:
            model += row == float(low)
        elif np.isfinite(high):
            model += row <= float(high)
        elif np.isfinite(low):
            model += row >= float(low)
    model.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=1e-4, timeLimit=seconds, threads=2))
    if model.sol_status not in {pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible}:
        return None, -np.inf
    x = np.array([column.varValue or 0.0 for column in columns])
    whole = program.whole.astype(bool)
    x[whole] = np.round(x[whole])
    return (float(program.cost @ x) if feasible(program, x) else None), -np.inf


SOLVERS: dict[str, Callable[[LinearProgram, float], Outcome]] = {
    "tpubench": with_tpubench,
    "milp": with_milp,
    "cbc": with_cbc,
}


def measure(
    size: str, seconds: float, peers: list[str], seed: int, port_musd: tuple[float, float]
) -> list[dict[str, object]]:
    """One row a solver: cost, gap against the best bound of all, and time."""
    years, chips, works = map(int, size.split("x"))
    program = build(instance(years, chips, works, seed=seed, port_musd=port_musd))
    outcomes: dict[str, tuple[float | None, float, float]] = {}
    for name in ["tpubench", *peers]:
        started = time.process_time(), time.perf_counter()
        value, bound = SOLVERS[name](program, seconds)
        took = time.process_time() - started[0]
        if name == "cbc":
            took = time.perf_counter() - started[1]
        outcomes[name] = (value, bound, took)
    best = max(bound for _, bound, _ in outcomes.values())
    return [
        {
            "size": size,
            "solver": name,
            "usd": None if value is None else value * program.unit_usd,
            "gap": None if value is None else max(0.0, value - best) / abs(value),
            "seconds": round(took, 1),
        }
        for name, (value, _, took) in outcomes.items()
    ]


def time_verdict(plan: Plan) -> dict[str, object]:
    """The whole answer of one plan: gap, computing time, how much was looked at."""
    from tpubench.costs.allocation.answer import answer

    started = time.process_time()
    outcome = answer(plan, [])
    verdict = outcome.verdict
    return {
        "cpu_seconds": round(time.process_time() - started, 1),
        "gap": outcome.gap,
        "samples": plan.doubt.samples,
        "inputs": len(verdict.flips) + len(verdict.flips_left_out),
        "left_out": len(verdict.flips_left_out),
        "flips": sum(flip.at is not None for flip in verdict.flips),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--peers", default="milp,cbc")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port-musd", default="{},{}".format(*PORT_MUSD), metavar="LOW,HIGH")
    parser.add_argument("--verdict", metavar="PLAN.toml|SIZE", help="time one whole answer instead")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if asked.verdict:
        print(json.dumps(time_verdict(_plan(asked.verdict, asked.seed))))
        return
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


def _plan(text: str, seed: int) -> Plan:
    from tpubench.costs.allocation.plan import read_plan
    from tpubench.costs.allocation.resolve import resolve
    from tpubench.devices.prices import prices, today

    if not Path(text).exists():
        years, chips, works = map(int, text.split("x"))
        return instance(years, chips, works, seed=seed)
    plan, _ = resolve(read_plan(Path(text)), prices(), Path("bench-results"), today())
    return plan


if __name__ == "__main__":
    main()
