"""Work: what each pair of accelerator and workload can serve, demand, porting, vendor shares.

The use of chips is a share of a workload's demand in a year, so that demand rows read Σ f = 1 and
porting rows f ≤ z: many rows, but a relaxation that is nearly whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tpubench.costs.allocation.options import Accelerator
from tpubench.costs.allocation.plan import Plan, Scenario
from tpubench.costs.allocation.program import Builder, Name
from tpubench.costs.allocation.timeline import MOMENT, Floats, Ints, Timeline, cut
from tpubench.costs.owned import HOURS_PER_YEAR, MONTHS_PER_YEAR
from tpubench.costs.token_cost import SECONDS_PER_HOUR

MTOK_PER_TOK_S_YEAR = SECONDS_PER_HOUR * HOURS_PER_YEAR / 1e6
CHIP_YEAR_USD = 1e4
"""Size of a chip-year where only its order matters."""
LACKING = 1000.0
"""Penalty of unserved demand in an elastic program, in multiples of its dearest chip-years."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedPairs:
    """Pairs p of accelerator and workload, with what a chip-year of each serves."""

    pair_a: Ints
    pair_w: Ints
    mtok_pys: Floats
    """Mtoken that a chip serves in a year once ported, readiness and utilisation included."""
    ready_ps: Floats
    """When porting ends, years from the start of the plan."""
    port_usd_p: Floats
    demand_wys: Floats


def factor(factors: Mapping[str, float], chip: Accelerator) -> float:
    """A scenario's factor on one chip: of all, of its own and of its vendor."""
    return factors.get("all", 1.0) * factors.get(chip.name, 1.0) * factors.get(chip.vendor, 1.0)


def months(late: Mapping[str, float], chip: Accelerator) -> float:
    """A scenario's delay of one chip: of all, of its own and of its vendor."""
    return sum(late.get(name, 0.0) for name in ("all", chip.name, chip.vendor))


def demand_wys(plan: Plan) -> Floats:
    """Mtoken wanted of each workload in each year of each scenario."""
    years, futures = plan.plan.years, plan.futures
    base = np.array([work.demand(years) for work in plan.workload])
    scale = np.array(
        [
            [s.demand.get("all", 1.0) * s.demand.get(w.name, 1.0) for s in futures]
            for w in plan.workload
        ]
    )
    return np.asarray(base[:, :, None] * scale[:, None, :])


def work_of(plan: Plan) -> ServedPairs:
    """The numbers of every pair in the plan."""
    years, futures, chips = plan.plan.years, plan.futures, plan.accelerator
    a_of = {chip.name: a for a, chip in enumerate(chips)}
    w_of = {work.name: w for w, work in enumerate(plan.workload)}
    soft = np.array([[factor(s.readiness, chip) for s in futures] for chip in chips])
    late = np.array([[months(s.delay_months, chip) for s in futures] for chip in chips])
    pair_a = np.array([a_of[t.accelerator] for t in plan.throughput], dtype=np.int64)
    tok_s = np.array([t.tok_s or 0.0 for t in plan.throughput])
    ready = np.array([np.broadcast_to(t.readiness, (years,)) for t in plan.throughput], float)
    port = np.array([t.porting_months for t in plan.throughput])
    mtok = tok_s * plan.plan.utilisation * MTOK_PER_TOK_S_YEAR
    return ServedPairs(
        pair_a=pair_a,
        pair_w=np.array([w_of[t.workload] for t in plan.throughput], dtype=np.int64),
        mtok_pys=mtok[:, None, None]
        * np.minimum(1.0, ready[:, :, None] * soft[pair_a][:, None, :]),
        ready_ps=(port[:, None] + np.where(_ported(plan)[:, None], late[pair_a], 0.0))
        / MONTHS_PER_YEAR,
        port_usd_p=np.array([t.porting_usd for t in plan.throughput]),
        demand_wys=demand_wys(plan),
    )


