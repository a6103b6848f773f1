"""The page of a solved plan: the next dollar, how sure, what turns it, by year."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tpubench.costs.allocation.answer import PlanAnswer, allocate
from tpubench.devices.prices import prices
from tpubench.reports import page, plan_words
from tpubench.reports.answers.plan import plan_view
from tpubench.reports.answers.plan_sections import money_chart, plan_sections
from tpubench.reports.blocks import Table
from tpubench.reports.figure import Plane

PLAN = """
[plan]
name = "Two chips <b>"
first_year = 2027
years = 2
wacc = 0.1
tax_rate = 0.2
utilisation = 0.6
seconds = 20
[site]
usd_per_kwh = 0.08
pue = 1.2
source = "a site"
as_of = 2026-10-01
[limits]
megawatts = [500, 500]
[doubt]
samples = 16
[[workload]]
name = "chat"
demand_mtok = [2e7, 4e7]
[[accelerator]]
name = "tpu-v7"
kw = 1.0
[accelerator.buy]
capex_usd = 30000
lot = 64
life_years = 5
max_chips = 200000
source = "a quote"
as_of = 2026-10-01
[[accelerator]]
name = "nvidia-gb300"
kw = 1.9
[accelerator.buy]
capex_usd = 55000
lot = 72
life_years = 5
max_chips = 200000
source = "a quote"
as_of = 2026-10-01
[accelerator.rent]
usd_per_chip_hour = 6.0
max_chips = 200000
source = "a quote"
as_of = 2026-10-01
[[throughput]]
accelerator = "tpu-v7"
workload = "chat"
tok_s = 900
source = "a test"
evidence = "published"
[[throughput]]
accelerator = "nvidia-gb300"
workload = "chat"
tok_s = 1000
source = "a test"
evidence = "published"
"""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> PlanAnswer:
    path = tmp_path_factory.mktemp("plan") / "plan.toml"
    path.write_text(PLAN, encoding="utf-8")
    return allocate(path, prices(), path.parent, dt.date(2026, 11, 28))


def test_the_first_screen_says_what_the_terminal_says(answer: PlanAnswer) -> None:
    view = plan_view(answer)
    sentences = [one.text for one in plan_words.answer(answer.verdict)]
    assert view.detail == sentences[0]
    assert list(view.sure) == [text for text in sentences if text.startswith("How sure")]
    assert view.head == "TPU, bought"
    assert next(option.colour for option in view.options) == "blue"
    # Without a residual share, worthless chips change nothing.
    assert any(
        text.startswith("were chips worth nothing when sold, $") and text.endswith("TPU 100%")
        for text in view.rests_on
    )


def test_every_flip_comes_with_the_setting_that_goes_there(answer: PlanAnswer) -> None:
    view = plan_view(answer)
    assert view.flips
    assert all(command.startswith("--set '") for _, command in view.flips)


def test_the_power_by_year_is_that_of_the_chips_bought(answer: PlanAnswer) -> None:
    bought = {"tpu-v7": 1.0, "nvidia-gb300": 1.9}
    by_hand, standing = [], 0.0
    for power in answer.power:
        standing += sum(
            amount.chips * bought[amount.accelerator] * 1.2 / 1000
            for amount in answer.amounts
            if amount.year == power.year and amount.option == "buy"
        )
        by_hand.append(standing)
    assert [power.mw for power in answer.power] == pytest.approx(by_hand)
    assert {power.limit_mw for power in answer.power} == {500.0}


def test_the_page_is_written_and_a_plans_name_is_only_text(
    answer: PlanAnswer, tmp_path: Path
) -> None:
    (path,) = page.write_plan(answer, tmp_path)
    html = path.read_text(encoding="utf-8")
    assert "Two chips &lt;b&gt;" in html
    assert "Megawatts at the meter" in html
    assert "Expected cash" in html


PRICED = PLAN.replace(
    "demand_mtok = [2e7, 4e7]", "demand_mtok = [2e7, 4e7]\nprice_usd_per_mtok = [9.0, 7.0]"
).replace(
    "[[workload]]",
    '[[scenario]]\nname = "as planned"\nprobability = 0.5\n'
    '[[scenario]]\nname = "more"\nprobability = 0.5\ndemand = { all = 1.2 }\n[[workload]]',
    1,
)


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> PlanAnswer:
    path = tmp_path_factory.mktemp("priced") / "plan.toml"
    path.write_text(PRICED, encoding="utf-8")
    return allocate(path, prices(), path.parent, dt.date(2026, 11, 28))


def test_capex_and_revenue_stand_on_one_chart(priced: PlanAnswer) -> None:
    (panel,) = money_chart(priced).panels
    assert isinstance(panel, Plane)
    drawn = {one.name: [point.y for point in one.points] for one in panel.series}
    expected = [row for row in priced.cash if row.scenario == "expected"]
    assert panel.y.title == "$ M"
    assert drawn["capex"] == pytest.approx([row.capex / 1e6 for row in expected])
    # 20 and 40 million Mtok, or 1.2 times as many, half each.
    assert drawn["revenue"] == pytest.approx([1.1 * 2e7 * 9 / 1e6, 1.1 * 4e7 * 7 / 1e6])
    assert max(map(max, drawn.values())) <= panel.y.high


def test_money_is_there_by_year_and_by_scenario(priced: PlanAnswer, tmp_path: Path) -> None:
    tables = [
        block
        for section in plan_sections(priced)
        for block in section.blocks
        if isinstance(block, Table)
    ]
    named = {block.caption or block.folded: block for block in tables}
    for of in ("expected", "scenario as planned", "scenario more"):
        lines = [row[0] for row in named[f"Profit and loss, {of}"].rows]
        assert {"revenue", "operating cost", "depreciation", "tax", "profit after tax"} <= {*lines}
    assert {"Expected cash", "Cash, scenario as planned", "Cash, scenario more"} <= {*named}
    more = {row[0]: row[1:] for row in named["Profit and loss, scenario more"].rows}
    assert more["revenue"] == ("$216 M", "$336 M")
    assert named["Limits in force, and what each costs"].rows[0][0] == "power"
    assert "no resale value" in [row[0] for row in named["The plan under other assumptions"].rows]
    doubted = next(block for name, block in named.items() if name.startswith("The plan at either"))
    assert [column.name for column in doubted.columns[2:4]] == ["Cost", "TPU share"]
    paths = page.write_plan(priced, tmp_path, pngs=True)
    assert [path.name for path in paths] == ["report.html", "plan-money.png"]
