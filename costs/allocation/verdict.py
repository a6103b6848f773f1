"""Which side's tokens are cheaper, how sure that is, and what would flip it.

Unit economics before limits: for every workload and year that both sides can serve, each side
serves it on its cheapest chip by its cheapest option, and the present values are compared. The
uncertain figures are a factor each on a side's price, tokens/s, readiness and utilisation,
uniform and independent within the plan's ranges, over Sobol points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from tpubench.costs.allocation.compile import Compiled
from tpubench.costs.allocation.problem import Floats
from tpubench.costs.owned import HOURS_PER_YEAR, capital_recovery_factor
from tpubench.costs.token_cost import SECONDS_PER_HOUR
from tpubench.devices.vendors import is_tpu

FIGURES = ("price", "tok_s", "readiness", "utilisation")
FLIP_RANGE = (1 / 50, 50.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swing:
    """Effect of one side's figure: the other side's extra cost at its low and high end."""

    side: str
    figure: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """Where one figure alone would turn the answer; factor None: nowhere in reach."""

    side: str
    figure: str
    factor: float | None
    example: str
    """The figure of one chip now, and what it would have to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """All comparisons are present values over the work that both sides can serve."""

    side: str
    other: str
    compared_share: float
    """Share of the discounted tokens that both can serve."""
    side_usd: float
    other_usd: float
    probability_cheaper: float
    """Share of the sampled futures in which ``side`` is cheaper."""
    regret_usd: float
    """Mean extra cost of choosing the side that is cheaper at the base figures."""
    regret_other_usd: float
    """Mean extra cost of choosing the one that is not."""
    tornado: list[Swing]
    flips: list[Flip]


@dataclass(slots=True, kw_only=True)
class _Side:
    name: str
    hourly_p: Floats
    tok_s_p: Floats
    ready_py: Floats
    work_p: np.ndarray
    port_p: Floats
    labels: list[tuple[str, str]]


def _called(compiled: Compiled, mine: np.ndarray) -> str:
    """The vendor's name, or "TPU" when every accelerator of its own in the plan is one."""
    problem = compiled.problem
    own = [name for name, is_mine in zip(problem.accelerators, mine, strict=True) if is_mine]
    return "TPU" if all(map(is_tpu, own)) else compiled.plan.doubt.vendor


def weigh(compiled: Compiled) -> Verdict | str:
    """The verdict, or why there is none."""
    problem, doubt = compiled.problem, compiled.plan.doubt
    mine = np.array([vendor == doubt.vendor for vendor in problem.vendors])
    if not mine.any() or mine.all():
        which = "no" if not mine.any() else "only"
        return f"no comparison: {which} accelerator of {doubt.vendor} in the plan"
    years = problem.years
    discount = (1 + compiled.plan.plan.wacc) ** -np.arange(1.0, years + 1)
    demand = (problem.demand_wys * problem.probability_s).sum(axis=2) * discount
    hourly = cheapest_usd_hour(compiled)
    sides = [
        _side(compiled, name, hourly, mine[problem.pair_a] == is_mine)
        for name, is_mine in ((_called(compiled, mine), True), ("others", False))
    ]
    both = _servable(sides[0], problem, demand) & _servable(sides[1], problem, demand)
    if not both.any():
        return "no comparison: no workload and year that both sides can serve"
    work = np.where(both, demand, 0.0)
    used = compiled.plan.plan.utilisation
    base = np.ones(len(FIGURES))

    def cost(side: _Side, factors: Floats) -> float:
        return _cost(side, factors, work, used)

    costs = [cost(side, base) for side in sides]
    points = qmc.Sobol(2 * len(FIGURES), rng=doubt.seed).random(doubt.samples)
    width = np.array([doubt.price, doubt.tok_s, doubt.readiness, doubt.utilisation])
    factors = np.maximum(1 + (2 * points - 1) * np.tile(width, 2), 1e-3)
    first = np.array([cost(sides[0], f[: len(FIGURES)]) for f in factors])
    second = np.array([cost(sides[1], f[len(FIGURES) :]) for f in factors])
    chosen, left = (first, second) if costs[0] <= costs[1] else (second, first)
    tornado, flips = [], []
    for i, side in enumerate(sides):
        for j, figure in enumerate(FIGURES):
            ends = []
            for end in (1 - width[j], 1 + width[j]):
                factor = base.copy()
                factor[j] = max(end, 1e-3)
                pair = list(costs)
                pair[i] = cost(side, factor)
                ends.append(pair[1] / pair[0] - 1)
            tornado.append(Swing(side=side.name, figure=figure, low=ends[0], high=ends[1]))
            flips.append(_flip(side, j, costs[1 - i], work, used))
    tornado.sort(key=lambda swing: -abs(swing.high - swing.low))
    return Verdict(
        side=sides[0].name,
        other=sides[1].name,
        compared_share=float(work.sum() / demand.sum()),
        side_usd=costs[0],
        other_usd=costs[1],
        probability_cheaper=float((first < second).mean()),
        regret_usd=float(np.maximum(chosen - left, 0).mean()),
        regret_other_usd=float(np.maximum(left - chosen, 0).mean()),
        tornado=tornado,
        flips=flips,
    )


