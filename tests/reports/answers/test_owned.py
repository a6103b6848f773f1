"""Owning a chip beside renting it: electricity turns it, and published figures decide nothing."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_rows import make_row

from tpubench.costs.price_files import all_prices, published_owned
from tpubench.devices.prices import Price
from tpubench.reports.answers.build import Answers, build
from tpubench.reports.answers.settings import ReportSettings, parse
from tpubench.reports.answers.verdicts import WayCost
from tpubench.reports.findings import find
from tpubench.results.row import Row, to_table
from tpubench.results.store import Scan

NOW = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
OWNED = """
[[owned]]
id = "own-{device}"
accelerator = "{device}"
source = "quote"
as_of = 2026-11-01
capex_usd = 40000
wacc = 0.09
years = 5
kw = 1.4
pue = 1.2
usd_per_kwh = {usd_per_kwh}
idle_power_share = 0.3
utilisation = 0.7
availability = 0.95
"""


def rows(device: str, *rates: float) -> list[Row]:
    params = json.dumps({"batch": 8, "input_len": 16, "output_len": 16})
    common: dict[str, Any] = {"device": device, "backend": "cuda", "params": params}
    return [
        make_row("output_tok_s_per_chip", [rate], repetition=i, **common)
        for i, rate in enumerate(rates)
    ]


def answers(
    settings: ReportSettings | None = None, table: dict[str, Price] | None = None
) -> Answers:
    both = [*rows("tpu-v7", 1000, 1010, 990), *rows("nvidia-gb200", 1500, 1510, 1490)]
    return build(find(Scan(table=to_table(both), unreadable=[]), NOW, table), settings)


def owned(folder: Path, device: str, usd_per_kwh: float) -> dict[str, Price]:
    path = folder / f"{device}-{usd_per_kwh}.toml"
    path.write_text(OWNED.format(device=device, usd_per_kwh=usd_per_kwh), encoding="utf-8")
    return all_prices([path])


def ways(answered: Answers, device: str) -> dict[str, WayCost]:
    (one,) = answered.answers
    return {way.label: way for way in one.ways if way.device == device}


def test_dearer_electricity_is_a_price_file_with_dearer_electricity(tmp_path: Path) -> None:
    for device in ("tpu-v7", "nvidia-gb200"):
        turned = answers(parse(["electricity*=2.5"]), owned(tmp_path, device, 0.08))
        written = answers(None, owned(tmp_path, device, 0.2))
        for label, way in ways(turned, device).items():
            other = ways(written, device)[label]
            assert way.usd_per_chip_hour == pytest.approx(other.usd_per_chip_hour, rel=1e-12)
            assert way.cost.point == pytest.approx(other.cost.point, rel=1e-12)


def test_electricity_is_in_no_rent() -> None:
    plain, turned = answers(), answers(parse(["electricity*=3"]))
    for label, way in ways(turned, "tpu-v7").items():
        before = ways(plain, "tpu-v7")[label]
        changes = way.usd_per_chip_hour != before.usd_per_chip_hour
        assert changes == label.startswith("owned"), label


def test_owning_at_published_figures_is_shown_and_decides_nothing() -> None:
    answered = answers()
    way = ways(answered, "tpu-v7")["owned at published figures"]
    assert way.usd_per_chip_hour == published_owned()["tpu-v7"].usd_per_chip_hour
    (one,) = answered.answers
    deciding = {one.ways[i].label for v in one.verdicts for i in (v.tpu, v.gpu)}
    assert not any("published figures" in label for label in deciding)
    without = replace(
        one.work,
        contenders=tuple(
            replace(c, ways=tuple(w for w in c.ways if "published figures" not in w.label))
            for c in one.work.contenders
        ),
    )
    from tpubench.reports.answers.verdicts import answer

    bare = answer(without, ReportSettings(), NOW.date())
    assert bare.flips == one.flips
    assert bare.ratio_range == one.ratio_range
    assert [v.compared for v in bare.verdicts] == [v.compared for v in one.verdicts]


def test_ones_own_figures_take_the_place_of_published_ones(tmp_path: Path) -> None:
    labels = [*ways(answers(None, owned(tmp_path, "tpu-v7", 0.08)), "tpu-v7")]
    assert "owned" in labels
    assert "owned at published figures" not in labels


def test_the_known_answer_of_an_owned_chip_holds_for_the_shipped_one() -> None:
    """GB200: annuity of 61,389 at 8.7 % over 5.5 years, 1.667 kW at PUE 1.08, colocation."""
    annuity = 0.087 / (1 - 1.087**-5.5)
    hour = (61_389 * annuity + 12 * 1.667 * 194.95) / 8760 + 1.667 * 1.08 * 0.0929
    assert published_owned()["nvidia-gb200"].usd_per_chip_hour == pytest.approx(hour)
