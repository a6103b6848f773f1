"""The money commands: figures by name, JSON alone on stdout, one error line, exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from command_line import Call, caller
from sample_rows import make_row

from tpubench.results import store

V6E = "gcp-us-east5-tpu-v6e-on_demand-2024-12-23"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "capex-65b.toml"


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TPUBENCH_PRICES", raising=False)

    return caller(monkeypatch, capfd)


def test_cloud(call: Call) -> None:
    asked = ["cost", "cloud", "--usd-per-chip-hour", "12", "--tok-s", "518.86"]
    assert call(*asked, "--json").json()["usd_per_mtok"] == pytest.approx(6.42, abs=0.005)
    assert "usd_per_mtok: $6.42" in call(*asked).out
    split = call(
        *asked, "--prefill-tok-s", "9000", "--decode-tok-s", "600", "--in-out-ratio", "3", "--json"
    ).json()
    blended = (3 * split["input_usd_per_mtok"] + split["output_usd_per_mtok"]) / 4
    assert split["blended_usd_per_mtok"] == pytest.approx(blended)


def test_a_days_traffic_says_the_utilisation_that_a_rate_is_paid_at(call: Call) -> None:
    """By hand: a replica makes 100 tokens/s and costs 3.6 $/h, so 10 $ a million when busy."""
    asked = ["cost", "cloud", "--usd-per-chip-hour", "0.9", "--chips", "4", "--tok-s", "100"]
    document = call(*asked, "--traffic", "50,350,0,200", "--json").json()
    # Wanted: 150 on the mean. Four replicas for the peak; or 1, 4, 1 and 2, which is 2 on the mean.
    assert (document["replicas"], document["replicas_scaled"]) == (4, 2)
    assert document["utilisation"] == pytest.approx(150 / 400)
    assert document["utilisation_scaled"] == pytest.approx(150 / 200)
    assert document["usd_per_mtok"] == pytest.approx(10 / 0.375)
    assert document["usd_per_mtok_scaled"] == pytest.approx(10 / 0.75)
    flat = call(*asked, "--traffic", "100", "--json").json()
    assert flat["usd_per_mtok"] == flat["usd_per_mtok_scaled"] == pytest.approx(10)
    text = call(*asked, "--traffic", "50,350,0,200").out
    assert "utilisation: 37.5%" in text and "\nreplicas: 4\n" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tok-s", "1", "--traffic", "0,0"), "nothing is wanted"),
        (("--tok-s", "1", "--traffic", "1,-1"), "traffic must be 0 or more"),
        (("--tok-s", "1", "--traffic", "1,nan"), "traffic must be 0 or more"),
        (("--tok-s", "1", "--traffic", "1,x"), "write numbers"),
        (("--tok-s", "1", "--traffic", "1", "--utilisation", "0.5"), "says the utilisation itself"),
        (("--prefill-tok-s", "9", "--decode-tok-s", "9", "--traffic", "1"), "needs --tok-s"),
    ],
)
def test_traffic_that_makes_no_sense_is_refused(
    options: tuple[str, ...], words: str, call: Call
) -> None:
    assert words in call("cost", "cloud", "--usd-per-chip-hour", "1", *options).error(2)


def test_owned(call: Call) -> None:
    asked = ["cost", "owned", "--capex", "47222.22", "--wacc", "0.087", "--years", "5.5"]
    asked += ["--kw", "1.667", "--pue", "1.08", "--usd-per-kwh", "0.0821"]
    asked += ["--colo-usd-per-kw-month", "184.06"]
    document = call(*asked, "--json").json()
    assert document["usd_per_chip_hour"] == pytest.approx(1.84, abs=0.005)
    assert document["usd_per_mtok"] is None
    assert document["reasons"]["usd_per_mtok"] == "no --tok-s given"
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
    assert alone["npv"] is None
    more = ["--capex", "1000", "--mtok-per-year", "100", "--years", "4", "--wacc", "0.1"]
    document = call(*asked, *more, "--json").json()
    assert document["payback_years"] == 2
    assert document["npv"] == pytest.approx(584.93, abs=0.01)
    loss = call("cost", "margin", "--usd-per-mtok", "7", "--price-per-mtok", "6", *more, "--json")
    assert loss.json()["irr"] is None
    assert loss.json()["reasons"]["irr"].startswith("none")
    assert "--wacc" in call(*asked, *more[:-2]).error(2)


def test_contract(call: Call) -> None:
    asked = ["--minimum", "100", "--rate", "2", "--cap", "100", "--on-demand", "3", "--use", "130"]
    assert call("cost", "contract", *asked, "--json").json()["usd"] == 290


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


@pytest.mark.parametrize("named", [["--store", "a store"], []])
def test_what_comes_next_can_be_typed_as_it_stands(call: Call, named: list[str]) -> None:
    folder = Path(named[-1]) if named else store.default_store()
    store.write(folder, "case", [make_row(device="tpu-v6e", metric="output_tok_s")])
    said = call("price", "apply", V6E, *named).out.splitlines()[-1]
    words = shlex.split(said.partition("    (")[0].removeprefix("next: tpubench "))
    assert words == ["show", *named]
    assert call(*words).code == 0


def test_a_store_that_is_not_there_is_an_error_of_a_plan_too(call: Call) -> None:
    assert "no store wrong" in call("allocate", str(EXAMPLE), "--store", "wrong").error(2)


def test_allocate_reads_for_a_finance_lead(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace("[doubt]", "[doubt]\nsamples = 16")
    few = tmp_path / "few.toml"
    few.write_text(text.replace("\nyears = 6", "\nyears = 6\nseconds = 2.0", 1))
    shown = call("allocate", str(few)).out
    for phrase in (
        "Next dollar: ",
        "How sure: of 16 sampled futures",
        "were chips worth nothing when sold",
        "Limits in force, and what each costs",
        "cloud $20 B",
        "Worth of each option",
        "What one more would save",
        "Doubts, and the plan at either end of each",
        "Chips to buy, commit to and rent",
        "Bought chips at each year's end, and retired",
        "Expected cash by year",
        "Profit and loss",
        "no resale value",
        "Cost of a million tokens",
        "Assumptions:",
        "from the best possible",
    ):
        assert phrase in " ".join(shown.split()), phrase
    assert max(map(len, shown.splitlines())) <= 80
    assert "…" not in shown
    assert not re.search(r"\$\d\S*e-\d", shown), "what no solver can tell from nothing"
    document = call("allocate", str(EXAMPLE), "--answer-only", "--json").json()
    assert document["gap"] <= 1e-3
    assert document["verdict"]["next_dollar"]["side"] == "gpu"
    assert document["verdict"]["flips"] == []
    assert "cannot read" in call("allocate", str(tmp_path / "none.toml")).error(2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("site.pue", "write PATH=VALUE"),
        ("site.pues=2", "no key 'pues' there; there are usd_per_kwh"),
        ("price[tpu-v9]*=2", "the plan has no such input"),
        ("accelerator[tpu-v9].kw=2", "no accelerator of that name; there are nvidia-gb200"),
        ("site.pue*=fast", "'fast' is not a factor"),
        ("site.pue=0.5", "site.pue: Input should be greater than or equal to 1"),
        ("site.source*=2", "source has no number to multiply"),
        ("limits.megawatts[2040]=3", "the plan is from 2027 to 2032"),
        ("price[tpu-v7]*=nan", "finite"),
        ("site.pue=1e-300", "neither zero nor at least"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(call: Call, setting: str, message: str) -> None:
    error = call("allocate", str(EXAMPLE), "--answer-only", "--set", setting).error(2)
    assert message in error


def test_an_impossible_plan_is_a_no(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(text.replace("demand_mtok_first = 7e9", "demand_mtok_first = 7e11"))
    assert "the plan is infeasible" in call("allocate", str(path)).error(1)


def test_too_little_time_is_said(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(text.replace("\nyears = 6", "\nyears = 6\nseconds = 0.001", 1))
    assert "raise plan.seconds" in call("allocate", str(path)).error(3)


def test_markup_in_a_name_is_shown_as_it_is(call: Call, tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    path = tmp_path / "plan.toml"
    path.write_text(text.replace('"assistant"', '"[bold]x[/red]"'))
    assert "[bold]x[/red]" in call("allocate", str(path), "--answer-only").out
