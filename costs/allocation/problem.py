"""The allocation as numbers: what each option gives, costs and is limited by.

Index letters, used in every array's name: a accelerator, w workload, y year, s scenario, v vendor,
k commitment option, p pair of an accelerator and a workload that it can serve. Money is US
dollars, already discounted to the first year unless the name says cash; work is Mtoken a year.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Objective = Literal["min_cost", "max_margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One plan, ready to be put as a mixed-integer program.

    Bought and committed lots and port decisions are made before the scenario is known; rent and
    the use of chips after it.
    """

    objective: Objective
    first_year: int
    accelerators: tuple[str, ...]
    vendors: tuple[str, ...]
    """Vendor of each accelerator."""
    workloads: tuple[str, ...]
    scenarios: tuple[str, ...]
    probability_s: Floats
    demand_wys: Floats

    pair_a: Ints
    pair_w: Ints
    mtok_pys: Floats
    """Mtoken a chip serves in a year at the SLO, readiness, porting and utilisation included."""
    port_usd_p: Floats

    buy_lots_ay: Floats
    """Most lots that can be bought; 0 where the accelerator is not for sale."""
    buy_usd_ay: Floats
    """Present value of one lot: price, upkeep, power and building less resale."""
    buy_capex_cash_ay: Floats
    buy_chips_aeys: Floats
    """Chips that a lot bought in year e has working in year y."""
    buy_mw_aey: Floats

    commit_names: tuple[str, ...]
    commit_a: Ints
    commit_lots_ky: Floats
    commit_min_lots_k: Floats
    commit_usd_ky: Floats
    commit_chips_key: Floats

    rent_lots_ay: Floats
    rent_chips_a: Floats
    rent_usd_ays: Floats

    held_chips_ay: Floats
    held_mw_y: Floats

    capex_cash: float | None
    capex_cash_y: Floats | None
    megawatts_y: Floats | None
    vendor_share: dict[str, float]

    revenue_wys: Floats
    """Present value of one served Mtoken; zero when cost is minimised."""
    shortfall_wy: Floats | None
    """Present value of the penalty for one Mtoken not served; None: demand is a must."""
    fixed_usd: float
    """Present value of what the plan pays whatever is decided."""
    cvar_level: float
    cvar_weight: float
    """Weight of the mean of the worst (1 − level) of scenarios, against the expected value."""

    @property
    def years(self) -> int:
        return int(self.demand_wys.shape[1])

    @property
    def must_serve(self) -> bool:
        return self.objective == "min_cost" and self.shortfall_wy is None
