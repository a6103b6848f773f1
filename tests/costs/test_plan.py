"""PLAN.toml: one clear line for anything wrong, and an answer that adds up for what is right."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_rows import make_row

from tpubench.costs.allocation.answer import PlanAnswer, allocate
from tpubench.costs.allocation.evidence import find_speeds
from tpubench.costs.allocation.infeasible import InfeasibleError
from tpubench.costs.allocation.plan import read_plan
from tpubench.devices.prices import prices
from tpubench.errors import TpubenchError, UsageError
from tpubench.results import store

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "capex-65b.toml"
TODAY = dt.date(2026, 11, 22)

PLAN = """
[plan]
name = "small"
first_year = 2027
years = 2
wacc = 0.1
utilisation = 0.5
[site]
usd_per_kwh = 0.08
pue = 1.1
source = "test"
as_of = 2026-11-01
[limits]
megawatts = [5.0, 5.0]
vendor_share = { NVIDIA = 0.7, Google = 0.8 }
[[workload]]
name = "chat"
demand_mtok = [4e6, 6e6]
[[accelerator]]
name = "nvidia-h100-sxm"
kw = 1.275
[accelerator.buy]
capex_usd = 30000
lot = 8
max_chips = 800
life_years = 5
source = "test"
as_of = 2026-11-01
[accelerator.rent]
usd_per_chip_hour = 4.0
source = "test"
as_of = 2026-11-01
lot = 8
max_chips = 8000
[[accelerator]]
name = "tpu-v6e"
kw = 0.6
[[accelerator.commit]]
name = "1y"
usd_per_chip_hour = 1.9
source = "test"
as_of = 2026-11-01
lot = 4
term_years = 1
max_chips = 2000
[accelerator.rent]
price = "gcp-us-east5-tpu-v6e-on_demand-2024-12-23"
lot = 4
max_chips = 8000
[[throughput]]
accelerator = "nvidia-h100-sxm"
workload = "chat"
tok_s = 1800
evidence = "assumed"
source = "test"
[[throughput]]
accelerator = "tpu-v6e"
workload = "chat"
tok_s = 1100
evidence = "assumed"
source = "test"
readiness = [0.8, 1.0]
porting_usd = 250000
porting_months = 3
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


def answer(folder: Path, text: str) -> PlanAnswer:
    return allocate(write(folder, text), prices(), folder / "store", TODAY, answer_only=True)


def test_the_small_plan_adds_up(tmp_path: Path) -> None:
    outcome = answer(tmp_path, PLAN)
    assert outcome.gap <= 1e-3
    # The cash by year, discounted, is the objective: porting and capex at the start of a year,
    # all else at its end.
    present = sum(
        (cash.capex + cash.porting) / 1.1**i
        + (cash.net - cash.capex - cash.porting) / 1.1 ** (i + 1)
        for i, cash in enumerate(outcome.cash)
    )
    assert present == pytest.approx(outcome.objective_usd, rel=1e-6)
    # So are the tokens times what they cost.
    (chat,) = outcome.tokens
    tokens = 4e6 / 1.1 + 6e6 / 1.1**2
    assert chat.usd_per_mtok is not None
    assert chat.usd_per_mtok * tokens == pytest.approx(outcome.objective_usd, rel=1e-6)
    assert sum(chat.by_accelerator.values()) == pytest.approx(1)
    assert chat.by_accelerator["nvidia-h100-sxm"] <= 0.7 + 1e-6
    assert outcome.evidence == {"assumed": 2}
    assert any("stale" in line for line in outcome.assumptions)


def test_the_example_is_solved() -> None:
    outcome = allocate(EXAMPLE, prices(), Path("nowhere"), TODAY, answer_only=True)
    assert outcome.gap <= 1e-3
    expected = [cash for cash in outcome.cash if cash.scenario == "expected"]
    assert [cash.year for cash in expected] == list(range(2027, 2033))
    assert sum(cash.capex for cash in expected) <= 65e9
    signed = [amount for amount in outcome.amounts if amount.option == "6y contract"]
    assert sum(amount.chips for amount in signed) >= 35_000
    assert outcome.verdict.limits


def test_chips_retire_at_the_end_of_their_life_and_are_bought_again(tmp_path: Path) -> None:
    text = PLAN.replace("years = 2", "years = 4").replace("life_years = 5", "life_years = 1.5")
    text = text.replace("demand_mtok = [4e6, 6e6]", "demand_mtok = [4e6, 4e6, 4e6, 4e6]")
    text = text.replace("megawatts = [5.0, 5.0]", "megawatts = [5.0, 5.0, 5.0, 5.0]")
    text = text.replace("[0.8, 1.0]", "1.0").replace("capex_usd = 30000", "capex_usd = 6000")
    outcome = answer(tmp_path, text)
    bought = {a.year: a.chips for a in outcome.amounts if a.option == "buy"}
    fleet = {row.year: row for row in outcome.fleet}
    assert bought[2027] > 0
    # Bought at the start of 2027, a life of a year and a half: gone within 2028.
    assert fleet[2028].retired == pytest.approx(bought[2027])
    owned = 0.0
    for year, row in fleet.items():
        owned += bought.get(year, 0.0) - row.retired
        assert row.owned == pytest.approx(owned), year


