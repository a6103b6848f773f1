"""The mixed-integer program: columns, rows and bounds in sparse form.

The use of chips is a share f of a workload's demand, so that demand rows read Σ f = 1, porting
reads f ≤ z and numbers stay near one; bought, committed and rented amounts are counted in lots and
money in a unit chosen from the data. Every row and column has a name, so that an infeasible or
binding limit can be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from tpubench.costs.allocation.problem import Floats, Ints, Problem

Name = tuple[str | int, ...]
"""Kind first ("demand", "power", "supply", …), then indices."""


@dataclass(slots=True, kw_only=True)
class Columns:
    """Where each family of variables starts, as index arrays into the solution vector."""

    buy_ay: Ints
    commit_ky: Ints
    port_p: Ints
    """−1 for a pair that costs nothing to port."""
    rent_ays: Ints
    use_pys: Ints
    """−1 where the pair cannot serve."""
    short_wys: Ints
    work_ys: Ints
    """Reference chips of work served, for vendor shares."""
    tail: Ints
    """CVaR: the threshold, then the excess of each scenario."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """min cost·x with lower ≤ A·x ≤ upper, low ≤ x ≤ high; some x whole."""

    problem: Problem
    pairs: Ints
    """Which of the problem's pairs are in; columns use positions in this array."""
    columns: Columns
    cost: Floats
    matrix: sparse.csr_array
    row_low: Floats
    row_high: Floats
    row_names: list[Name]
    shared_rows: int
    """Rows before the porting ones: the same whatever ``pairs`` are in."""
    port_pairs: Ints
    """Position in ``pairs`` of each row after the shared ones, ascending."""
    low: Floats
    high: Floats
    whole: Ints
    unit_usd: float
    """Dollars in one unit of the objective."""

    def port_rows(self, positions: Ints) -> Ints:
        """Rows f ≤ z of the pairs at these positions."""
        return self.shared_rows + np.flatnonzero(np.isin(self.port_pairs, positions))


@dataclass(slots=True)
class _Rows:
    """Coordinates of the matrix as they are collected."""

    row: list[Ints] = field(default_factory=list)
    column: list[Ints] = field(default_factory=list)
    value: list[Floats] = field(default_factory=list)
    low: list[Floats] = field(default_factory=list)
    high: list[Floats] = field(default_factory=list)
    names: list[Name] = field(default_factory=list)

    def block(self, names: list[Name], low: float | Floats, high: float | Floats) -> Ints:
        """New rows of these names and bounds; returns their indices."""
        start = len(self.names)
        self.names += names
        self.low.append(np.broadcast_to(np.asarray(low, float), (len(names),)).copy())
        self.high.append(np.broadcast_to(np.asarray(high, float), (len(names),)).copy())
        return np.arange(start, start + len(names))

    def put(self, row: Ints, column: Ints, value: Floats | float) -> None:
        """Coefficients, broadcast together; columns of −1 and zero values are left out."""
        rows, columns, values = (part.ravel() for part in np.broadcast_arrays(row, column, value))
        keep = (columns >= 0) & (values != 0)
        self.row.append(rows[keep])
        self.column.append(columns[keep])
        self.value.append(values[keep].astype(float))


def build(problem: Problem, pairs: Ints | None = None) -> Model:
    """The program over ``pairs`` of the problem (all of them by default)."""
    pairs = np.arange(len(problem.pair_a)) if pairs is None else pairs
    columns = _columns(problem, pairs)
    rows = _Rows()
    chips_pys = _chips(problem, pairs)
    _demand(problem, pairs, columns, rows)
    _capacity(problem, pairs, columns, rows, chips_pys)
    _limits(problem, columns, rows)
    _vendor_shares(problem, pairs, columns, rows)
    unit = _unit(problem)
    cost = _cost(problem, pairs, columns, rows, unit)
    shared = len(rows.names)
    ports = _porting(problem, columns, rows)
    low, high = _bounds(problem, pairs, columns)
    shape = (len(rows.names), columns.count)
    matrix = sparse.csr_array(
        (np.concatenate(rows.value), (np.concatenate(rows.row), np.concatenate(rows.column))),
        shape=shape,
    )
    whole = np.zeros(columns.count, dtype=np.int64)
    for family in (columns.buy_ay, columns.commit_ky, columns.port_p, columns.rent_ays):
        whole[family[family >= 0]] = 1
    return Model(
        problem=problem,
        pairs=pairs,
        columns=columns,
        cost=cost,
        matrix=matrix,
        row_low=np.concatenate(rows.low),
        row_high=np.concatenate(rows.high),
        row_names=rows.names,
        shared_rows=shared,
        port_pairs=ports,
        low=low,
        high=high,
        whole=whole,
        unit_usd=unit,
    )


