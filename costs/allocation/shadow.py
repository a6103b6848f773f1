"""What one more megawatt, budget dollar, point of a vendor's share or chip of supply is worth.

These are the duals of the relaxed plan: true for a small step from it, other things equal.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.compile import Compiled
from tpubench.costs.allocation.solve import Solved

NOTABLE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """Present value gained by one more unit of a limit, US dollars."""

    limit: str
    unit: str
    usd: float


def shadow_prices(compiled: Compiled, solved: Solved) -> list[ShadowPrice]:
    """The limits that bind, dearest kind first in the order of the plan."""
    problem = compiled.problem
    model, solution = solved.relaxation.model, solved.relaxation.solution
    duals = solution.row_duals * model.unit_usd
    found: list[ShadowPrice] = []
    shares: dict[str, float] = defaultdict(float)
    for row, name in enumerate(model.row_names[: model.shared_rows]):
        gain = -float(duals[row])
        if abs(gain) <= NOTABLE:
            continue
        year = problem.first_year + int(name[1]) if len(name) > 1 and name[0] != "vendor" else 0
        if name[0] == "budget" and problem.capex_cash is not None:
            usd = gain / max(problem.capex_cash, 1.0)
            found.append(ShadowPrice(limit="capex budget", unit="$ of capex", usd=usd))
        elif name[0] == "yearly budget" and problem.capex_cash_y is not None:
            usd = gain / max(problem.capex_cash_y[int(name[1])], 1.0)
            found.append(ShadowPrice(limit=f"capex budget {year}", unit="$ of capex", usd=usd))
        elif name[0] == "power" and problem.megawatts_y is not None:
            usd = gain / max(problem.megawatts_y[int(name[1])], 1e-3)
            found.append(ShadowPrice(limit=f"power {year}", unit="MW", usd=usd))
        elif name[0] == "vendor":
            work = 1.0
            if not problem.must_serve:
                column = model.columns.work_ys[int(name[2]), int(name[3])]
                work = float(solution.x[column])
            shares[str(name[1])] += gain * work / 100
    for vendor, usd in shares.items():
        found.append(ShadowPrice(limit=f"vendor share {vendor}", unit="percentage point", usd=usd))
    for a, chip in enumerate(compiled.plan.accelerator):
        columns = model.columns.buy_ay[a]
        for y in np.flatnonzero(columns >= 0):
            gain = -float(solution.high_duals[columns[y]]) * model.unit_usd
            if gain > NOTABLE and chip.buy is not None:
                limit = f"supply of {chip.name} {problem.first_year + int(y)}"
                found.append(ShadowPrice(limit=limit, unit="chip", usd=gain / chip.buy.lot))
    return found
