"""No shipped price predates its chip, or is a Windows machine's, without saying so."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from tpubench.devices.price_checks import before_sale, flagged, windows_licences
from tpubench.devices.prices import Price, prices

B200 = "nebius-any-nvidia-b200-sxm-on_demand-2026-09-25"


@pytest.mark.parametrize("entry", prices().values(), ids=lambda p: p.id)
def test_no_shipped_price_is_dated_before_its_chip_was_sold(entry: Price) -> None:
    assert before_sale(entry) is None


def test_every_shipped_windows_price_says_so() -> None:
    licences = windows_licences(prices().values())
    assert len(licences) == 2
    for price_id, why in licences.items():
        assert prices()[price_id].suspect, f"{price_id}: {why}"


def test_every_flag_of_the_shipped_table_has_its_check() -> None:
    plain = [replace(entry, note="") for entry in prices().values() if entry.suspect]
    others = [entry for entry in prices().values() if not entry.suspect]
    assert {e.id for e in flagged([*plain, *others]) if e.suspect} == {e.id for e in plain}


def test_a_blackwell_price_of_2024_cannot_be_true() -> None:
    entry = replace(prices()[B200], as_of=dt.date(2024, 5, 1))
    assert "before its chip was sold" in str(before_sale(entry))
    (checked,) = flagged([entry])
    assert checked.suspect and checked.usd_per_chip_hour == entry.usd_per_chip_hour


@pytest.mark.parametrize(
    ("excess", "windows"),
    [(24 * 0.046, True), (40 * 0.046, True), (0.5, False), (4 * 0.046, False), (0.0, False)],
)
def test_a_licence_by_the_vcpu_gives_a_windows_price_away(excess: float, windows: bool) -> None:
    linux = replace(prices()[B200], id="linux", provider="azure", usd_per_chip_hour=7.0)
    other = replace(linux, id="other", usd_per_chip_hour=7.0 + excess)
    assert set(windows_licences([linux, other])) == ({"other"} if windows else set())


def test_siblings_are_of_one_region_day_and_kind() -> None:
    linux = replace(prices()[B200], id="linux", provider="azure", usd_per_chip_hour=7.0)
    dearer = replace(linux, id="other", usd_per_chip_hour=7.0 + 24 * 0.046)
    for change in ({"region": "eu"}, {"as_of": dt.date(2026, 1, 1)}, {"provider": "runpod"}):
        assert not windows_licences([linux, replace(dearer, **change)])
