"""Two small plans whose right answers can be worked out by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from tpubench.costs.allocation.answer import PlanAnswer, allocate
from tpubench.devices.prices import prices

PLANS = Path(__file__).parent / "plans"


def answer(name: str, tmp_path: Path) -> PlanAnswer:
    day = dt.date(2026, 11, 28)
    return allocate(PLANS / name, prices(), tmp_path, day, answer_only=True, force=False)


def test_verdict_and_plan_agree_where_gpu_rent_falls(tmp_path: Path) -> None:
    """$5.20 falling by 30 % a year beats $5.00 from the second of six years on."""
    outcome = answer("gpu-rent-falls.toml", tmp_path)
    rented = {a.year: a.accelerator for a in outcome.amounts}
    assert rented == {2027: "tpu-v7"} | dict.fromkeys(range(2028, 2033), "nvidia-gb200")
    tpu = 5.0 / 1.08
    gpu = sum(5.2 * 0.7**y / 1.08 ** (y + 1) for y in range(1, 6))
    next_dollar = outcome.verdict.next_dollar
    assert next_dollar is not None
    assert (next_dollar.side, next_dollar.how) == ("gpu", "rent")
    assert next_dollar.shares["gpu"] == pytest.approx(gpu / (tpu + gpu), rel=1e-3)
    assert outcome.verdict.whole_shares["gpu"] == pytest.approx(next_dollar.shares["gpu"], rel=1e-3)


def test_delivery_and_porting_overlap(tmp_path: Path) -> None:
    """Half a year of each at the same time leaves half a year: 157,680 M tokens at 1,000 a second
    take five chips for a year, so ten."""
    outcome = answer("lead-and-porting.toml", tmp_path)
    assert [(a.option, a.chips) for a in outcome.amounts] == [("buy", 10.0)]
