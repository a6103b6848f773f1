"""Cash, profit and tax by year and scenario, worked out by hand from the file's own figures."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from random_plans import random_plan

from tpubench.costs.allocation.answer import PlanAnswer, allocate, answer
from tpubench.costs.allocation.plan import plan_of
from tpubench.costs.allocation.statements import OPERATING
from tpubench.errors import UsageError

TODAY = dt.date(2026, 11, 22)
HOURS = 8760
MTOK_A_YEAR = 1000 * 3600 * HOURS / 1e6
"""Million tokens of one chip at 1,000 tok/s."""

PLAN = f"""
[plan]
name = "by hand"
first_year = 2027
years = 3
wacc = 0.1
utilisation = 1.0
tax_rate = 0.25
[site]
usd_per_kwh = 0.1
pue = 1.2
source = "test"
as_of = 2026-11-01
[[workload]]
name = "chat"
demand_mtok = [{10 * MTOK_A_YEAR!r}, {10 * MTOK_A_YEAR!r}, {10 * MTOK_A_YEAR!r}]
price_usd_per_mtok = [2.0, 1.5, 1.0]
[[accelerator]]
name = "nvidia-h100-sxm"
kw = 1.0
[accelerator.buy]
capex_usd = 20000
max_chips = [10, 0, 0]
life_years = 4
residual_curve = [0.5, 0.4, 0.3]
depreciation_years = 4
opex_rate = 0.05
source = "test"
as_of = 2026-11-01
[accelerator.rent]
usd_per_chip_hour = 3.0
max_chips = 100
source = "test"
as_of = 2026-11-01
[[throughput]]
accelerator = "nvidia-h100-sxm"
workload = "chat"
tok_s = 1000
evidence = "assumed"
source = "test"
[[scenario]]
name = "as planned"
probability = 0.75
[[scenario]]
name = "more"
probability = 0.25
demand = {{ chat = 1.5 }}
"""


def solved(folder: Path, text: str = PLAN) -> PlanAnswer:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return allocate(path, {}, folder / "store", TODAY, answer_only=True)


def test_profit_and_cash_of_each_scenario_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    outcome = solved(tmp_path)
    assert [row.scenario for row in outcome.profit[::3]] == ["expected", "as planned", "more"]
    running = 10 * (0.05 * 20_000 + 0.1 * 1.2 * HOURS)
    for scenario, chips in (("as planned", 10), ("more", 15)):
        rent = (chips - 10) * 3.0 * HOURS
        profits = [row for row in outcome.profit if row.scenario == scenario]
        flows = [row for row in outcome.cash if row.scenario == scenario]
        for y, (profit, cash) in enumerate(zip(profits, flows, strict=True)):
            revenue = chips * MTOK_A_YEAR * (2.0, 1.5, 1.0)[y]
            # Worth 30 % after three years, in the books at a quarter.
            resale, book = (60_000, 50_000) if y == 2 else (0, 0)
            assert profit.year == cash.year == 2027 + y
            assert profit.revenue == pytest.approx(revenue)
            assert profit.operating == pytest.approx(running + rent)
            assert profit.depreciation == pytest.approx(200_000 / 4)
            assert profit.disposal == pytest.approx(resale - book)
            before = revenue - running - rent - 50_000 + resale - book
            assert profit.before_tax == pytest.approx(before)
            assert profit.tax == cash.tax == pytest.approx(before / 4)
            assert profit.after_tax == pytest.approx(before * 0.75)
            capex = 200_000 if y == 0 else 0
            net = capex + running + rent + before / 4 - revenue - resale
            assert cash.net == pytest.approx(net)


@pytest.mark.parametrize("seed", [0, 1, 5, 8])
def test_what_is_expected_is_the_mean_of_the_scenarios(seed: int) -> None:
    content = random_plan(seed)
    plan = plan_of(content, "plan")
    outcome = answer(plan, [], answer_only=True)
    assert plan.scenario, "the seeds are of plans with scenarios"
    chance = {scenario.name: scenario.probability for scenario in plan.scenario}
    for rows, parts in (
        (outcome.profit, ("revenue", "operating", "depreciation", "disposal", "tax", "after_tax")),
        (outcome.cash, ("capex", "running", "rent", "tax", "resale", "net")),
    ):
        for year in range(plan.plan.years):
            mine = {row.scenario: row for row in rows if row.year == 2027 + year}
            for part in parts:
                mean = sum(p * getattr(mine[name], part) for name, p in chance.items())
                assert getattr(mine["expected"], part) == pytest.approx(mean, rel=1e-9, abs=1e-3)
    for profit, cash in zip(outcome.profit, outcome.cash, strict=True):
        assert (profit.scenario, profit.year) == (cash.scenario, cash.year)
        assert profit.operating == pytest.approx(sum(getattr(cash, part) for part in OPERATING))
        assert profit.tax == pytest.approx(cash.tax, abs=1e-6)


def test_at_no_resale_value_the_plan_loses_what_the_curve_said(tmp_path: Path) -> None:
    plain, none = (
        solved(tmp_path),
        solved(tmp_path, PLAN.replace("tax_rate", "resale_factor = 0.0\ntax_rate")),
    )
    # 60,000 in three years' time, of which a quarter would have been taxed.
    assert none.objective_usd - plain.objective_usd == pytest.approx(45_000 / 1.1**3, rel=1e-6)


def test_demand_answers_to_the_price_path_only_where_it_is_asked_to(tmp_path: Path) -> None:
    still = solved(tmp_path)
    answering = "elasticity = 0.5\nreference_price_usd_per_mtok = 1.5\n[[accelerator]]"
    moved = solved(tmp_path, PLAN.replace("[[accelerator]]", answering, 1))
    # (price ÷ 1.5)^−0.5 of ten chips' work in each year.
    for y, price in enumerate((2.0, 1.5, 1.0)):
        factor = (price / 1.5) ** -0.5
        rows = [next(r for r in a.profit[3:6] if r.year == 2027 + y) for a in (still, moved)]
        assert rows[0].scenario == rows[1].scenario == "as planned"
        assert rows[1].revenue == pytest.approx(rows[0].revenue * factor)
    nothing = PLAN.replace("[[accelerator]]", "elasticity = 0.5\n[[accelerator]]", 1)
    with pytest.raises(UsageError, match="reference_price_usd_per_mtok"):
        solved(tmp_path, nothing)


def test_a_price_path_has_a_price_for_every_year(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"price_usd_per_mtok: 2 values for 3 years"):
        solved(tmp_path, PLAN.replace("[2.0, 1.5, 1.0]", "[2.0, 1.5]"))