def test_margin_is_maximised_by_serving_what_pays(tmp_path: Path) -> None:
    text = PLAN.replace("wacc = 0.1", 'wacc = 0.1\nobjective = "max_margin"')
    priced = text.replace(
        "demand_mtok = [4e6, 6e6]", "demand_mtok = [4e6, 6e6]\nprice_usd_per_mtok = 3.0"
    )
    solved = answer(tmp_path, priced)
    assert solved.objective_usd > 0
    (chat,) = solved.tokens
    assert chat.served_share == pytest.approx(1, abs=1e-6)
    nothing = answer(tmp_path, priced.replace("mtok = 3.0", "mtok = 0.01"))
    assert nothing.objective_usd == pytest.approx(0, abs=1e-6)
    with pytest.raises(UsageError, match=r"workload\[0\]\.price_usd_per_mtok: needed"):
        answer(tmp_path, text)


def test_throughput_from_the_store_carries_its_evidence(tmp_path: Path) -> None:
    rows = [
        make_row(
            metric=metric, unit=unit, better=better, value=value, samples=[value],
            ci_low=None, ci_high=None, device="tpu-v6e", repetition=repetition, evidence="measured",
        )
        for repetition in (0, 1)
        for metric, unit, better, value in (
            ("output_tok_s_per_chip", "token/s/chip", "higher", 1000.0),
            ("tpot_s", "s", "lower", 0.02),
        )
    ]  # fmt: skip
    store.write(tmp_path / "store", "case", rows)
    query = f'from_store = {{ workload = "{rows[0].workload}", max_tpot_s = 0.03 }}'
    text = PLAN.replace('tok_s = 1100\nevidence = "assumed"\nsource = "test"', query)
    assert answer(tmp_path, text).evidence == {"assumed": 1, "measured": 1}
    late = text.replace("0.03", "0.01").replace(", Google = 0.8", "").replace("NVIDIA = 0.7", "")
    solved = answer(tmp_path, late)
    assert any("tpot_s 0.02 s misses 0.01 s" in line for line in solved.assumptions)
    with pytest.raises(UsageError, match=r"throughput\[1\]\.from_store .* no stored row"):
        answer(tmp_path, text.replace(rows[0].workload, "nothing"))


