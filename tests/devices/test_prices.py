"""The price table: dated, sourced, hashed, and marked when stale."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from tpubench.devices.prices import Price, given, price, prices, stale_on
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError

V6E = "gcp-us-east5-tpu-v6e-on_demand-2024-12-23"


def test_the_documented_id_is_there() -> None:
    entry = price(V6E)
    assert (entry.usd_per_chip_hour, entry.accelerator) == (2.7, "tpu-v6e")
    assert entry.as_of == dt.date(2024, 12, 23)


@pytest.mark.parametrize("entry", prices().values(), ids=lambda p: p.id)
def test_every_price_has_a_source_a_date_and_a_known_accelerator(entry: Price) -> None:
    assert entry.source
    assert dt.date(2024, 1, 1) < entry.as_of <= dt.date(2026, 11, 22)
    assert entry.accelerator in devices()
    assert entry.layer == "list"
    assert entry.id.endswith(entry.as_of.isoformat()) or entry.as_of.isoformat() in entry.id
    assert "SUSPECT" not in entry.note or entry.note.startswith("SUSPECT Windows")


def test_spot_is_never_above_on_demand_of_the_same_snapshot() -> None:
    def key(entry: Price) -> tuple[object, ...]:
        return entry.provider, entry.region, entry.accelerator, entry.as_of

    on_demand: dict[tuple[object, ...], float] = {}
    for entry in prices().values():
        if entry.term == "on_demand":
            rate = max(on_demand.get(key(entry), 0), entry.usd_per_chip_hour)
            on_demand[key(entry)] = rate
    for entry in prices().values():
        if entry.term == "spot" and key(entry) in on_demand:
            assert entry.usd_per_chip_hour < on_demand[key(entry)], entry.id


def test_stale_after_ninety_days() -> None:
    entry = price(V6E)
    assert not entry.stale(entry.as_of + dt.timedelta(days=90))
    assert entry.stale(entry.as_of + dt.timedelta(days=91))


def test_a_stored_price_is_stale_by_its_date_alone() -> None:
    day = dt.date(2026, 6, 1)
    assert stale_on("2026-03-02", day)
    assert not stale_on("2026-03-03", day)
    assert not stale_on(None, day) and not stale_on("soon", day)


@pytest.mark.parametrize("term", ["1y", "3y"])
@pytest.mark.parametrize("gpu", ["nvidia-a100-sxm-80gb", "nvidia-h100-sxm"])
def test_committed_gpu_prices_are_below_on_demand_of_the_same_place(gpu: str, term: str) -> None:
    on_demand = max(
        entry.usd_per_chip_hour
        for entry in prices().values()
        if (entry.accelerator, entry.term, entry.provider) == (gpu, "on_demand", "aws")
        and entry.region == "us-east-1"
    )
    committed = [
        entry.usd_per_chip_hour
        for entry in prices().values()
        if (entry.accelerator, entry.term, entry.region) == (gpu, term, "us-east-1")
    ]
    assert committed and all(0.3 * on_demand < usd < on_demand for usd in committed)


def test_the_hash_changes_with_any_field() -> None:
    entry = price(V6E)
    assert len(entry.sha256) == 64
    assert entry.sha256 == price(V6E).sha256
    record = {**entry.record(), "as_of": entry.as_of, "usd_per_chip_hour": 2.71}
    assert Price(**record).sha256 != entry.sha256


def test_unknown_id_suggests_near_ones() -> None:
    with pytest.raises(
        UsageError, match="unknown price 'gcp-us-east5-tpu-v6e'; near: gcp-us-east5"
    ):
        price("gcp-us-east5-tpu-v6e")


def test_a_given_price_is_as_of_today() -> None:
    entry = given(1.6)
    assert entry.id == "given"
    assert entry.usd_per_chip_hour == 1.6
    assert entry.as_of == dt.datetime.now(dt.UTC).date()


@pytest.mark.parametrize("bad", [0, -1, math.nan, math.inf])
def test_a_given_price_must_be_positive(bad: float) -> None:
    with pytest.raises(UsageError, match="not a positive number"):
        given(bad)