def _ported(plan: Plan) -> np.ndarray:
    """A delay makes porting later only where there is something to port."""
    return np.array([t.porting_months > 0 or t.porting_usd > 0 for t in plan.throughput])


def timeline_of(plan: Plan, work: ServedPairs) -> Timeline:
    """The plan's time, cut for each chip where one of its workloads becomes ready."""
    scenarios = len(plan.futures)
    ready = [
        [work.ready_ps[work.pair_a == a, s].tolist() for s in range(scenarios)]
        for a in range(len(plan.accelerator))
    ]
    return cut(plan.plan.years, scenarios, ready)


def weight_wys(work: ServedPairs) -> Floats:
    """Share of each workload in all work: the chips of the fastest accelerator ready within the
    year that its whole demand would take."""
    years = work.demand_wys.shape[1]
    usable = work.ready_ps[:, None, :] < np.arange(1, years + 1)[None, :, None] - MOMENT
    fastest = np.zeros_like(work.demand_wys)
    np.maximum.at(fastest, work.pair_w, np.where(usable, work.mtok_pys, 0.0))
    chips = np.divide(work.demand_wys, fastest, out=np.zeros_like(fastest), where=fastest > 0)
    total = chips.sum(axis=0, keepdims=True)
    return np.asarray(np.divide(chips, total, out=np.zeros_like(chips), where=total > 0))


def add_work(
    builder: Builder, work: ServedPairs, capacity: Ints, scale_a: Floats, elastic: bool
) -> None:
    """Columns of use and porting; rows of demand, porting and vendor shares."""
    plan, timeline = builder.plan, builder.timeline
    shape = work.demand_wys.shape
    wanted = (work.demand_wys > 0).astype(float)
    least = 0.0 if plan.plan.objective == "max_margin" else wanted.ravel()
    names = [("demand", w, y, s) for w, y, s in np.ndindex(*shape)]
    demand = builder.rows(names, least, wanted.ravel()).reshape(shape)

    pairs, pieces = [], []
    for p, a in enumerate(work.pair_a):
        mine = timeline.of_a[a]
        y, s = timeline.y[mine], timeline.s[mine]
        able = timeline.start[mine] >= work.ready_ps[p, s] - MOMENT
        able &= (work.mtok_pys[p, y, s] > 0) & (work.demand_wys[work.pair_w[p], y, s] > 0)
        pieces.append(mine[able])
        pairs.append(np.full(int(able.sum()), p))
    pair, piece = np.concatenate(pairs), np.concatenate(pieces)
    a, w = work.pair_a[pair], work.pair_w[pair]
    y, s = timeline.y[piece], timeline.s[piece]
    asked = work.demand_wys[w, y, s]
    chip_years = asked / work.mtok_pys[pair, y, s]
    use = builder.columns(np.ones(len(pair)))
    builder.at |= {"use": use, "use_pair": pair, "use_piece": piece}
    builder.put(demand[w, y, s], use, 1.0)
    builder.put(capacity[piece], use, chip_years / scale_a[a])
    _revenue(builder, use, w, y, s, asked)
    _porting(builder, work, use, pair, y, s, chip_years)
    _vendor_shares(builder, work, use, pair, y, s)
    if not plan.must_serve and plan.plan.objective == "min_cost":
        short = builder.columns(wanted)
        builder.at["short"] = short
        builder.put(demand, short, 1.0)
        penalty = (plan.plan.shortfall_usd_per_mtok or 0.0) * work.demand_wys
        years, futures = np.arange(shape[1])[None, :, None], np.arange(shape[2])
        builder.pay("shortfall", short, penalty, years, scenario=futures)
    if elastic and plan.must_serve:
        lacking = builder.columns(wanted)
        builder.at["lacking"] = lacking
        builder.put(demand, lacking, 1.0)
        most = np.zeros(shape)
        np.maximum.at(most, (w, y, s), chip_years)
        dear = max((_dear(chip) for chip in plan.accelerator), default=1.0)
        years, futures = np.arange(shape[1])[None, :, None], np.arange(shape[2])
        penalty = LACKING * dear * np.maximum(most, 1.0)
        builder.pay("shortfall", lacking, penalty, years, scenario=futures)