def test_a_plan_takes_the_rate_at_which_a_server_keeps_its_service_level(tmp_path: Path) -> None:
    """Of a serving run the answer is taken (``load = "slo"``), not a faster load that misses it."""
    metric, level = "goodput_tok_s_per_chip", "ttft_p99=2"
    rows = [
        make_row(
            metric,
            [rate],
            workload="llama-serve",
            preset="llama-3.1-8b",
            device="tpu-v6e",
            repetition=repetition,
            params=json.dumps({"shape": "1k-1k", "slo": level, **load}),
        )
        for load, rate in (
            ({"load": "poisson", "request_rate": 8}, 1700.0),
            ({"load": "poisson", "request_rate": 4}, 900.0),
            ({"load": "slo"}, 900.0),
        )
        for repetition in (0, 1)
    ]
    store.write(tmp_path / "store", "case", rows)
    query = f'from_store = {{ workload = "llama-serve", metric = "{metric}", load = "slo" }}'
    text = PLAN.replace('tok_s = 1100\nevidence = "assumed"\nsource = "test"', query)
    (tmp_path / "plan.toml").write_text(text, encoding="utf-8")
    speeds, notes = find_speeds(read_plan(tmp_path / "plan.toml"), tmp_path / "store")
    (speed,) = [each for each in speeds.values() if each.evidence == "measured"]
    assert (speed.tok_s, notes) == (pytest.approx(900.0), [])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("demand_mtok = [4e6, 6e6]", "demand_mtok = [4e6]", r"\[0\]\.demand_mtok: 1 values"),
        ("demand_mtok = [4e6, 6e6]", "", r"workload\[0\]: give demand_mtok"),
        ("tok_s = 1800", "tok_s = 0", r"throughput\[0\]\.tok_s: .*greater than 0"),
        ("tok_s = 1800", "tok_s = -3", r"throughput\[0\]\.tok_s: .*greater than 0"),
        ("tok_s = 1800", "tok_s = nan", r"throughput\[0\]\.tok_s"),
        ("tok_s = 1800", "tok_s = 1e-308", r"throughput\[0\]\.tok_s: 1e-308 is neither zero nor"),
        ("readiness = [0.8,", "readiness = [5e-324,", r"throughput\[1\]\.readiness\[0\]: 4.9"),
        ("utilisation = 0.5", "utilisation = 1e-308", r"plan\.utilisation: 1e-308 is neither"),
        ("kw = 0.6", "kw = 1e308", r"accelerator\[1\]\.kw: .*less than or equal"),
        ("kw = 0.6", f"kw = {'9' * 5000}", r"not valid TOML: Exceeds the limit"),
        ("kw = 0.6", f"kw{'.a' * 400} = 1", r"more than 300 dots"),
        ("tok_s = 1800", 'tok_s = "fast"', r"throughput\[0\]\.tok_s: .*number"),
        ('name = "tpu-v6e"', 'name = "tpu-v99"', r"accelerator\[1\]\.name: unknown accelerator"),
        ("source = \"test\"\nas_of = 2026-11-01\nlot = 4", "lot = 4", r"a price without a date"),
        ("NVIDIA = 0.7, Google = 0.8", "NVIDIA = 0.2, Google = 0.3", r"add up to 0\.5"),
        ("Google = 0.8", "Intel = 0.8", r"vendor_share\.Intel: no accelerator of that vendor"),
        ("wacc = 0.1", "wacc = nan", r"plan\.wacc"),
        ("wacc = 0.1", "wacc = 0.1\ncolour = 1", r"plan\.colour: there is no such key"),
        ("gcp-us-east5-tpu-v6e", "no-such", r"unknown price 'no-such"),
        ('workload = "chat"\ntok_s = 1800', 'workload = "x"\ntok_s = 1800', r"no workload 'x'"),
        ("megawatts = [5.0, 5.0]", "megawatts = [5.0, -5.0]", r"limits\.megawatts\[1\]"),
        ("years = 2", "years = 0", r"plan\.years"),
    ],
)  # fmt: skip
def test_a_bad_plan_is_one_line_with_file_and_key(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in PLAN
    with pytest.raises(UsageError, match=message) as caught:
        answer(tmp_path, PLAN.replace(old, new))
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("number", ["1e-15", "1e15"])
def test_the_most_extreme_numbers_taken_do_not_overflow(tmp_path: Path, number: str) -> None:
    for line in LINES:
        key, equals, value = line.partition(" = ")
        if equals and value.replace(".", "").isdigit() and key != "years":
            extreme = PLAN.replace(line, f"{key} = {number}").replace(
                "[plan]", "[plan]\nseconds = 3.0"
            )
            with contextlib.suppress(TpubenchError):
                answer(tmp_path, extreme)


def test_a_hundred_megabytes_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    with path.open("wb") as stream:
        stream.truncate(100_000_000)
    with pytest.raises(UsageError, match=r"plan\.toml: it has 100,000,000 bytes"):
        read_plan(path)


def test_an_impossible_plan_names_what_clashes(tmp_path: Path) -> None:
    few = PLAN.replace("max_chips = 8000", "max_chips = 8")
    few = few.replace("max_chips = 2000", "max_chips = 20")
    with pytest.raises(InfeasibleError, match=r"limits\.vendor_share\.NVIDIA in 2027") as caught:
        answer(tmp_path, few)
    assert caught.value.exit_code == 1
    assert "short by" in str(caught.value)
    free = few.replace("vendor_share = { NVIDIA = 0.7, Google = 0.8 }", "")
    starved = free.replace("max_chips = 800\n", "max_chips = 80\n")
    with pytest.raises(InfeasibleError, match=r"(buy|rent)\.max_chips of nvidia-h100-sxm in"):
        answer(tmp_path, starved)


def test_demand_that_no_chip_can_serve_is_named(tmp_path: Path) -> None:
    more = '[[workload]]\nname = "video"\ndemand_mtok = [1.0, 1.0]\n[[accelerator]]'
    with pytest.raises(InfeasibleError, match="can serve 'video' in 2027, 2028"):
        answer(tmp_path, PLAN.replace("[[accelerator]]", more, 1))


LINES = PLAN.strip().splitlines()
VALUES = st.sampled_from(
    ["nan", "inf", "-1", "0", "1e308", "1e-300", "[]", "{}", '""', "true", "2026-01-01", "[[1]]"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), VALUES), min_size=1, max_size=3))
def test_any_value_anywhere_is_an_answer_or_one_line(
    tmp_path: Path, changes: list[tuple[int, str]]
) -> None:
    lines = [*LINES]
    for index, value in changes:
        key, equals, _ = lines[index].partition(" = ")
        lines[index] = f"{key} = {value}" if equals else f"# {key}"
    try:
        answer(tmp_path, "\n".join(lines).replace("[plan]", "[plan]\nseconds = 3.0"))
    except TpubenchError as error:
        assert "\n" not in str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_are_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_plan(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
