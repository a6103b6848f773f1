"""``tpubench plan init`` with one's own [[owned]] prices: what they say is asked of nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import caller
from test_drafts import LLAMA, rates

from tpubench.costs.allocation.plan import Plan, read_plan
from tpubench.costs.owned import Owned, hourly
from tpubench.costs.price_files import owned_figures
from tpubench.results import store

PRICES = """
[[owned]]
id = "own-v6e"
accelerator = "v6e"
source = "quote 3"
as_of = 2026-10-01
capex_usd = 9000
facility_capex_usd = 1000
residual_usd = 500
opex_rate = 0.04
availability = 0.96
wacc = 0.07
years = 5.5
kw = 0.7
pue = 1.15
usd_per_kwh = 0.061
idle_power_share = 0.25
[[owned]]
id = "own-h100"
accelerator = "h100-sxm"
source = "quote 4"
as_of = 2026-11-01
capex_usd = 30000
wacc = 0.08
years = 5
kw = 1.3
pue = 1.2
usd_per_kwh = 0.07
colo_usd_per_kw_month = 150
"""
ASKED = (
    "--set", "plan.years=3", "--set", "plan.utilisation=0.6",
    "--set", f"workload[{LLAMA}].demand_mtok_first=2e6", "--set", f"workload[{LLAMA}].growth=0.3",
    "--set", "accelerator[tpu-v6e].buy.max_chips=5000",
    "--set", "accelerator[tpu-v6e].buy.lead_months=6",
    "--set", "accelerator[nvidia-h100-sxm].buy.max_chips=5000",
    "--set", "accelerator[nvidia-h100-sxm].buy.lead_months=6",
)  # fmt: skip


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A command in a folder with a store of two chips and a file of owned prices."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TPUBENCH_PRICES", raising=False)
    Path("prices.toml").write_text(PRICES, encoding="utf-8")
    for name, device, speed in (("a", "tpu-v6e", 1000.0), ("b", "nvidia-h100-sxm", 2000.0)):
        store.write(Path("facts"), name, rates(device, speed))
    return caller(monkeypatch, capfd)


def drafted(run: Any, *more: str) -> Plan:
    asked = ("plan", "init", "--store", "facts", "--prices", "prices.toml", "--force")
    code, _, err = run(*asked, *ASKED, *more)
    assert code == 0, err
    return read_plan(Path("plan.toml"))


def test_owned_prices_answer_for_the_chips_the_site_and_the_cost_of_capital(run: Any) -> None:
    plan = drafted(run)
    assert plan.plan.placeholders == []
    # Of the two, the newest says what a plan has one of.
    assert (plan.plan.wacc, plan.site.pue, plan.site.usd_per_kwh) == (0.08, 1.2, 0.07)
    assert plan.site.colo_usd_per_kw_month == 150
    bought = {chip.name: chip for chip in plan.accelerator}
    for name, (price, owned) in owned_figures([Path("prices.toml")]).items():
        chip = bought[name]
        assert chip.buy is not None
        assert (chip.buy.source, chip.buy.as_of) == (price.source, price.as_of)
        # The plan's keys say the same of one chip as the price does, building included.
        again = Owned(
            capex_usd=chip.buy.capex_usd, residual_usd=chip.buy.residual_share * chip.buy.capex_usd,
            opex_rate=chip.buy.opex_rate, availability=chip.buy.availability, kw=chip.kw,
            years=chip.buy.life_years, wacc=owned.wacc, pue=owned.pue,
            usd_per_kwh=owned.usd_per_kwh, idle_power_share=owned.idle_power_share,
            colo_usd_per_kw_month=owned.colo_usd_per_kw_month,
        )  # fmt: skip
        assert hourly(again, 0.6).total == pytest.approx(hourly(owned, 0.6).total)
        assert again.availability == owned.availability
    text = Path("plan.toml").read_text(encoding="utf-8")
    assert "capex_usd = 10000.0  # owned price own-v6e" in text
    assert run("allocate", "plan.toml", "--store", "facts", "--answer-only")[0] == 0


def test_what_is_said_by_hand_goes_before_an_owned_price(run: Any) -> None:
    plan = drafted(run, "--set", "accelerator[tpu-v6e].kw=0.9", "--set", "plan.wacc=0.11")
    assert plan.plan.wacc == 0.11
    assert {chip.name: chip.kw for chip in plan.accelerator}["tpu-v6e"] == 0.9
    assert "kw = 0.9  # given" in Path("plan.toml").read_text(encoding="utf-8")


def test_the_file_of_the_environment_counts_too(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPUBENCH_PRICES", "prices.toml")
    code, _, err = run("plan", "init", "--store", "facts", *ASKED)
    assert code == 0, err
    assert all(chip.buy is not None for chip in read_plan(Path("plan.toml")).accelerator)
