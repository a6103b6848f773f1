"""How sure the answer is: the plan re-solved in futures drawn over scenarios and doubts together.

A future is one scenario and one value of every doubted input, at the points of a Sobol sequence.
In each the next dollar is found anew, as if that future were known; the regret is what today's
decision (purchases, commitments and ports of the first year) costs more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tpubench.costs.allocation.build import build
from tpubench.costs.allocation.highs import Basis, Optimum, relaxed
from tpubench.costs.allocation.inputs import Setting, change
from tpubench.costs.allocation.money import SIDES, WAYS, next_dollar, option_usd
from tpubench.costs.allocation.plan import Plan
from tpubench.costs.allocation.program import LinearProgram
from tpubench.costs.allocation.timeline import Floats, Ints

USED = 1e-4
"""Share of a future's new money above which an option is in its plan."""
UNSERVED = 1e-6
DEFAULT = "default of [doubt]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """One input that is not known exactly: a factor, uniform between ``low`` and ``high``."""

    input: str
    path: str
    low: float
    high: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Futures:
    """What the sampled futures say. Shares sum to 1 over the futures with an answer."""

    samples: int
    answered: int
    """Futures in which the plan spends new money."""
    unserved: int
    """Futures in which not all demand can be served, whatever is decided."""
    probability: dict[str, float]
    probability_how: dict[str, float]
    in_plans: list[set[str]]
    """Labels of the options in the plan of each future."""
    regret_usd: float | None
    """Mean over the futures that today's decision can serve; None when it can serve none."""
    stuck: int
    """Futures that could be served, but not any more after today's decision."""

    def chance_of(self, labels: set[str]) -> float | None:
        """Share of the futures in whose plan any of these options is."""
        if not self.in_plans:
            return None
        return sum(bool(labels & seen) for seen in self.in_plans) / len(self.in_plans)


def doubts(plan: Plan) -> list[Doubted]:
    """Every doubted input of the plan, its range, and where the range is from."""
    content = plan.model_dump()
    given = plan.doubt.model_fields_set
    listed: list[Doubted] = []

    def add(key: str, name: str, path: str, *, numbers: list[float]) -> None:
        width = float(getattr(plan.doubt, key))
        if width > 0 and any(numbers):
            source = "[doubt]" if key in given else DEFAULT
            listed.append(
                Doubted(input=name, path=path, low=1 - width, high=1 + width, source=source)
            )

    for chip in plan.accelerator:
        add("price", f"price of {chip.name}, all options", f"price[{chip.name}]", numbers=[1.0])
        mine = [t for t in plan.throughput if t.accelerator == chip.name]
        known = [t for t in mine if t.low_tok_s is not None and t.high_tok_s is not None]
        for pair in known:
            listed.append(
                Doubted(
                    input=f"throughput of {pair.workload} on {chip.name}",
                    path=f"throughput[{chip.name}, {pair.workload}].tok_s",
                    low=(pair.low_tok_s or 0.0) / (pair.tok_s or 1.0),
                    high=(pair.high_tok_s or 0.0) / (pair.tok_s or 1.0),
                    source=f"{pair.evidence}: {pair.source}",
                )
            )
        if not known:
            name, path = f"throughput of {chip.name}", f"throughput[{chip.name}].tok_s"
            add("tok_s", name, path, numbers=[1.0] * len(mine))
        else:
            for pair in mine:
                if pair not in known:
                    path = f"throughput[{chip.name}, {pair.workload}].tok_s"
                    add("tok_s", f"throughput of {pair.workload} on {chip.name}", path,
                        numbers=[1.0])  # fmt: skip
        unready = [t for t in mine if np.min(t.readiness) < 1]
        path = f"throughput[{chip.name}].readiness"
        add("readiness", f"readiness of {chip.name}", path, numbers=[1.0] * len(unready))
        path = f"throughput[{chip.name}].porting_months"
        months = [t.porting_months for t in mine]
        add("porting_months", f"porting time of {chip.name}", path, numbers=months)
        if chip.buy is not None:
            base = f"accelerator[{chip.name}].buy"
            add("supply", f"chips of {chip.name} for sale", f"{base}.max_chips", numbers=[1.0])
            add("lead_months", f"lead time of {chip.name}", f"{base}.lead_months",
                numbers=[chip.buy.lead_months])  # fmt: skip
    for work in content["workload"]:
        key = "demand_mtok" if work["demand_mtok"] is not None else "demand_mtok_first"
        path = f"workload[{work['name']}].{key}"
        add("demand", f"demand of {work['name']}", path, numbers=[1.0])
    add("utilisation", "utilisation", "plan.utilisation", numbers=[1.0])
    owned = [1.0 for chip in plan.accelerator if chip.buy is not None]
    add("resale", "what chips are worth at the end", "plan.resale_factor",
        numbers=[plan.plan.resale_factor] if owned else [])  # fmt: skip
    add("power_price", "price of power", "site.usd_per_kwh", numbers=[plan.site.usd_per_kwh])
    return listed


