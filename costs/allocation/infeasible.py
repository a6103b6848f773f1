"""Why a plan cannot be carried out: the limits that clash, and each way out by itself.

Every limit gets a slack that is paid for, as a share of the limit; the cheapest way to make the
plan possible uses slack only where limits clash. Demand may be left unserved at a far higher
price, so it shows up only where no chip can serve it at all. Then each limit alone, and demand
alone, is asked how far it would have to give.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from tpubench.costs.allocation.highs import solve_rows
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.plausibility import closed
from tpubench.costs.allocation.program import LinearProgram, Name
from tpubench.costs.allocation.timeline import Floats, Ints
from tpubench.errors import TpubenchError

UNSERVED = 1e4
"""Price of leaving all of a demand unserved, where 1 is widening a limit by itself."""
LEAST_PART = 1e-7
"""Of all demand: below it, some of it cannot be served at all."""
SLIP = 1e-3
"""Part of the demand below which its unit is doubted."""
NOTABLE = 1e-5
WAYS_SHOWN = 8
ROUND = 1e-5
"""Of the last digit of a way out, which the solver's precision may lack."""
BINDING_SHOWN = 12
BINDS = 1e-7
"""Dual of a limit above which more of it would lessen what is lacking."""


class InfeasibleError(TpubenchError):
    """No plan meets all limits; the message names those that clash and the ways out."""

    exit_code = 1


