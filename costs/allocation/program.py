"""The program of a plan: columns, rows, and a ledger of what every column pays and when.

Objective, cash by year and scenario, profit, tax and the new money of an option are all sums over
the same ledger, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.timeline import Floats, Ints, Numbers, Timeline

Name = tuple[str | int, ...]
"""Kind first ("demand", "power", "budget", …), then indices."""

CATEGORIES = (
    "capex", "porting", "running", "commitments", "fees", "rent", "shortfall", "revenue", "resale",
    "depreciation", "book",
)  # fmt: skip
CASH = np.array([1, 1, 1, 1, 1, 1, 1, -1, -1, 0, 0], float)
"""Cash spent (+) or received (−) by a dollar of each category."""
PROFIT = np.array([0, -1, -1, -1, -1, -1, 0, 1, 1, -1, -1], float)
"""Effect on taxable profit; ``book`` is what a chip still stands in the books at when it goes."""
NEW_MONEY = np.array([c in {"capex", "commitments", "rent"} for c in CATEGORIES])
NUDGE = 1e-6
"""Secondary objective: of plans that cost the same, the one with less new money, and then the
option that stands first in the file; as a share of the money, so far below any price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to get one chip."""

    accelerator: str
    vendor: str
    side: str
    how: str
    """buy, commit or rent."""
    name: str
    signed: bool = False
    """Bound already: not new money."""

    @property
    def label(self) -> str:
        return f"{self.accelerator} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """Dollars of a year paid by one unit of a column (−1: in any case), in parallel arrays."""

    category: Ints
    column: Ints
    usd: Floats
    year: Ints
    time: Floats
    """When it is paid, in years from the start, for its present value."""
    scenario: Ints
    """−1: in all of them."""

    def weight(self, plan: Plan) -> Floats:
        """Present value after tax of each entry, in the objective's sense; 0 for revenue where
        cost is minimised."""
        wacc, tax = plan.plan.wacc, plan.plan.tax_rate
        value = CASH[self.category] * (1 + wacc) ** -self.time
        value = value + tax * PROFIT[self.category] * (1 + wacc) ** -(self.year + 1.0)
        if plan.plan.objective == "min_cost":
            value = np.where(self.category == CATEGORIES.index("revenue"), 0.0, value)
        return np.asarray(value * self.usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProgram:
    """min cost·x with row_low ≤ A·x ≤ row_high, low ≤ x ≤ high; some x whole.

    Of n columns and m rows: matrix [m, n], sparse; row_low, row_high, row_names [m]; the others
    [n], as every solution x is. A suffix names the axes of an array: a accelerators, w workloads,
    p pairs of both, k commitments, y years of the plan, s scenarios.
    """

    plan: Plan
    timeline: Timeline
    cost: Floats
    """In units of ``unit_usd``."""
    nudge: Floats
    """The secondary objective, to be added to ``cost``."""
    matrix: sparse.csr_array
    row_low: Floats
    row_high: Floats
    row_names: list[Name]
    low: Floats
    high: Floats
    whole: Ints
    unit_usd: float
    fixed_usd: float
    """Present value of what is paid whatever is decided."""
    ledger: Ledger
    options: list[Option]
    option: Ints
    """Option of each column, −1 for none."""
    money: Floats
    """Present dollars of new money in one unit of each column, expected, before tax."""
    scale_a: Floats
    """Chips in one unit of each accelerator's capacity rows."""
    at: dict[str, Ints]
    """Columns of each family: ``buy[a,y]``, ``commit[k,y]``, ``signed[k,y]``, ``draw[i]``…"""

    def total_usd(self, x: Floats) -> float:
        """The objective in dollars, fixed part included."""
        return float(self.cost @ x) * self.unit_usd + self.fixed_usd

    @property
    def signs(self) -> Ints:
        """Columns of the contracts that may be signed or not."""
        columns = [c[0] for name, c in self.at.items() if name.startswith("contract ")]
        return np.array([c for c in columns if self.low[c] < self.high[c]], dtype=np.int64)

    def present_usd(self) -> Floats:
        """Expected present dollars after tax of one unit of each column, risk set aside."""
        ledger, plan = self.ledger, self.plan
        futures = np.array([s.probability for s in plan.futures])
        chance = np.where(ledger.scenario >= 0, futures[np.maximum(ledger.scenario, 0)], 1.0)
        dollars = np.zeros(len(self.cost))
        free = ledger.column >= 0
        np.add.at(dollars, ledger.column[free], (ledger.weight(plan) * chance)[free])
        return dollars


