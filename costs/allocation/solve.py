"""Solve a plan: relax it, round it, branch where that is not close enough, prove the gap.

The relaxation is tight and rounds well: decide the ports, solve the rest again, put purchases and
commitments in whole lots that fit, then rent anew and rounded up. Branch and bound starts from
there, first over rent alone, and only where the gap asked for is not proved yet.
Every answer is checked against every row before it counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from tpubench.costs.allocation.highs import Optimum, integer, relaxed
from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.timeline import Floats, Ints

PORT_LEVELS = (0.05, 1e-4, 0.3)
"""Shares of use above which a pair counts as ported; each is tried until one is close enough."""
LEAST_PARTS = (0.5, 1e-3, 1.0)
"""Parts of a lot from which it is rounded up: the nearer, always (where nothing could be rented
instead), never."""
WHOLE = 1e-6
"""How near to a whole number counts as one."""
RENT_PART = 0.1
"""Of the time, for putting rent in the best whole lots before branching over everything."""
CLOSER = 0.95
"""Of the gap asked for, which branching goes on to: it stops there, and no sum may undo that."""
SLACK = 1e-6
"""Relative room that a row may lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A whole plan that meets every row, and how far from the best it can be."""

    program: LinearProgram
    x: Floats
    relaxation: Optimum
    gap: float
    """(cost − bound) ÷ |cost|; infinite when nothing was proved."""
    method: str
    tried_usd: dict[str, float]
    seconds: float


def solve(program: LinearProgram, relaxation: Optimum, seconds: float, gap: float) -> Solved | None:
    """The best whole plan found in about ``seconds``; None when none was."""
    started = time.monotonic()
    bound = float("-inf")
    plain = relaxed(program, start=relaxation.basis, cost=program.cost, seconds=seconds)
    if plain is not None:
        bound = plain.objective
    best: Floats | None = None
    method = ""
    tried: dict[str, float] = {}

    def offer(x: Floats | None, name: str) -> None:
        nonlocal best, method
        if x is None or not feasible(program, x):
            return
        usd = program.total_usd(x)
        tried[name] = min(tried.get(name, np.inf), usd)
        if best is None or float(program.cost @ x) < float(program.cost @ best):
            best, method = x, name

    def distance() -> float:
        return _gap(program, best, bound)

    for level in PORT_LEVELS:
        left = seconds - (time.monotonic() - started)
        if distance() <= gap / 2 or left <= 0:
            break
        for x in rounded(program, relaxation, level, left, gap / 4):
            offer(x, "rounded relaxation")
    left = seconds - (time.monotonic() - started)
    if best is not None and distance() > gap and left > 0:
        offer(rerented(program, best, left * RENT_PART, gap / 4), "rounded relaxation, rent anew")
    left = seconds - (time.monotonic() - started)
    if distance() > gap and left > 0:
        branched, proved = integer(program, best, left, gap * CLOSER)
        bound = max(bound, proved)
        offer(branched, "branch and bound")
    if best is None:
        return None
    return Solved(
        program=program,
        x=best,
        relaxation=relaxation,
        gap=distance(),
        method=method,
        tried_usd=tried,
        seconds=time.monotonic() - started,
    )


def _gap(program: LinearProgram, x: Floats | None, bound: float) -> float:
    """Against the whole present cost, what is paid in any case included."""
    if x is None or not np.isfinite(bound):
        return np.inf
    value = float(program.cost @ x)
    fixed = program.fixed_usd / program.unit_usd
    return max(0.0, value - bound) / max(abs(value + fixed), 1e-9)


def rounded(
    program: LinearProgram, relaxation: Optimum, level: float, seconds: float, close: float
) -> list[Floats]:
    """Whole plans near the relaxation, with the pairs used above ``level`` ported, until one is
    within ``close`` of what these ports allow."""
    low, high = program.low.copy(), program.high.copy()
    port = program.at["port"][program.at["port"] >= 0]
    on = relaxation.x[port] > level
    low[port], high[port] = np.where(on, 1.0, 0.0), np.where(on, 1.0, 0.0)
    started = time.monotonic()
    first = relaxed(program, start=relaxation.basis, low=low, high=high, seconds=seconds)
    if first is None:
        return []
    decided = decided_columns(program)
    plans = []
    for least in LEAST_PARTS:
        amounts = _whole_lots(program, first.x, decided, least)
        low[decided], high[decided] = amounts[decided], amounts[decided]
        left = seconds - (time.monotonic() - started)
        second = relaxed(program, start=first.basis, low=low, high=high, seconds=left)
        if second is None:
            continue
        x = second.x.copy()
        rent = program.at["rent"][program.at["rent"] >= 0]
        nearest = np.round(x[rent])
        x[rent] = np.where(np.abs(x[rent] - nearest) < WHOLE, nearest, np.ceil(x[rent]))
        x[rent] = np.minimum(x[rent], program.high[rent])
        x[decided], x[port] = amounts[decided], low[port]
        plans.append(_settled(program, x))
        distance = float(program.cost @ plans[-1]) - float(program.cost @ first.x)
        if distance <= close * abs(float(program.cost @ first.x)):
            break
    return plans


def rerented(program: LinearProgram, x: Floats, seconds: float, gap: float) -> Floats | None:
    """The plan with purchases, commitments, signatures and ports as they are in ``x`` and rent in
    the best whole lots: rounding rent up by itself costs a lot in every year and scenario."""
    low, high = program.low.copy(), program.high.copy()
    kept = np.concatenate([decided_columns(program), program.at["port"].ravel()])
    kept = kept[kept >= 0]
    low[kept], high[kept] = x[kept], x[kept]
    return integer(replace(program, low=low, high=high), x, seconds, gap)[0]


def _settled(program: LinearProgram, x: Floats) -> Floats:
    """The tail of the scenarios follows from the rest once rent is rounded up."""
    tail = program.at.get("tail")
    if tail is None:
        return x
    rows = [i for i, name in enumerate(program.row_names) if name[0] == "tail"]
    x[tail[1:]] = 0.0
    excess = program.matrix[rows] @ x
    x[tail[1:]] = np.maximum(excess, 0.0)
    return x


def decided_columns(program: LinearProgram) -> Ints:
    """Purchases, commitments and signatures: decided before the scenario is known."""
    families = [program.at["buy"].ravel()]
    families += [
        columns
        for name, columns in program.at.items()
        if name.startswith(("commit ", "signed ", "contract "))
    ]
    columns = np.concatenate(families)
    return np.asarray(columns[columns >= 0])


def _whole_lots(program: LinearProgram, x: Floats, decided: Ints, least: float) -> Floats:
    """Down to whole lots, then up again where ``least`` of a lot was lost, the largest parts
    first, as far as budgets and power allow."""
    amounts = np.zeros(len(x))
    amounts[decided] = np.floor(x[decided] + WHOLE)
    amounts = _signed(program, amounts)
    kinds = {"budget", "yearly budget", "power", "room"}
    shared = np.flatnonzero([name[0] in kinds for name in program.row_names])
    matrix = program.matrix[shared].tocsc()
    spare = program.row_high[shared] - matrix @ amounts
    parts = x[decided] - amounts[decided]
    for i in np.argsort(-parts):
        if parts[i] < least:
            break
        column = int(decided[i])
        span = slice(matrix.indptr[column], matrix.indptr[column + 1])
        rows, use = matrix.indices[span], matrix.data[span]
        if amounts[column] + 1 <= program.high[column] and (use <= spare[rows]).all():
            amounts[column] += 1
            spare[rows] -= use
    return amounts


def _signed(program: LinearProgram, amounts: Floats) -> Floats:
    """What is signed already, topped up in the first years that have room."""
    for row, name in enumerate(program.row_names):
        if name[0] != "signed":
            continue
        columns = program.at[f"signed {name[1]} {name[2]}"]
        for column in columns:
            lacking = program.row_low[row] - amounts[columns].sum()
            room = program.high[column] - amounts[column]
            amounts[column] += max(0.0, min(lacking, room))
    return amounts


def feasible(program: LinearProgram, x: Floats) -> bool:
    """Whether ``x`` meets every row and bound, whole where it must be."""
    rows = program.matrix @ x
    slack = SLACK * np.maximum(1.0, np.abs(program.matrix) @ np.abs(x))
    whole = program.whole.astype(bool)
    return bool(
        (rows <= program.row_high + slack).all()
        and (rows >= program.row_low - slack).all()
        and (x >= program.low - SLACK).all()
        and (x <= program.high + SLACK).all()
        and (np.abs(x[whole] - np.round(x[whole])) < SLACK).all()
    )
