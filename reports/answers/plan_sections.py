"""What stands below the first screen of a plan: by year, by scenario, under other assumptions."""

from __future__ import annotations

from collections.abc import Iterable

from tpubench.costs.allocation.answer import PlanAnswer
from tpubench.costs.allocation.statements import EXPECTED, SPENT
from tpubench.devices.vendors import label
from tpubench.reports import plan_words
from tpubench.reports.answers.words import chance
from tpubench.reports.blocks import Block, Cell, Drawing, Section, Table, Text, columns
from tpubench.reports.figure import Axis, Chart, Plane, Point, Series
from tpubench.reports.plan_words import dollars
from tpubench.reports.quantity import MISSING

_CASH = (*SPENT, "tax", "revenue", "resale", "net")
_ROOM = 1.15
"""Part by which the money axis goes beyond its highest mark."""


def plan_sections(answer: PlanAnswer) -> list[Section]:
    """The plan by year, what it rests on, and what else it could be."""
    return [
        Section(
            title="The plan",
            lead="What to get in which year. Rent and contracts are means over the scenarios.",
            blocks=(_amounts(answer), _power(answer), _limits(answer)),
        ),
        Section(
            title="Money by year",
            lead="Expected over the scenarios, US dollars of each year; each scenario is folded.",
            blocks=(
                Drawing(chart=money_chart(answer)),
                _cash(answer, EXPECTED),
                _profit(answer, EXPECTED),
                Text(text=plan_words.venture(answer.whole)),
                *_scenarios(answer),
            ),
        ),
        Section(
            title="What it rests on",
            lead="The plan with other assumptions, at both ends of each doubt, without an option.",
            blocks=(
                *_variants(answer),
                *_doubts(answer),
                _worths(answer),
                Text(items=tuple(answer.assumptions)),
            ),
        ),
    ]


def money_chart(answer: PlanAnswer) -> Chart:
    """Capex, all other spending and revenue by year, expected, on one axis."""
    years = [row for row in answer.cash if row.scenario == EXPECTED]
    other = [part for part in SPENT if part not in {"capex", "shortfall"}]
    lines = {
        "capex": [row.capex for row in years],
        "operating cost": [sum(getattr(row, part) for part in other) for row in years],
        "revenue": [row.revenue for row in years],
    }
    most = max((usd for values in lines.values() for usd in values), default=0.0)
    size, unit = plan_words.scale_of(most)
    first, last = years[0].year, years[-1].year
    series = tuple(
        Series(
            name=name,
            evidence=None,
            draw="points+line",
            variant=number,
            points=tuple(
                Point(
                    x=row.year,
                    y=usd / size,
                    label=name if row.year == last else "",
                    hover=f"{name}, {row.year}: {dollars(usd)}",
                )
                for row, usd in zip(years, values, strict=True)
            ),
        )
        for number, (name, values) in enumerate(lines.items())
        if any(values)
    )
    said = "; ".join(f"{name} {', '.join(map(dollars, values))}" for name, values in lines.items())
    return Chart(
        name="plan-money",
        alt=f"{first} to {last}: {said}",
        caption="Operating cost: power and upkeep, contracts, rent, fees and porting."
        + ("" if any(lines["revenue"]) else " No workload has a price, so there is no revenue."),
        panels=(
            Plane(
                title="Capex, operating cost and revenue by year, expected",
                x=Axis(title="year", low=first - 0.4, high=last + 0.9, log=False),
                y=Axis(title=f"${unit}", low=0.0, high=_ROOM * max(most / size, 1e-9), log=False),
                series=series,
            ),
        ),
    )


def _by_year(title: str, heading: str, rows: dict[str, dict[int, str]], *, folded: bool) -> Table:
    years = sorted({year for row in rows.values() for year in row})
    return Table(
        caption="" if folded else title,
        folded=title if folded else "",
        columns=columns(heading, *(f"{year}#" for year in years)),
        rows=tuple((name, *(row.get(year, "") for year in years)) for name, row in rows.items()),
    )


def _amounts(answer: PlanAnswer) -> Block:
    rows: dict[str, dict[int, str]] = {}
    for amount in answer.amounts:
        text = f"{amount.chips:,.0f}"
        if amount.high > amount.low:
            text += f" ({amount.low:,.0f}–{amount.high:,.0f})"
        rows.setdefault(f"{label(amount.accelerator)}, {amount.option}", {})[amount.year] = text
    return _by_year("Chips to buy, commit to and rent", "Chip and way", rows, folded=False)


def _power(answer: PlanAnswer) -> Block:
    rows = {"drawn": {power.year: f"{power.mw:,.1f}" for power in answer.power}}
    limits = {p.year: f"{p.limit_mw:,.1f}" for p in answer.power if p.limit_mw is not None}
    allowed = {"allowed": limits} if limits else {}
    return _by_year("Megawatts at the meter", "Power", rows | allowed, folded=False)