def _dear(chip: Accelerator) -> float:
    """Roughly the dearest chip-year of one accelerator."""
    rates = [o.usd_per_chip_hour or 0.0 for o in (*chip.commit, *chip.contract)]
    rates += [chip.rent.usd_per_chip_hour or 0.0] if chip.rent else []
    return max([r * HOURS_PER_YEAR for r in rates] + [chip.buy.capex_usd if chip.buy else 0.0])


def _revenue(builder: Builder, use: Ints, w: Ints, y: Ints, s: Ints, asked: Floats) -> None:
    prices = np.array([work.prices(builder.plan.plan.years) for work in builder.plan.workload])
    builder.pay("revenue", use, prices[w, y] * asked, y, scenario=s)


def _porting(
    builder: Builder, work: ServedPairs, use: Ints, pair: Ints, y: Ints, s: Ints, chip_years: Floats
) -> None:
    """Σ f of a year ≤ z for every pair that costs something to port."""
    costly = np.flatnonzero(work.port_usd_p > 0)
    column = np.full(len(work.pair_a), -1, dtype=np.int64)
    column[costly] = builder.columns(np.ones(len(costly)), whole=True)
    builder.at["port"] = column
    builder.pay("porting", column[costly], work.port_usd_p[costly], 0, time=0.0)
    # Of pairs that cost the same, the one that stands first in the file.
    order = np.arange(len(use)) / max(len(use), 1)
    builder.prefer(use, order * chip_years * CHIP_YEAR_USD)
    linked = column[pair] >= 0
    shape = (len(work.pair_a), *work.demand_wys.shape[1:])
    flat = np.ravel_multi_index((pair[linked], y[linked], s[linked]), shape)
    cells, inverse = np.unique(flat, return_inverse=True)
    names: list[Name] = [
        ("port", *(int(i) for i in np.unravel_index(int(cell), shape))) for cell in cells
    ]
    row = builder.rows(names, -np.inf, 0.0)
    builder.put(row[inverse], use[linked], 1.0)
    of = column[np.unravel_index(cells, shape)[0]] if len(cells) else np.zeros(0, np.int64)
    builder.put(row, of, -1.0)


def _vendor_shares(
    builder: Builder, work: ServedPairs, use: Ints, pair: Ints, y: Ints, s: Ints
) -> None:
    """Work of a vendor ≤ share × all work that is served, by year and scenario."""
    plan = builder.plan
    caps = plan.limits.vendor_share
    if not caps:
        return
    weight = weight_wys(work)
    part = weight[work.pair_w[pair], y, s]
    shape = weight.shape[1:]
    total = weight.sum(axis=0)
    served = np.zeros(0, np.int64)
    if not plan.must_serve:
        served = builder.columns(np.where(total > 0, 1.0, 0.0))
        builder.at["served"] = served
        row = builder.rows([("served", *i) for i in np.ndindex(*shape)], 0.0, 0.0).reshape(shape)
        builder.put(row[y, s], use, part)
        builder.put(row, served, -1.0)
    vendors = np.array([chip.vendor for chip in plan.accelerator])[work.pair_a[pair]]
    for vendor, share in caps.items():
        names = [("vendor", vendor, *index) for index in np.ndindex(*shape)]
        limit = share * total.ravel() if plan.must_serve else 0.0
        row = builder.rows(names, -np.inf, limit).reshape(shape)
        mine = vendors == vendor
        builder.put(row[y[mine], s[mine]], use[mine], part[mine])
        if not plan.must_serve:
            builder.put(row, served, -share)


def scenario_delays(plan: Plan, chip: Accelerator, key: str) -> Floats:
    """Months of each scenario's delay of one chip, under ``delay_months`` or another key."""
    futures: list[Scenario] = plan.futures
    return np.array([months(getattr(s, key), chip) for s in futures])