def work_weight_wys(problem: Problem) -> Floats:
    """Chips of the fastest accelerator that each workload's whole demand would take."""
    fastest = np.zeros_like(problem.demand_wys)
    np.maximum.at(fastest, problem.pair_w, problem.mtok_pys)
    weight = np.divide(problem.demand_wys, fastest, out=np.zeros_like(fastest), where=fastest > 0)
    total = weight.sum(axis=0, keepdims=True)
    return np.asarray(np.divide(weight, total, out=np.zeros_like(weight), where=total > 0))


def _columns(problem: Problem, pairs: Ints) -> Columns:
    count = 0

    def family(present: np.ndarray) -> Ints:
        nonlocal count
        index = np.full(present.shape, -1, dtype=np.int64)
        n = int(present.sum())
        index[present] = np.arange(count, count + n)
        count += n
        return index

    years, scenarios = problem.years, len(problem.scenarios)
    buy = family(problem.buy_lots_ay > 0)
    commit = family(problem.commit_lots_ky > 0)
    port = family(problem.port_usd_p[pairs] > 0)
    rentable = np.repeat((problem.rent_lots_ay > 0)[:, :, None], scenarios, axis=2)
    rent = family(rentable)
    wanted = problem.demand_wys[problem.pair_w[pairs]] > 0
    use = family((problem.mtok_pys[pairs] > 0) & wanted)
    short = family(
        (problem.demand_wys > 0) & (problem.shortfall_wy is not None and not problem.must_serve)
    )
    work = family(
        np.full((years, scenarios), bool(problem.vendor_share) and not problem.must_serve)
    )
    tail = family(np.full(scenarios + 1, problem.cvar_weight > 0))
    return Columns(
        buy_ay=buy,
        commit_ky=commit,
        port_p=port,
        rent_ays=rent,
        use_pys=use,
        short_wys=short,
        work_ys=work,
        tail=tail,
        count=count,
    )


def _chips(problem: Problem, pairs: Ints) -> Floats:
    """Chips that serving all of a pair's workload would take."""
    mtok = problem.mtok_pys[pairs]
    demand = problem.demand_wys[problem.pair_w[pairs]]
    return np.divide(demand, mtok, out=np.zeros_like(mtok), where=mtok > 0)


def _names(kind: str, *lengths: int) -> list[Name]:
    return [(kind, *map(int, index)) for index in np.ndindex(*lengths)]


def _demand(problem: Problem, pairs: Ints, columns: Columns, rows: _Rows) -> None:
    shape = problem.demand_wys.shape
    wanted = (problem.demand_wys > 0).astype(float).ravel()
    least = 0.0 if problem.objective == "max_margin" else wanted
    row = rows.block(_names("demand", *shape), least, wanted).reshape(shape)
    rows.put(row[problem.pair_w[pairs]], columns.use_pys, 1.0)
    rows.put(row, columns.short_wys, 1.0)


def _capacity(
    problem: Problem, pairs: Ints, columns: Columns, rows: _Rows, chips_pys: Floats
) -> None:
    shape = columns.rent_ays.shape
    # In rent lots, or in the chips of one bought lot, so that coefficients stay near one.
    scale = np.where(problem.rent_chips_a > 0, problem.rent_chips_a, 1.0)
    held = np.repeat(problem.held_chips_ay[:, :, None], shape[2], axis=2)
    limit = (held / scale[:, None, None]).ravel()
    row = rows.block(_names("capacity", *shape), -np.inf, limit).reshape(shape)
    a = problem.pair_a[pairs]
    rows.put(row[a], columns.use_pys, chips_pys / scale[a, None, None])
    rows.put(row, columns.rent_ays, -(problem.rent_chips_a / scale)[:, None, None])
    chips = -problem.buy_chips_aeys / scale[:, None, None, None]
    rows.put(row[:, None, :, :], columns.buy_ay[:, :, None, None], chips)
    k = problem.commit_a
    given = -problem.commit_chips_key / scale[k, None, None]
    rows.put(row[k][:, None, :, :], columns.commit_ky[:, :, None, None], given[:, :, :, None])


def _porting(problem: Problem, columns: Columns, rows: _Rows) -> Ints:
    """f ≤ z for every use of a pair that costs something to port; returns the pair of each row."""
    linked = (columns.use_pys >= 0) & (columns.port_p >= 0)[:, None, None]
    where = np.argwhere(linked)
    row = rows.block([("port", *map(int, index)) for index in where], -np.inf, 0.0)
    rows.put(row, columns.use_pys[linked], 1.0)
    rows.put(row, columns.port_p[where[:, 0]], -1.0)
    return np.asarray(where[:, 0])