@dataclass(slots=True, kw_only=True)
class Builder:
    """Collects a program; see :mod:`tpubench.costs.allocation.build`."""

    plan: Plan
    timeline: Timeline
    scale_a: Floats
    options: list[Option] = field(default_factory=list)
    at: dict[str, Ints] = field(default_factory=dict)
    low: list[Floats] = field(default_factory=list)
    high: list[Floats] = field(default_factory=list)
    whole: list[Ints] = field(default_factory=list)
    option: list[Ints] = field(default_factory=list)
    nudges: list[tuple[Ints, Floats]] = field(default_factory=list)
    row_low: list[Floats] = field(default_factory=list)
    row_high: list[Floats] = field(default_factory=list)
    row_names: list[Name] = field(default_factory=list)
    entries: list[tuple[Ints, Ints, Floats]] = field(default_factory=list)
    paid: list[tuple[int, Ints, Floats, Ints, Floats, Ints]] = field(default_factory=list)
    count: int = 0

    def columns(self, high: Floats, *, whole: bool = False, option: Option | None = None) -> Ints:
        """New columns from 0 to ``high``, of its shape."""
        index = np.arange(self.count, self.count + high.size).reshape(high.shape)
        self.count += high.size
        self.low.append(np.zeros(high.size))
        self.high.append(high.ravel().astype(float))
        self.whole.append(np.full(high.size, int(whole)))
        number = -1
        if option is not None:
            if option not in self.options:
                self.options.append(option)
            number = self.options.index(option)
        self.option.append(np.full(high.size, number))
        return index

    def rows(self, names: Sequence[Name], low: float | Floats, high: float | Floats) -> Ints:
        """New rows of these names and bounds."""
        start = len(self.row_names)
        self.row_names += names
        self.row_low.append(np.broadcast_to(np.asarray(low, float), (len(names),)))
        self.row_high.append(np.broadcast_to(np.asarray(high, float), (len(names),)))
        return np.arange(start, start + len(names))

    def put(self, row: Numbers, column: Numbers, value: Numbers | float) -> None:
        """Coefficients, broadcast together; zeros are left out."""
        shape = np.broadcast(row, column, value).shape
        rows, columns = _spread(row, shape, np.int64), _spread(column, shape, np.int64)
        self.entries.append((rows, columns, _spread(value, shape, np.float64)))

    def pay(
        self,
        category: str,
        column: Numbers | int,
        usd: Numbers | float,
        year: Numbers | int,
        time: Numbers | float | None = None,
        scenario: Numbers | int = -1,
    ) -> None:
        """Ledger entries, broadcast together; at the year's end unless ``time`` is given."""
        shape = np.broadcast(column, usd, year, 0 if time is None else time, scenario).shape
        years = _spread(year, shape, np.int64)
        self.paid.append(
            (
                CATEGORIES.index(category),
                _spread(column, shape, np.int64),
                _spread(usd, shape, np.float64),
                years,
                years + 1.0 if time is None else _spread(time, shape, np.float64),
                _spread(scenario, shape, np.int64),
            )
        )

    def prefer(self, column: Ints, weight: Numbers) -> None:
        """More of the secondary objective, in dollars."""
        self.nudges.append((column.ravel(), np.broadcast_to(weight, column.shape).ravel()))

    def program(self) -> LinearProgram:
        """The program, once all is collected."""
        plan = self.plan
        ledger = self._ledger()
        futures = np.array([s.probability for s in plan.futures])
        spread = ledger.scenario >= 0
        chance = np.where(spread, futures[np.maximum(ledger.scenario, 0)], 1.0)
        value = ledger.weight(plan)
        averse = plan.plan.cvar_weight
        free = ledger.column >= 0
        risk = np.where(spread, 1.0 - averse, 1.0)
        dollars = np.zeros(self.count + (len(futures) + 1 if averse > 0 else 0))
        np.add.at(dollars, ledger.column[free], (value * chance * risk)[free])
        typical = np.abs(dollars[dollars != 0])
        unit = float(np.exp(np.log(typical).mean())) if len(typical) else 1.0
        if averse > 0:
            self._tail(ledger, value, futures, dollars, unit)
        money = np.zeros(self.count)
        counted = NEW_MONEY[ledger.category] & free
        present = ledger.usd * chance * (1 + plan.plan.wacc) ** -ledger.time
        np.add.at(money, ledger.column[counted], present[counted])
        option = np.concatenate(self.option)
        rank = 1 + np.where(option >= 0, option, 0) / max(len(self.options), 1)
        nudge = NUDGE * np.abs(money) * rank
        for columns, weight in self.nudges:
            nudge[columns] += NUDGE * weight
        shape = (len(self.row_names), self.count)
        rows, columns, values = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        keep = values != 0
        rows, columns, values = rows[keep], columns[keep], values[keep]
        return LinearProgram(
            plan=plan,
            timeline=self.timeline,
            cost=dollars / unit,
            nudge=nudge / unit,
            matrix=sparse.csr_array((values, (rows, columns)), shape=shape),
            row_low=np.concatenate(self.row_low),
            row_high=np.concatenate(self.row_high),
            row_names=self.row_names,
            low=np.concatenate(self.low),
            high=np.concatenate(self.high),
            whole=np.concatenate(self.whole),
            unit_usd=unit,
            fixed_usd=float((value * chance)[~free].sum()),
            ledger=ledger,
            options=self.options,
            option=option,
            money=money,
            scale_a=self.scale_a,
            at=self.at,
        )

    def _ledger(self) -> Ledger:
        if not self.paid:
            self.pay("running", -1, 0.0, 0)
        kinds, column, usd, year, time, scenario = zip(*self.paid, strict=True)
        category = np.repeat(np.array(kinds), [len(part) for part in usd])
        amounts = np.concatenate(usd)
        keep = amounts != 0
        return Ledger(
            category=category[keep],
            column=np.concatenate(column)[keep],
            usd=amounts[keep],
            year=np.concatenate(year)[keep],
            time=np.concatenate(time)[keep],
            scenario=np.concatenate(scenario)[keep],
        )

    def _tail(
        self, ledger: Ledger, value: Floats, futures: Floats, dollars: Floats, unit: float
    ) -> None:
        """Mean of the worst scenarios (Rockafellar and Uryasev, Journal of Risk 2(3), 2000):
        a threshold and the excess of each scenario's own cost over it."""
        plan, count = self.plan.plan, len(futures)
        threshold = self.columns(np.array([np.inf]))
        self.low[-1][:] = -np.inf
        excess = self.columns(np.full(count, np.inf))
        self.at["tail"] = np.concatenate([threshold, excess])
        row = self.rows([("tail", s) for s in range(count)], -np.inf, 0.0)
        mine = (ledger.scenario >= 0) & (ledger.column >= 0)
        self.put(row[ledger.scenario[mine]], ledger.column[mine], value[mine] / unit)
        self.put(row, excess, -1.0)
        self.put(row, threshold[0], -1.0)
        weight = plan.cvar_weight * unit
        dollars[threshold] = weight
        dollars[excess] = weight * futures / (1 - plan.cvar_level)


def _spread(values: Numbers | float, shape: tuple[int, ...], kind: type) -> Numbers:
    """``values`` broadcast to ``shape``, flat; several times quicker than NumPy's own way."""
    out: Numbers = np.empty(shape, dtype=kind)
    out[...] = values
    return out.ravel()
