"""Cost at a service level: interpolated between loads that were served, silent beyond them."""

from __future__ import annotations

import datetime as dt
import math

import pytest
from sample_rows import make_row

from tpubench.reports.answers.build import build
from tpubench.reports.answers.service import Curve, at_level
from tpubench.reports.answers.settings import ReportSettings, parse
from tpubench.reports.findings import find
from tpubench.results.row import to_table
from tpubench.results.store import Scan

CURVE = Curve(
    work="Serving: a model", device="tpu-v6e", name="TPU v6e", tpu=True, dtype="bfloat16", chips=4,
    evidence="measured", points=((10.0, 1000.0), (20.0, 800.0), (40.0, 200.0)),
    usd_per_chip_hour=3.6, power_usd=0.6, capex_usd=40_000.0, chip_w=500.0,
)  # fmt: skip


def test_at_a_load_that_was_served_it_is_the_measured_figure() -> None:
    at_slo = at_level(CURVE, ReportSettings(slo=20.0))
    assert (at_slo.rate, at_slo.how) == (800.0, "measured")
    assert at_slo.usd_per_mtok == pytest.approx(3.6e6 / 3600 / 800)
    assert at_slo.tok_s_per_mw == pytest.approx(800 / 500 * 1e6)
    assert at_slo.tok_s_per_musd == pytest.approx(800 / 40_000 * 1e6)


def test_electricity_is_a_part_of_what_an_owned_chip_costs() -> None:
    at_slo = at_level(CURVE, ReportSettings(slo=20.0, electricity=2.0, tpu_price=0.5))
    assert at_slo.usd_per_mtok == pytest.approx((3.6 + 0.6) * 0.5 * 1e6 / 3600 / 800)


def test_between_two_loads_it_is_interpolated_on_logarithms() -> None:
    at_slo = at_level(CURVE, ReportSettings(slo=math.sqrt(20 * 40)))
    assert at_slo.how == "interpolated"
    assert at_slo.rate == pytest.approx(math.sqrt(800 * 200))


def test_beyond_the_quickest_nothing_is_said() -> None:
    at_slo = at_level(CURVE, ReportSettings(slo=41.0))
    assert (at_slo.rate, at_slo.usd_per_mtok) == (None, None)
    assert at_slo.how == "not reached: 40 tok/s a user at most"


def test_below_the_slowest_it_is_the_slowest_that_was_served() -> None:
    assert at_level(CURVE, ReportSettings(slo=1.0)).rate == 1000.0


def test_readiness_slows_users_and_chips_alike() -> None:
    at_slo = at_level(CURVE, ReportSettings(slo=20.0, readiness=0.5))
    assert (at_slo.rate, at_slo.how) == (100.0, "measured")


def test_a_measured_sweep_becomes_a_curve() -> None:
    rows = [
        make_row(metric, [value * batch**power], device="tpu-v6e", params=f'{{"batch": {batch}}}')
        for batch in (1, 8)
        for metric, value, power in (("tpot_s", 0.02, 0.5), ("output_tok_s_per_chip", 50.0, 0.5))
    ]
    scan = Scan(table=to_table(rows), unreadable=[])
    answered = build(find(scan, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)), ReportSettings(slo=30.0))
    (curve,) = answered.curves
    assert [pace for pace, _ in curve.points] == pytest.approx([50 / math.sqrt(8), 50])
    (record,) = answered.to_json()["service"]
    assert record["how"] == "interpolated"


def test_the_level_is_a_setting() -> None:
    assert parse(["slo=50"]).slo == 50.0
