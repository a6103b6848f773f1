"""The money commands: figures by name, JSON alone on stdout, one error line, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sample_rows import make_row

from tpubench import cli
from tpubench.results import store

V6E = "gcp-us-east5-tpu-v6e-on_demand-2024-12-23"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "capex-65b.toml"


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert (self.code, self.err) == (0, ""), self
        return json.loads(self.out)

    def error(self, code: int) -> str:
        assert (self.code, self.out) == (code, ""), self
        (line,) = self.err.strip().splitlines()
        return line.removeprefix("tpubench: error: ")


Call = Callable[..., Done]


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TPUBENCH_PRICES", raising=False)

    def run(*arguments: str) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["tpubench", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Done(int(ended.value.code or 0), out, err)

    return run


def test_cloud(call: Call) -> None:
    asked = ["cost", "cloud", "--usd-per-chip-hour", "12", "--tok-s", "518.86"]
    assert call(*asked, "--json").json()["usd_per_mtok"] == pytest.approx(6.42, abs=0.005)
    assert "usd_per_mtok: $6.42" in call(*asked).out
    split = call(
        *asked, "--prefill-tok-s", "9000", "--decode-tok-s", "600", "--in-out-ratio", "3", "--json"
    ).json()
    blended = (3 * split["input_usd_per_mtok"] + split["output_usd_per_mtok"]) / 4
    assert split["blended_usd_per_mtok"] == pytest.approx(blended)


def test_owned(call: Call) -> None:
    asked = ["cost", "owned", "--capex", "47222.22", "--wacc", "0.087", "--years", "5.5"]
    asked += ["--kw", "1.667", "--pue", "1.08", "--usd-per-kwh", "0.0821"]
    asked += ["--colo-usd-per-kw-month", "184.06"]
    found = call(*asked, "--json").json()
    assert found["usd_per_chip_hour"] == pytest.approx(1.84, abs=0.005)
    assert found["usd_per_mtok"] is None
    assert found["reasons"]["usd_per_mtok"] == "no --tok-s given"
    held = call(*asked, "--tok-s", "1000", "--cloud-usd-per-chip-hour", "5", "--json").json()
    assert 0 < held["break_even_utilisation"] < 1
    dear = call(*asked, "--cloud-usd-per-chip-hour", "1", "--json").json()
    assert dear["break_even_utilisation"] is None
    assert "cheaper at any utilisation" in dear["reasons"]["break_even_utilisation"]
    assert "both pay for the building" in call(*asked, "--facility-capex", "1").error(2)


def test_margin(call: Call) -> None:
    asked = ["cost", "margin", "--usd-per-mtok", "1", "--price-per-mtok", "6"]
    alone = call(*asked, "--json").json()
    assert alone["gross_margin"] == pytest.approx(5 / 6)
    assert alone["cost_profit_margin"] == pytest.approx(5)
    assert alone["npv"] is None
    more = ["--capex", "1000", "--mtok-per-year", "100", "--years", "4", "--wacc", "0.1"]
    found = call(*asked, *more, "--json").json()
    assert found["payback_years"] == 2
    assert found["npv"] == pytest.approx(584.93, abs=0.01)
    loss = call("cost", "margin", "--usd-per-mtok", "7", "--price-per-mtok", "6", *more, "--json")
    assert loss.json()["irr"] is None
    assert loss.json()["reasons"]["irr"].startswith("none")
    assert "--wacc" in call(*asked, *more[:-2]).error(2)


def test_contract(call: Call) -> None:
    asked = ["--minimum", "100", "--rate", "2", "--cap", "100", "--on-demand", "3", "--use", "130"]
    assert call("cost", "contract", *asked, "--json").json()["usd"] == 290


def test_a_contracts_break_even_knows_its_minimum_and_cap(call: Call) -> None:
    asked = ["cost", "contract", "--minimum", "1.5e6", "--rate", "2", "--cap", "500000"]
    asked += ["--use", "400000"]
    found = call(*asked, "--on-demand", "3", "--json").json()
    assert found["break_even_use"] == 1.0
    assert found["break_even_chip_hours"] == 500_000
    assert "break_even_use: 100.0%" in call(*asked, "--on-demand", "3").out
    never = call(*asked, "--on-demand", "2.9", "--json").json()
    assert never["break_even_use"] is None
    assert "never costs less" in never["reasons"]["break_even_use"]
    listed = call(*asked, "--price", V6E, "--demand", "100,200,300", "--json").json()
    assert listed["on_demand_usd"] == pytest.approx(2.7 * 400_000)
    assert listed["price"]["stale"] is True
    assert listed["commit_chip_hours"] == 100
    assert "write numbers" in call(*asked, "--on-demand", "3", "--demand", "many").error(2)
    assert "give a price id or --on-demand" in call(*asked).error(2)


def test_cost_prices_by_the_table_and_says_when_it_is_stale(call: Call, tmp_path: Path) -> None:
    own = tmp_path / "mine.toml"
    own.write_text(
        "[[negotiated]]\nid = 'mine'\nprovider = 'gcp'\naccelerator = 'v6e'\nterm = '3y'\n"
        "usd_per_chip_hour = 1.5\nsource = 'order form'\nas_of = 2024-02-01\n",
        encoding="utf-8",
    )
    asked = ["cost", "cloud", "--tok-s", "1000", "--device", "TPU v6e"]
    listed = call(*asked, "--json").json()
    assert listed["price"]["usd_per_chip_hour"] == 2.7
    assert "stale: older than 90 days" in call(*asked).out
    owned = call(*asked, "--prices", str(own), "--json").json()
    assert owned["price"]["id"] == "mine"
    assert owned["usd_per_mtok"] == pytest.approx(listed["usd_per_mtok"] * 1.5 / 2.7)
    by_id = call(*asked[:-2], "--price", "mine", "--prices", str(own), "--json").json()
    assert by_id == owned
    shown = call("show", "published", "device=tpu-v6e", "--prices", str(own), "--json").json()
    paid = {row["price_id"] for row in shown if row["price_id"]}
    assert paid == {"mine"}
    assert "give one of" in call(*asked, "--usd-per-chip-hour", "2").error(2)
    assert "no list price of tpu-v4" in call(*asked[:-1], "v4").error(2)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e999"])
def test_a_senseless_figure_is_one_line(call: Call, value: str) -> None:
    line = call("cost", "cloud", "--usd-per-chip-hour", value, "--tok-s", "10").error(2)
    assert "$/chip-hour must be a number above 0" in line


def test_price_list_show_and_unknown(call: Call) -> None:
    listed = call("price", "list", "--accelerator", "TPU v6 lite", "--json").json()
    assert {price["accelerator"] for price in listed} == {"tpu-v6e"}
    shown = call("price", "show", V6E, "--json").json()
    assert shown["stale"] is True
    assert len(shown["sha256"]) == 64
    assert "stale" in call("price", "list", "--accelerator", "tpu-v6e").out
    assert "unknown price" in call("price", "show", "nothing").error(2)
    assert "unknown device" in call("price", "list", "--accelerator", "tpu-v99").error(2)


def test_price_import_diff_and_use(call: Call, tmp_path: Path) -> None:
    catalogue = tmp_path / "gcp_vms.csv"
    catalogue.write_text(
        "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\n"
        "TPU-VM,tpu-v6e-8,1,22.4,700.0,us-east5\nTPU-VM,tpu-v6e-8,1,10,20,us-west1\n"
    )
    assert "--as-of" in call("price", "import", "skypilot", str(catalogue)).error(2)
    asked = ["price", "import", "skypilot", str(catalogue), "--as-of", "2026-11-01"]
    done = call(*asked, "--out", "new.csv", "--json").json()
    assert (done["prices"], len(done["rejected"])) == (1, 1)
    changed = call("price", "diff", "shipped", "new.csv", "--json").json()
    (dearer,) = [change for change in changed if change["ratio"] is not None]
    assert dearer["ratio"] == pytest.approx(2.8 / 2.7)
    aws = [change for change in changed if change["provider"] == "aws"]
    assert {(change["kind"], change["partial"]) for change in aws} == {("not listed", True)}
    assert (
        "new.csv is partial: it lists nothing of aws"
        in call("price", "diff", "shipped", "new.csv").out
    )
    header = Path("new.csv").read_text().splitlines()[0]
    (tmp_path / "none.csv").write_text(f"{header}\n")
    asked = ["price", "diff", "shipped", str(tmp_path / "none.csv")]
    assert "holds no price" in call(*asked).error(2)
    price_id = "gcp-us-east5-tpu-v6e-on_demand-2026-11-01"
    shown = call("price", "show", price_id, "--prices", "new.csv", "--json").json()
    assert shown["usd_per_chip_hour"] == pytest.approx(2.8)


def test_price_apply_keeps_what_was_stored(call: Call, tmp_path: Path) -> None:
    folder = tmp_path / "facts"
    store.write(folder, "case", [make_row(device="tpu-v6e", metric="output_tok_s")])
    done = call("price", "apply", V6E, "--store", str(folder), "--json").json()
    assert done["rows"] == 1
    assert len(store.files(folder)) == 2
    other = "aws-us-east-1-nvidia-h100-sxm-on_demand-2026-11-09"
    assert "nothing to price" in call("price", "apply", other, "--store", str(folder)).error(2)
    assert "give a price id or" in call("price", "apply", "--store", str(folder)).error(2)


def test_allocate_reads_for_a_finance_lead(call: Call, tmp_path: Path) -> None:
    shown = call("allocate", str(EXAMPLE)).out
    for phrase in (
        "Chips to buy, commit to and rent",
        "Expected cash by year",
        "Cost of a million tokens",
        "What one more would be worth",
        "P(TPU cheaper)",
        "What would flip it",
        "Assumptions:",
        "from the best possible",
    ):
        assert phrase in shown
    document = call("allocate", str(EXAMPLE), "--json").json()
    assert document["gap"] <= 1e-3
    assert document["verdict"]["probability_cheaper"] == pytest.approx(0.2, abs=0.2)
    assert "cannot read" in call("allocate", str(tmp_path / "none.toml")).error(2)


def test_an_impossible_plan_is_a_no(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(text.replace("demand_mtok_first = 7e9", "demand_mtok_first = 7e11"))
    assert "the plan is infeasible" in call("allocate", str(path)).error(1)


def test_too_little_time_is_said(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(text.replace("\nyears = 6", "\nyears = 6\nseconds = 0.001", 1))
    assert "raise plan.seconds" in call("allocate", str(path)).error(1)


def test_markup_in_a_name_is_shown_as_it_is(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(text.replace('"assistant"', '"[bold]x[/red]"'))
    assert "[bold]x[/red]" in call("allocate", str(path)).out