def _limits(problem: Problem, columns: Columns, rows: _Rows) -> None:
    capex = problem.buy_capex_cash_ay
    if problem.capex_cash is not None:
        budget = max(problem.capex_cash, 1.0)
        row = rows.block([("budget",)], -np.inf, problem.capex_cash / budget)
        rows.put(row, columns.buy_ay, capex / budget)
    if problem.capex_cash_y is not None:
        scale = np.maximum(problem.capex_cash_y, 1.0)
        row = rows.block(
            _names("yearly budget", problem.years), -np.inf, problem.capex_cash_y / scale
        )
        rows.put(row[None, :], columns.buy_ay, capex / scale[None, :])
    if problem.megawatts_y is not None:
        free = problem.megawatts_y - problem.held_mw_y
        scale = np.maximum(problem.megawatts_y, 1e-3)
        row = rows.block(_names("power", problem.years), -np.inf, free / scale)
        rows.put(row[None, None, :], columns.buy_ay[:, :, None], problem.buy_mw_aey / scale)
    signed = np.flatnonzero(problem.commit_min_lots_k > 0)
    if len(signed):
        row = rows.block(
            [("signed", int(k)) for k in signed], problem.commit_min_lots_k[signed], np.inf
        )
        rows.put(row[:, None], columns.commit_ky[signed], 1.0)


def _vendor_shares(problem: Problem, pairs: Ints, columns: Columns, rows: _Rows) -> None:
    if not problem.vendor_share:
        return
    weight = work_weight_wys(problem)
    vendor_a = np.array(problem.vendors)
    weight_pys = weight[problem.pair_w[pairs]]
    if not problem.must_serve:
        names = _names("work", *columns.work_ys.shape)
        row = rows.block(names, 0.0, 0.0).reshape(columns.work_ys.shape)
        rows.put(row[None], columns.use_pys, weight_pys)
        rows.put(row, columns.work_ys, -1.0)
    for vendor, share in problem.vendor_share.items():
        names = [("vendor", vendor, *rest) for _, *rest in _names("", *weight.shape[1:])]
        limit = share * weight.sum(axis=0).ravel() if problem.must_serve else 0.0
        row = rows.block(names, -np.inf, limit).reshape(weight.shape[1:])
        mine = vendor_a[problem.pair_a[pairs]] == vendor
        rows.put(row[None], columns.use_pys[mine], weight_pys[mine])
        rows.put(row, columns.work_ys, -share)


def _unit(problem: Problem) -> float:
    """A dollar unit that brings typical costs near one."""
    typical = np.concatenate(
        [
            problem.buy_usd_ay[problem.buy_lots_ay > 0],
            problem.commit_usd_ky[problem.commit_lots_ky > 0],
            problem.rent_usd_ays[problem.rent_lots_ay > 0].ravel(),
        ]
    )
    typical = np.abs(typical[typical != 0])
    return float(np.exp(np.log(typical).mean())) if len(typical) else 1.0


def _cost(problem: Problem, pairs: Ints, columns: Columns, rows: _Rows, unit: float) -> Floats:
    """Objective in ``unit`` dollars, and the rows of the tail risk when it has weight."""
    cost = np.zeros(columns.count)

    def add(column: Ints, usd: Floats) -> None:
        keep = column >= 0
        cost[column[keep]] += np.broadcast_to(usd, column.shape)[keep] / unit

    add(columns.buy_ay, problem.buy_usd_ay)
    add(columns.commit_ky, problem.commit_usd_ky)
    add(columns.port_p, problem.port_usd_p[pairs])
    usd_s = [
        (columns.rent_ays, problem.rent_usd_ays),
        (columns.use_pys, -(problem.revenue_wys * problem.demand_wys)[problem.pair_w[pairs]]),
    ]
    if problem.shortfall_wy is not None:
        penalty = problem.shortfall_wy[:, :, None] * problem.demand_wys
        usd_s.append((columns.short_wys, penalty))
    expected = 1.0 - problem.cvar_weight
    for column, usd in usd_s:
        add(column, expected * problem.probability_s * usd)
    if problem.cvar_weight > 0:
        threshold, excess = columns.tail[0], columns.tail[1:]
        row = rows.block([("tail", int(s)) for s in range(len(excess))], -np.inf, 0.0)
        for column, usd in usd_s:
            rows.put(row, column, usd / unit)
        rows.put(row, excess, -1.0)
        rows.put(row, np.full(len(excess), threshold), -1.0)
        cost[threshold] = problem.cvar_weight
        cost[excess] = problem.cvar_weight * problem.probability_s / (1 - problem.cvar_level)
    return cost


def _bounds(problem: Problem, pairs: Ints, columns: Columns) -> tuple[Floats, Floats]:
    low, high = np.zeros(columns.count), np.full(columns.count, np.inf)

    def cap(column: Ints, most: Floats) -> None:
        keep = column >= 0
        high[column[keep]] = np.broadcast_to(most, column.shape)[keep]

    cap(columns.buy_ay, np.floor(problem.buy_lots_ay))
    cap(columns.commit_ky, np.floor(problem.commit_lots_ky))
    cap(columns.port_p, np.ones(len(pairs)))
    cap(columns.rent_ays, np.floor(problem.rent_lots_ay)[:, :, None])
    cap(columns.use_pys, np.ones(columns.use_pys.shape))
    cap(columns.short_wys, np.ones(columns.short_wys.shape))
    if problem.cvar_weight > 0:
        low[columns.tail[0]] = -np.inf
    return low, high