def cheapest_usd_hour(compiled: Compiled) -> dict[str, tuple[float, str]]:
    """Cheapest $/chip-hour of each accelerator over the plan's options, and which option it is.

    Bought chips by annuity (see :mod:`tpubench.costs.owned`), per hour in which they work.
    """
    found: dict[str, tuple[float, str]] = {}
    wacc = compiled.plan.plan.wacc
    for chip in compiled.plan.accelerator:
        options = [
            (rate, option)
            for (name, option), rate in compiled.rate_usd_hour.items()
            if name == chip.name
        ]
        buy = chip.buy
        if buy is not None:
            resale = buy.capex_usd * buy.residual_share * (1 + wacc) ** -buy.life_years
            capital = (buy.capex_usd - resale) * capital_recovery_factor(wacc, buy.life_years)
            yearly = capital + compiled.running_usd_year[chip.name]
            options.append((yearly / HOURS_PER_YEAR / buy.availability, "buy"))
        if options:
            found[chip.name] = min(options)
    return found


def _side(
    compiled: Compiled, name: str, hourly: dict[str, tuple[float, str]], mine: np.ndarray
) -> _Side:
    problem = compiled.problem
    index = [
        int(p) for p in np.flatnonzero(mine) if problem.accelerators[problem.pair_a[p]] in hourly
    ]
    labels = [
        (problem.accelerators[problem.pair_a[p]], problem.workloads[problem.pair_w[p]])
        for p in index
    ]
    tok_s = np.array([compiled.speeds[label].tok_s for label in labels])
    full = tok_s * compiled.plan.plan.utilisation * SECONDS_PER_HOUR * HOURS_PER_YEAR / 1e6
    expected = (problem.mtok_pys[index] * problem.probability_s).sum(axis=2)
    return _Side(
        name=name,
        hourly_p=np.array([hourly[chip][0] for chip, _ in labels]),
        tok_s_p=tok_s,
        ready_py=expected / full[:, None] if len(index) else expected,
        work_p=problem.pair_w[index],
        port_p=problem.port_usd_p[index],
        labels=labels,
    )


def _servable(side: _Side, problem: object, demand: Floats) -> np.ndarray:
    able = np.zeros(demand.shape, dtype=bool)
    for p, w in enumerate(side.work_p):
        able[w] |= side.ready_py[p] > 0
    return able & (demand > 0)


def _cost(side: _Side, factors: Floats, work: Floats, used: float) -> float:
    """Present value of serving ``work`` with each workload on the side's cheapest pair."""
    price, speed, ready, utilisation = factors
    with np.errstate(divide="ignore"):
        share = np.minimum(1.0, side.ready_py * ready)
        rate = side.tok_s_p[:, None] * speed * min(1.0, used * utilisation) * share
        mtok_usd = 1e6 * side.hourly_p[:, None] * price / (SECONDS_PER_HOUR * rate)
    best = np.full(work.shape, np.inf)
    np.minimum.at(best, side.work_p, mtok_usd)
    total = float((np.where(work > 0, best, 0.0) * work).sum())
    ported = {int(w) for w in side.work_p if work[w].any()}
    for w in ported:
        mine = np.flatnonzero(side.work_p == w)
        total += float(side.port_p[mine[np.argmin(mtok_usd[mine].min(axis=1))]])
    return total


def _flip(side: _Side, figure: int, other: float, work: Floats, used: float) -> Flip:
    """The factor on one figure at which the sides cost the same, by bisection on its logarithm."""

    def gap(log_factor: float) -> float:
        factors = np.ones(len(FIGURES))
        factors[figure] = np.exp(log_factor)
        return _cost(side, factors, work, used) - other

    low, high = np.log(FLIP_RANGE[0]), np.log(FLIP_RANGE[1])
    factor: float | None = None
    if gap(low) * gap(high) < 0:
        rising = gap(low) < 0
        for _ in range(80):
            middle = (low + high) / 2
            if (gap(middle) < 0) == rising:
                low = middle
            else:
                high = middle
        factor = float(np.exp((low + high) / 2))
    return Flip(
        side=side.name,
        figure=FIGURES[figure],
        factor=factor,
        example=_example(side, figure, factor, work, used),
    )


def _example(side: _Side, figure: int, factor: float | None, work: Floats, used: float) -> str:
    """The flip in units, on the side's pair that is cheapest for its largest workload."""
    biggest = int(np.argmax(work.sum(axis=1)))
    mine = np.flatnonzero(side.work_p == biggest)
    ready = side.ready_py[mine].mean(axis=1)
    with np.errstate(divide="ignore"):
        best = mine[np.argmin(side.hourly_p[mine] / (side.tok_s_p[mine] * ready))]
    chip, workload = side.labels[best]
    now, unit = (
        (float(side.hourly_p[best]), "$/chip-hour"),
        (float(side.tok_s_p[best]), "tok/s"),
        (float(side.ready_py[best].mean()), "readiness"),
        (used, "utilisation"),
    )[figure]
    where = f"{chip} on {workload}" if figure in {1, 2} else chip
    if factor is None:
        return f"{where}: {now:.4g} {unit}, no flip within a factor of {FLIP_RANGE[1]:g}"
    then = now * factor
    beyond = " (out of reach: above 1)" if figure in {2, 3} and then > 1 else ""
    return f"{where}: {now:.4g} → {then:.4g} {unit}{beyond}"
