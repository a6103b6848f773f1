"""Why a plan cannot be carried out: the limits that clash, and by how much.

Every limit gets a slack that is paid for, as a share of the limit; the cheapest way to make the
plan possible uses slack only where limits clash. Demand may be left unserved at a far higher
price, so it shows up only where no chip can serve it at all.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy import sparse

from tpubench.costs.allocation.linear import solve_rows
from tpubench.costs.allocation.model import Model, Name, build
from tpubench.costs.allocation.problem import Floats, Ints, Problem
from tpubench.errors import TpubenchError

UNSERVED = 1e4
"""Price of leaving all of a demand unserved, where 1 is widening a limit by itself."""
NOTABLE = 1e-5
LIMITS = {"budget", "yearly budget", "power", "vendor", "signed"}


class InfeasibleError(TpubenchError):
    """No plan meets all limits; the message names those that clash."""

    exit_code = 1


def explain(problem: Problem, seconds: float = 60.0) -> InfeasibleError:
    """The error to raise for a problem whose relaxation has no solution."""
    model = build(problem)
    clash, unmet = _cheapest_way_out(model, seconds)
    if unmet:
        where = _places(problem, unmet)
        return InfeasibleError(
            f"the plan is infeasible: no accelerator in it can serve {where}"
            " (no throughput, readiness 0, or porting not done)"
        )
    if not clash:
        return InfeasibleError(
            "the plan is infeasible or too large to decide in the time given: raise plan.seconds"
        )
    parts = [f"{name} (short by {share:.1%})" for name, share in clash]
    return InfeasibleError(
        f"the plan is infeasible: demand clashes with {' and '.join(parts)};"
        " widening these by so much would make it possible"
    )


def _cheapest_way_out(model: Model, seconds: float) -> tuple[list[tuple[str, float]], list[Name]]:
    """Widened limits with the share by which, and demands that nothing can serve."""
    problem, columns = model.problem, model.columns
    rows = [i for i, name in enumerate(model.row_names) if name[0] in LIMITS]
    demands = [i for i, name in enumerate(model.row_names) if name[0] == "demand"]
    bounded = [
        (family, index)
        for family, index in (
            ("supply", columns.buy_ay),
            ("commitment", columns.commit_ky),
            ("rent", columns.rent_ays),
        )
    ]
    caps = np.concatenate([index[index >= 0] for _, index in bounded]).astype(np.int64)
    n, r, d, c = columns.count, len(rows), len(demands), len(caps)
    high = model.high.copy()
    high[caps] = np.inf
    slack_rows = _at(np.array(rows), np.arange(r), _sign(model, rows), (len(model.row_names), r))
    slack_demand = _at(np.array(demands), np.arange(d), np.ones(d), (len(model.row_names), d))
    nothing = sparse.csr_array((len(model.row_names), c))
    top = sparse.hstack([model.matrix, slack_rows, slack_demand, nothing])
    size = np.maximum(model.high[caps], 1.0)
    bound_rows = sparse.hstack(
        [
            _at(np.arange(c), caps, 1 / size, (c, n)),
            sparse.csr_array((c, r + d)),
            _at(np.arange(c), np.arange(c), -np.ones(c), (c, c)),
        ]
    )
    price = np.concatenate([np.zeros(n), np.ones(r), np.full(d, UNSERVED), np.ones(c)])
    found = solve_rows(
        price,
        sparse.csr_array(sparse.vstack([top, bound_rows])),
        (
            np.concatenate([model.row_low, np.full(c, -np.inf)]),
            np.concatenate([model.row_high, model.high[caps] / size]),
        ),
        (
            np.concatenate([model.low, np.zeros(r + d + c)]),
            np.concatenate([high, np.full(r, np.inf), np.ones(d), np.full(c, np.inf)]),
        ),
        seconds,
    )
    if found is None:
        return [], []
    slack = found.x[n:]
    unmet = [model.row_names[i] for i, v in zip(demands, slack[r : r + d], strict=True) if v > 1e-6]
    widened: dict[str, float] = defaultdict(float)
    for i, value in zip(rows, slack[:r], strict=True):
        if value > NOTABLE:
            name = _limit_name(problem, model.row_names[i])
            widened[name] = max(widened[name], float(value) / _size(model, i))
    for family, index in bounded:
        for place in np.argwhere(index >= 0):
            value = float(slack[r + d + int(np.flatnonzero(caps == index[tuple(place)])[0])])
            if value > NOTABLE:
                name = _option_name(problem, family, place)
                widened[name] = max(widened[name], value)
    return sorted(widened.items(), key=lambda item: -item[1]), unmet


def _at(rows: Ints, columns: Ints, values: Floats, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((values, (rows, columns)), shape=shape)


def _sign(model: Model, rows: list[int]) -> Floats:
    """Slack helps an upper limit from below and a lower one from above."""
    return np.array([-1.0 if np.isfinite(model.row_high[i]) else 1.0 for i in rows])


def _size(model: Model, row: int) -> float:
    high, low = model.row_high[row], model.row_low[row]
    limit = abs(high if np.isfinite(high) else low)
    return float(limit) if limit > 1e-9 else 1.0


def _limit_name(problem: Problem, name: Name) -> str:
    kind = name[0]
    if kind == "budget":
        return "limits.capex_usd"
    if kind == "yearly budget":
        return f"limits.capex_usd_by_year in {problem.first_year + int(name[1])}"
    if kind == "power":
        return f"limits.megawatts in {problem.first_year + int(name[1])}"
    if kind == "signed":
        return f"min_chips of {problem.commit_names[int(name[1])]}"
    return f"limits.vendor_share.{name[1]} in {problem.first_year + int(name[2])}"


def _option_name(problem: Problem, family: str, place: Ints) -> str:
    year = problem.first_year + int(place[1])
    if family == "commitment":
        return f"max_chips of {problem.commit_names[int(place[0])]} in {year}"
    kind = "buy" if family == "supply" else "rent"
    return f"{kind}.max_chips of {problem.accelerators[int(place[0])]} in {year}"


def _places(problem: Problem, unmet: list[Name]) -> str:
    years: dict[str, set[int]] = defaultdict(set)
    for name in unmet:
        years[problem.workloads[int(name[1])]].add(problem.first_year + int(name[2]))
    parts = [f"{w!r} in {', '.join(map(str, sorted(when)))}" for w, when in years.items()]
    return " and ".join(parts[:3])