def _limits(answer: PlanAnswer) -> Block:
    limits = answer.verdict.limits_in_force
    if not limits:
        return Text(text="No limit is set on budget, power or any vendor's share.")
    return Table(
        caption="Limits in force, and what each costs",
        columns=columns("Limit", "Allowed#", "Costs#"),
        rows=tuple((one.limit, plan_words.allowed(one), dollars(one.usd)) for one in limits),
        foot="Costs: what the plan would save without this one limit.",
    )


def _cash(answer: PlanAnswer, scenario: str) -> Block:
    mine = [row for row in answer.cash if row.scenario == scenario]
    rows: dict[str, dict[int, str]] = {}
    for part in _CASH:
        values = {row.year: float(getattr(row, part)) for row in mine}
        if any(values.values()):
            name = "net spent" if part == "net" else part
            rows[name] = {year: dollars(value) for year, value in values.items()}
    expected = scenario == EXPECTED
    title = "Expected cash" if expected else f"Cash, scenario {scenario}"
    return _by_year(title, "Item", rows, folded=not expected)


def _profit(answer: PlanAnswer, scenario: str) -> Block:
    mine = [row for row in answer.profit if row.scenario == scenario]
    rows: dict[str, dict[int, str]] = {}
    for part, name in plan_words.PROFIT.items():
        values = {row.year: float(getattr(row, part)) for row in mine}
        if any(values.values()):
            rows[name] = {year: dollars(value) for year, value in values.items()}
    expected = scenario == EXPECTED
    of = EXPECTED if expected else f"scenario {scenario}"
    return _by_year(f"Profit and loss, {of}", "Item", rows, folded=not expected)


def _scenarios(answer: PlanAnswer) -> Iterable[Block]:
    names = list(dict.fromkeys(row.scenario for row in answer.cash if row.scenario != EXPECTED))
    for name in names[: plan_words.SCENARIOS_SHOWN]:
        yield _cash(answer, name)
        yield _profit(answer, name)
    more = len(names) - plan_words.SCENARIOS_SHOWN
    if more > 0:
        yield Text(text=f"{more} more scenarios: tpubench allocate PLAN.toml --json")


def _variants(answer: PlanAnswer) -> Iterable[Block]:
    rows: list[tuple[Cell, ...]] = [
        (
            variant.name,
            "impossible" if variant.objective_usd is None else dollars(variant.objective_usd),
            MISSING
            if variant.side is None
            else f"{plan_words.NAMES[variant.side]} {variant.share:.0%}",
            MISSING if variant.tpu_share is None else f"{variant.tpu_share:.0%}",
        )
        for variant in answer.variants
    ]
    if rows:
        what = "Margin#" if answer.objective == "max_margin" else "Cost#"
        yield Table(
            caption="The plan under other assumptions",
            columns=columns("Change", what, "Next dollar#", "TPU share#"),
            rows=tuple(rows),
        )


def _worths(answer: PlanAnswer) -> Block:
    rows: list[tuple[Cell, ...]] = [
        (
            option.name,
            option.side,
            option.how,
            dollars(option.usd),
            "impossible" if option.worth_usd is None else dollars(option.worth_usd),
            MISSING if option.in_plan_probability is None else chance(option.in_plan_probability),
        )
        for option in answer.verdict.options
    ]
    return Table(
        folded=f"What the plan would cost more without each option: {len(rows)}",
        columns=columns("Without", "Side", "How", "Spent on it#", "Worth#", "In plan#"),
        rows=tuple(rows),
        foot="Impossible: no plan meets all demand and limits without it.",
    )


def _doubts(answer: PlanAnswer) -> Iterable[Block]:
    swings = {swing.path: swing for swing in answer.verdict.tornado}
    doubtful = {doubt.path: doubt for doubt in answer.verdict.doubts}
    rows: list[tuple[Cell, ...]] = []
    first = [path for path in swings if path in doubtful]
    for path in [*first, *(path for path in doubtful if path not in swings)]:
        doubt, swing = doubtful[path], swings.get(path)
        cost = tpu = MISSING
        if swing is not None:
            cost = f"{dollars(swing.usd_low)} – {dollars(swing.usd_high)}"
            ends = (swing.tpu_low, swing.tpu_high)
            tpu = " – ".join(MISSING if end is None else f"{end:.0%}" for end in ends)
        rows.append((doubt.input, f"× {doubt.low:.3g}–{doubt.high:.3g}", cost, tpu, doubt.source))
    if rows:
        what = "Margin#" if answer.objective == "max_margin" else "Cost#"
        yield Table(
            folded=f"The plan at either end of each doubt: {len(rows)}",
            columns=columns("Doubted", "Range#", what, "TPU share#", "Width from"),
            rows=tuple(rows),
        )