def doubted(content: dict[str, Any], doubt: Doubted, factor: float) -> None:
    """One doubted input of a plan's content at ``factor``, within what it can be at all."""
    if doubt.path == "plan.utilisation":
        factor = min(factor, 1 / content["plan"]["utilisation"])
    if doubt.path == "plan.resale_factor":
        factor = min(factor, 2 / content["plan"]["resale_factor"])
    change(content, Setting(path=doubt.path, value=max(factor, 1e-3), times=True))


def draw(plan: Plan, doubtful: list[Doubted]) -> Iterator[Plan]:
    """The sampled futures, each a plan with one scenario."""
    from scipy.stats import qmc  # a second to load, and most commands draw nothing

    count, futures = plan.doubt.samples, plan.futures
    engine = qmc.Sobol(1 + len(doubtful), rng=plan.doubt.seed)
    points = engine.random_base2(int(np.ceil(np.log2(count))))[:count]
    limits = np.cumsum([s.probability for s in futures])
    base = plan.model_dump()
    for point in points:
        content = Plan.model_validate(base).model_dump()
        chosen = futures[min(int(np.searchsorted(limits, point[0])), len(futures) - 1)]
        content["scenario"] = [{**chosen.model_dump(), "probability": 1.0}]
        for doubt, u in zip(doubtful, point[1:], strict=True):
            doubted(content, doubt, doubt.low + (doubt.high - doubt.low) * float(u))
        yield Plan.model_validate(content)


def look_ahead(
    plan: Plan, decision: LinearProgram, today: Floats, doubtful: list[Doubted]
) -> Futures:
    """The plan in every sampled future, against ``today``: a solution of the plan itself."""
    sides, ways = dict.fromkeys(SIDES, 0), dict.fromkeys(WAYS, 0)
    used: list[set[str]] = []
    regrets: list[float] = []
    answered = unserved = stuck = 0
    start: Basis | None = None
    again: Basis | None = None
    for future in draw(plan, doubtful):
        program = build(future, elastic=True)
        known = relaxed(program, start=start)
        if known is None:
            continue
        start = known.basis
        lacking = _lacking(program, known)
        unserved += lacking
        answer = next_dollar(program, known.x)
        if answer is not None:
            answered += 1
            sides[answer.side] += 1
            ways[answer.how] += 1
        used.append(_in_plan(program, known.x))
        bound = _bound(program, decision, today)
        fixed = relaxed(program, start=again or known.basis, low=bound[0], high=bound[1])
        if fixed is None or lacking:
            continue
        again = fixed.basis
        if _lacking(program, fixed):
            stuck += 1
        else:
            gain = program.total_usd(fixed.x) - program.total_usd(known.x)
            regrets.append(max(gain, 0.0))
    share = max(answered, 1)
    return Futures(
        samples=plan.doubt.samples,
        answered=answered,
        unserved=unserved,
        probability={side: count / share for side, count in sides.items()},
        probability_how={way: count / share for way, count in ways.items()},
        in_plans=used,
        regret_usd=float(np.mean(regrets)) if regrets else None,
        stuck=stuck,
    )


def _lacking(program: LinearProgram, optimum: Optimum) -> bool:
    columns = program.at.get("lacking")
    return columns is not None and bool((optimum.x[columns] > UNSERVED).any())


def _in_plan(program: LinearProgram, x: Floats) -> set[str]:
    """Signed options count as well: they are in every plan."""
    usd = option_usd(program, x)
    total = max(float(np.maximum(usd, 0.0).sum()), 1.0)
    return {o.label for o, part in zip(program.options, usd, strict=True) if part > USED * total}


def _bound(program: LinearProgram, decision: LinearProgram, today: Floats) -> tuple[Floats, Floats]:
    """Bounds that hold the first year's purchases, commitments and ports at today's."""
    low, high = program.low.copy(), program.high.copy()
    for theirs, ours in _decided(program, decision):
        amount = np.minimum(np.maximum(today[theirs], program.low[ours]), program.high[ours])
        low[ours], high[ours] = amount, amount
    port, mine = decision.at["port"], program.at["port"]
    paid = port >= 0
    low[mine[paid]] = np.clip(today[port[paid]], 0.0, 1.0)
    return low, high


def _decided(program: LinearProgram, decision: LinearProgram) -> Iterator[tuple[Ints, Ints]]:
    bought = decision.at["buy"][:, 0] >= 0
    yield decision.at["buy"][bought, 0], program.at["buy"][bought, 0]
    for name, columns in decision.at.items():
        if name.startswith(("commit ", "signed ", "contract ")):
            yield columns[:1], program.at[name][:1]
