"""Inputs in the wrong unit are asked about in a line each; what can never be had is said."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import pytest
from test_plan import EXAMPLE, PLAN, TODAY, answer, write

from tpubench import cli
from tpubench.costs.allocation.answer import allocate
from tpubench.costs.allocation.infeasible import InfeasibleError
from tpubench.costs.allocation.plan import read_plan
from tpubench.costs.allocation.plausibility import ImplausibleError, questions
from tpubench.costs.allocation.resolve import resolve
from tpubench.devices.prices import prices


@pytest.mark.parametrize(
    ("old", "new", "question"),
    [
        ("kw = 0.6", "kw = 600", "accelerator[tpu-v6e].kw: 600 kW a chip is outside"),
        ("kw = 0.6", "kw = 600", "is it in W?"),
        ("usd_per_kwh = 0.08", "usd_per_kwh = 8.0", "is it in cents?"),
        ("usd_per_kwh = 0.08", "usd_per_kwh = 80.0", "is it a MWh?"),
        ("megawatts = [5.0, 5.0]", "megawatts = [5.0, 5e6]", "is it in kW?"),
        ("capex_usd = 30000", "capex_usd = 3.4e6", "is it of a rack?"),
        ("capex_usd = 30000", "capex_usd = 30", "is it in thousands?"),
        ("usd_per_chip_hour = 4.0", "usd_per_chip_hour = 400", "is it of a machine of 8?"),
        ("tok_s = 1800", "tok_s = 1e9", "more than the chip's peak gives"),
        ("demand_mtok = [4e6, 6e6]", "demand_mtok = [4e14, 6e14]", "is it in tokens?"),
        ("as_of = 2026-11-01", "as_of = 2027-11-01", "2027-11-01 is in the future"),
        ("first_year = 2027", "first_year = 2107", "plan.first_year: 2107 is far from"),
        ("wacc = 0.1", "wacc = 0.9", "plan.wacc: 0.9"),
        ("life_years = 5", "life_years = 30", "life_years: 30 years is outside"),
        ("porting_months = 3", "porting_months = 90", "is it in days?"),
        ("utilisation = 0.5", "utilisation = 0.005", "plan.utilisation: 0.005 of paid hours"),
        ("demand_mtok = [4e6, 6e6]", "demand_mtok = [4e6, 6e6]\nprice_usd_per_mtok = 3e-6",
         "is it a token?"),
        ("demand_mtok = [4e6, 6e6]", "demand_mtok = [4e6, 6e6]\nactive_parameters = 4e12",
         "peak gives for 4e+12 parameters"),
    ],
)  # fmt: skip
def test_a_slip_of_the_unit_is_one_question(
    tmp_path: Path, old: str, new: str, question: str
) -> None:
    assert old in PLAN
    path = write(tmp_path, PLAN.replace(old, new))
    with pytest.raises(ImplausibleError) as raised:
        allocate(path, prices(), tmp_path, TODAY, answer_only=True, force=False)
    assert any(question in line for line in raised.value.questions), raised.value.questions
    assert all("\n" not in line for line in raised.value.questions)


@pytest.mark.parametrize("text", [PLAN, EXAMPLE.read_text(encoding="utf-8")])
def test_nothing_is_asked_about_a_plausible_plan(tmp_path: Path, text: str) -> None:
    plan, _ = resolve(read_plan(write(tmp_path, text)), prices(), tmp_path, TODAY)
    assert questions(plan, TODAY) == []


def test_every_question_is_a_line_and_force_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAN.replace("kw = 0.6", "kw = 600").replace("wacc = 0.1", "wacc = 0.9")
    path = write(tmp_path, text)

    def call(*more: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["tpubench", "allocate", str(path), *more])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return (int(ended.value.code or 0), *capfd.readouterr())

    code, out, err = call("--answer-only")
    assert (code, out, err.count("\n")) == (2, "", 3)
    assert err.splitlines()[-1].startswith("tpubench: error: 2 figures are hard to believe")
    code, out, err = call("--answer-only", "--force")
    assert (code, err) == (0, "")
    assert "hard to believe: accelerator[tpu-v6e].kw" in " ".join(out.split())


def test_what_can_never_be_had_is_said(tmp_path: Path) -> None:
    small = PLAN.replace("max_chips = 2000", "max_chips = 3").replace(
        "max_chips = 800\n", "max_chips = 0\n"
    )
    remarks = answer(tmp_path, small).assumptions
    assert (
        "tpu-v6e 1y: a lot of 4 is larger than max_chips 3, so there is none to be had" in remarks
    )
    assert "nvidia-h100-sxm buy: max_chips is 0, so there is none to be had" in remarks
    none = small.replace("max_chips = 8000", "max_chips = 2")
    with pytest.raises(InfeasibleError, match="a lot of 8 is larger than max_chips 2"):
        answer(tmp_path, none)


def test_demand_in_tokens_is_asked_about_where_it_cannot_be_served(tmp_path: Path) -> None:
    wrong = PLAN.replace("demand_mtok = [4e6, 6e6]", "demand_mtok = [4e12, 6e12]")
    with pytest.raises(InfeasibleError, match="is the demand in tokens, not in millions") as raised:
        answer(tmp_path, wrong)
    assert "all demand × " in str(raised.value)
    assert "all demand × 0," not in str(raised.value)


def test_a_plan_is_dated_by_the_day_it_is_read(tmp_path: Path) -> None:
    plan, _ = resolve(read_plan(write(tmp_path, PLAN)), prices(), tmp_path, TODAY)
    assert questions(plan, dt.date(2026, 10, 1))