class OutOfTimeError(TpubenchError):
    """Time was over before there was a plan: neither an answer nor a no."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """One limit as the plan file names it: rows, or upper bounds of columns."""

    name: str
    """With its year, to say where it clashes."""
    path: str
    """Without, to say what to widen."""
    rows: Ints
    columns: Ints


def explain(plan: Plan, program: LinearProgram) -> InfeasibleError | OutOfTimeError:
    """The error to raise for a program whose relaxation was not solved."""
    limits = list(_limits(plan, program))
    shut = "".join(f"; {line}" for line in closed(plan))
    clash, unmet, binding = _cheapest_way_out(program, limits)
    if unmet and (part := _servable(program)) > LEAST_PART:
        times = f"{1 / part:,.3g}"
        return InfeasibleError(
            f"the plan is infeasible: demand is {times} times what all limits together allow; all"
            f" demand × {_round(part, up=False)} would do{shut}{_in_tokens(part)}"
        )
    if unmet:
        return InfeasibleError(
            f"the plan is infeasible: no accelerator in it can serve {_places(plan, unmet)}"
            f" (no throughput, readiness 0, or porting not done){shut}"
        )
    if not clash:
        return OutOfTimeError(
            "the plan was not solved in the time given, and no limits clash: raise plan.seconds"
        )
    parts = " and ".join(f"{name} (short by {share:.1%})" for name, share in clash)
    if binding:
        more = len(binding) - BINDING_SHOWN
        shown = [*binding[:BINDING_SHOWN], *([f"{more} more"] if more > 0 else [])]
        parts += f", while these leave no room either: {', '.join(shown)}"
    ways = _ways_out(program, limits)
    out = "; any one of these alone would do: " + ", ".join(ways) if ways else ""
    if not ways:
        out = "; no single limit would do: widen all of these"
    unit = _in_tokens(_servable(program))
    return InfeasibleError(f"the plan is infeasible: demand clashes with {parts}{out}{shut}{unit}")


def _servable(program: LinearProgram) -> float:
    """Largest part of all demand, every workload and year alike, that the limits allow."""
    demands = np.array([i for i, n in enumerate(program.row_names) if n[0] == "demand"])
    share = _widened(program, [_relief(program, demands)], np.ones(1), np.ones(1))
    return 0.0 if share is None else 1.0 - float(share[0])


def _in_tokens(part: float) -> str:
    """A question where no more than a thousandth of the demand can be served."""
    slip = LEAST_PART < part < SLIP
    return "; is the demand in tokens, not in millions of them?" if slip else ""


def _limits(plan: Plan, program: LinearProgram) -> Iterator[_Limit]:
    yield from _rows_of(plan, program)
    yield from _supplies(plan, program)


def _rows_of(plan: Plan, program: LinearProgram) -> Iterator[_Limit]:
    first = plan.plan.first_year
    none = np.zeros(0, dtype=np.int64)
    words = {
        "budget": "limits.capex_usd",
        "yearly budget": "limits.capex_usd_by_year",
        "power": "limits.megawatts",
    }
    for i, name in enumerate(program.row_names):
        row = np.array([i])
        kind = str(name[0])
        if kind in words and np.isfinite(program.row_high[i]):
            where = f" in {first + int(name[1])}" if len(name) > 1 else ""
            yield _Limit(name=words[kind] + where, path=words[kind], rows=row, columns=none)
        elif kind == "vendor":
            path = f"limits.vendor_share.{name[1]}"
            year = first + int(name[2])
            yield _Limit(name=f"{path} in {year}", path=path, rows=row, columns=none)
        elif kind == "signed":
            chip = plan.accelerator[int(name[1])]
            path = f"min_chips of {chip.name} {chip.commit[int(name[2])].name}"
            yield _Limit(name=path, path=path, rows=row, columns=none)


def _supplies(plan: Plan, program: LinearProgram) -> Iterator[_Limit]:
    first = plan.plan.first_year
    none = np.zeros(0, dtype=np.int64)
    for a, chip in enumerate(plan.accelerator):
        groups: list[tuple[str, Ints, Ints]] = []
        years = np.arange(plan.plan.years)
        if chip.buy is not None:
            groups.append((f"buy.max_chips of {chip.name}", program.at["buy"][a], years))
        for k, deal in enumerate(chip.commit):
            columns = program.at[f"commit {a} {k}"]
            groups.append((f"max_chips of {chip.name} {deal.name}", columns, years))
        for k, contract in enumerate(chip.contract):
            columns = program.at.get(f"draw {a} {k}", none)
            pieces = program.at.get(f"draw {a} {k} piece", none)
            path = f"max_chips of {chip.name} {contract.name}"
            groups.append((path, columns, program.timeline.y[pieces]))
        if chip.rent is not None:
            pieces = program.timeline.of_a[a]
            path = f"rent.max_chips of {chip.name}"
            groups.append((path, program.at["rent"][pieces], program.timeline.y[pieces]))
        for path, columns, year in groups:
            for at in range(plan.plan.years):
                mine = columns[np.asarray(year == at)]
                if len(mine) and (program.high[mine] > 0).any():
                    yield _Limit(name=f"{path} in {first + at}", path=path, rows=none, columns=mine)


def _cheapest_way_out(
    program: LinearProgram, limits: list[_Limit]
) -> tuple[list[tuple[str, float]], list[Name], list[str]]:
    """Widened limits with the share by which, demands that nothing can serve, and the other limits
    that clash: those of which more would lessen what is lacking."""
    demands = np.array([i for i, n in enumerate(program.row_names) if n[0] == "demand"])
    slack = [_stretch(program, limit) for limit in limits]
    slack += [_relief(program, np.array([i])) for i in demands]
    price = np.concatenate([np.ones(len(limits)), np.full(len(demands), UNSERVED)])
    high = np.concatenate([np.full(len(limits), np.inf), np.ones(len(demands))])
    solved = _stretched(program, slack, price, high)
    if solved is None:
        return [], [], []
    share, duals = solved
    unmet = [
        program.row_names[i]
        for i, value in zip(demands, share[len(limits) :], strict=True)
        if value > 1e-6
    ]
    clash: dict[str, float] = {}
    for limit, value in zip(limits, share[: len(limits)], strict=True):
        if value > NOTABLE:
            clash[limit.name] = max(clash.get(limit.name, 0.0), float(value))
    named = {limit.path for limit in limits if limit.name in clash}
    free = np.concatenate([columns for *_, columns in slack]).astype(np.int64)
    tops = program.matrix.shape[0] + np.arange(len(free))
    binding: dict[str, None] = {}
    for limit in limits:
        mine = np.concatenate([limit.rows, tops[np.isin(free, limit.columns)]])
        if limit.path not in named and (np.abs(duals[mine]) > BINDS).any():
            binding[limit.path] = None
    return sorted(clash.items(), key=lambda item: -item[1]), unmet, [*binding]


def _ways_out(program: LinearProgram, limits: list[_Limit]) -> list[str]:
    """Each limit that alone, widened in every year alike, makes the plan possible."""
    by_path: dict[str, list[_Limit]] = defaultdict(list)
    for limit in limits:
        by_path[limit.path].append(limit)
    ways: list[tuple[float, str]] = []
    for path, members in by_path.items():
        joined = _Limit(
            name=path,
            path=path,
            rows=np.concatenate([m.rows for m in members]),
            columns=np.concatenate([m.columns for m in members]),
        )
        most = np.array([np.inf])
        share = _widened(program, [_stretch(program, joined)], np.ones(1), most)
        if share is not None:
            less = path.startswith("min_chips")
            factor = max(1 - share[0], 0.0) if less else 1 + share[0]
            ways.append((float(share[0]), f"{path} × {_round(factor, up=not less)}"))
    part = _servable(program)
    if part > LEAST_PART:
        ways.append((1 - part, f"all demand × {_round(part, up=False)}"))
    more = len(ways) - WAYS_SHOWN
    shown = [text for _, text in sorted(ways)[:WAYS_SHOWN]]
    return [*shown, f"{more} more further off"] if more > 0 else shown


def _round(factor: float, *, up: bool) -> str:
    """Three digits behind the point, or of what is smaller, to the side that is enough."""
    places = 3 if factor >= 0.01 or factor <= 0 else 2 - int(np.floor(np.log10(factor)))
    scaled = factor * 10.0**places
    whole = np.ceil(scaled - ROUND) if up else np.floor(scaled + ROUND)
    return f"{whole / 10.0**places:g}"


Column = tuple[Ints, Floats, Ints]
"""Rows and coefficients of a slack column, and the columns whose upper bounds it stretches."""


def _stretch(program: LinearProgram, limit: _Limit) -> Column:
    """Slack of one limit as a share of it."""
    upper = np.isfinite(program.row_high[limit.rows]) & (
        program.row_low[limit.rows] != program.row_high[limit.rows]
    )
    edge = np.where(upper, program.row_high[limit.rows], program.row_low[limit.rows])
    size = np.where(np.abs(edge) > 1e-9, np.abs(edge), 1.0)
    return limit.rows, np.where(upper, -size, size), limit.columns


def _relief(program: LinearProgram, rows: Ints) -> Column:
    return rows, np.ones(len(rows)), np.zeros(0, dtype=np.int64)


def _widened(
    program: LinearProgram, slack: list[Column], price: Floats, most: Floats
) -> Floats | None:
    """Least priced slack that makes the program possible; None when none does."""
    solved = _stretched(program, slack, price, most)
    return None if solved is None else solved[0]


def _stretched(
    program: LinearProgram, slack: list[Column], price: Floats, most: Floats
) -> tuple[Floats, Floats] | None:
    """That slack, and the duals of the program's rows and then of the stretched bounds."""
    count, size = program.matrix.shape
    free = np.concatenate([columns for *_, columns in slack]).astype(np.int64)
    rows, places, values = [], [], []
    for j, (at, value, columns) in enumerate(slack):
        rows += [at, count + np.flatnonzero(np.isin(free, columns))]
        places.append(np.full(len(at) + len(columns), j))
        values += [value, -np.maximum(program.high[columns], 1.0)]
    tops = program.high[free]
    side = sparse.csr_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(places))),
        shape=(count + len(free), len(slack)),
    )
    ones = sparse.csr_array(
        (np.ones(len(free)), (np.arange(len(free)), free)), shape=(len(free), size)
    )
    matrix = sparse.hstack([sparse.vstack([program.matrix, ones]), side], format="csr")
    high = program.high.copy()
    high[free] = np.inf
    solved = solve_rows(
        np.concatenate([np.zeros(size), price]),
        sparse.csr_array(matrix),
        (
            np.concatenate([program.row_low, np.full(len(free), -np.inf)]),
            np.concatenate([program.row_high, tops]),
        ),
        (
            np.concatenate([program.low, np.zeros(len(slack))]),
            np.concatenate([high, most]),
        ),
    )
    return None if solved is None else (solved[0][size:], solved[1])


def _places(plan: Plan, unmet: list[Name]) -> str:
    years: dict[str, set[int]] = defaultdict(set)
    for name in unmet:
        years[plan.workload[int(name[1])].name].add(plan.plan.first_year + int(name[2]))
    parts = [f"{w!r} in {', '.join(map(str, sorted(when)))}" for w, when in years.items()]
    return " and ".join(parts[:3])
