"""Another price for stored rates: a new snapshot, the old one kept; and what changed in a table."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pytest

from tpubench.costs.price_diff import diff
from tpubench.costs.reprice import Repriced, reprice, store_repriced
from tpubench.costs.token_cost import usd_per_mtok
from tpubench.devices.prices import given, price
from tpubench.errors import UsageError
from tpubench.reports.findings import find
from tpubench.results import store
from tpubench.results.row import SCHEMA_VERSION, Row
from tpubench.results.select import select
from tpubench.results.statistics import within
from tpubench.results.summary import summarise
from tpubench.results.verify import verify_store

V6E = "gcp-us-east5-tpu-v6e-on_demand-2024-12-23"
SAMPLES = [1900.0, 2000.0, 2111.0]
ESTIMATE = within("harmonic_mean", SAMPLES)
NOW = dt.datetime(2026, 11, 22, 12, 0, tzinfo=dt.UTC)


def row(**changes: object) -> Row:
    figures: dict[str, object] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "20261101T000000-abcdef",
        "repetition": 0,
        "started_at": dt.datetime(2026, 11, 1, tzinfo=dt.UTC),
        "evidence": "measured",
        "status": "ok",
        "reason": None,
        "workload": "llama-infer",
        "workload_version": 1,
        "preset": "tiny",
        "params": "{}",
        "backend": "tpu",
        "device": "tpu-v6e",
        "chips": 4,
        "hosts": 1,
        "parallelism": "none",
        "dtype": "bfloat16",
        "metric": "output_tok_s",
        "unit": "token/s",
        "better": "higher",
        "value": ESTIMATE.point,
        "ci_low": ESTIMATE.low,
        "ci_high": ESTIMATE.high,
        "samples": SAMPLES,
        "usd_per_chip_hour": None,
        "price_id": None,
        "price_as_of": None,
        "price_sha256": None,
        "source": "test",
        "fingerprint": None,
        "environment": "{}",
        "git_sha": None,
        "git_dirty": None,
    }
    return Row(**{**figures, **changes})


def rows_of(done: Repriced) -> list[Row]:
    (rows,) = done.rows.values()
    return rows


def test_a_rate_gets_the_new_price_and_names_it() -> None:
    (priced,) = rows_of(reprice([row()], price(V6E), NOW))
    assert priced.run_id == row().run_id and priced.started_at == row().started_at
    assert priced.metric == "usd_per_mtok_out"
    assert priced.samples == [usd_per_mtok(2.7, 4, rate) for rate in (1900, 2000, 2111)]
    assert (priced.price_id, priced.price_as_of) == (V6E, "2024-12-23")
    assert priced.price_sha256 == price(V6E).sha256
    assert priced.reason == "priced again on 2026-11-22"
    assert priced.evidence == "measured"


def test_a_published_rate_without_samples_keeps_its_interval() -> None:
    (priced,) = rows_of(reprice([row(samples=None, evidence="published")], given(2.7), NOW))
    assert priced.value == usd_per_mtok(2.7, 4, ESTIMATE.point)
    assert (priced.ci_low, priced.ci_high) == (
        usd_per_mtok(2.7, 4, ESTIMATE.high),
        usd_per_mtok(2.7, 4, ESTIMATE.low),
    )


def test_rates_of_other_devices_and_failures_are_counted_not_priced() -> None:
    rows = [
        row(device="nvidia-h100-sxm"),
        row(status="failed", value=None, samples=None, reason="oom"),
        row(metric="ttft_s", unit="s", better="lower"),
    ]
    done = reprice(rows, price(V6E), NOW)
    assert done.rows == {}
    assert done.skipped == {
        "the price is for tpu-v6e, the rate for nvidia-h100-sxm": 1,
        "the rate is failed": 1,
    }


def test_the_store_keeps_the_old_figures(tmp_path: Path) -> None:
    store.write(tmp_path, "0", [row()])
    before = (tmp_path / row().run_id / "0.parquet").read_bytes()
    first = store_repriced(tmp_path, price(V6E))
    second = store_repriced(tmp_path, given(1.0))
    third = store_repriced(tmp_path, given(2.0), ["latest"])
    assert (tmp_path / row().run_id / "0.parquet").read_bytes() == before
    rows = list(store.iter_rows(store.scan(store.files(tmp_path)).table))
    assert {r.run_id for r in rows} == {row().run_id} == {*first.rows, *second.rows}
    assert (first.figures, second.figures, third.figures) == (1, 1, 1)
    assert sorted(r.price_id or "" for r in rows) == ["", V6E, "given", "given"]
    assert verify_store(tmp_path).ok
    with pytest.raises(UsageError, match="has this price already"):
        store_repriced(tmp_path, given(2.0))


def test_speeds_stay_in_place_and_the_last_price_is_shown(tmp_path: Path) -> None:
    quick = row(metric="ttft_s", unit="s", better="lower", value=2e3, ci_low=None, ci_high=None)
    unpriced = row(
        metric="usd_per_mtok_out", unit="USD/Mtoken", better="lower", value=None,
        samples=None, ci_low=None, ci_high=None, reason="no price",
    )  # fmt: skip
    store.write(tmp_path, "0", [row(), replace(quick, samples=None), unpriced])
    for usd in (2.0, 1.0):
        store_repriced(tmp_path, given(usd))
    latest = select(tmp_path, ["latest"])
    shown = {s.first.metric: s for s in summarise(store.iter_rows(latest.table))}
    assert list(shown) == ["output_tok_s", "ttft_s", "usd_per_mtok_out"]
    assert shown["usd_per_mtok_out"].first.usd_per_chip_hour == 1.0
    for findings in (find(latest, NOW), find(select(tmp_path, []), NOW)):
        (case,) = findings.by_case().values()  # one run, one card, with its speed and its cost
        assert {s.first.metric for s in case if s.estimate} == set(shown)
    (earlier,) = store.iter_rows(select(tmp_path, ["usd_per_chip_hour=2"]).table)
    assert earlier.usd_per_chip_hour == 2.0


def test_nothing_to_price_says_why(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rates are stored there"):
        store_repriced(tmp_path, price(V6E))
    store.write(tmp_path, "0", [row(device="cpu")])
    with pytest.raises(UsageError, match="the rate for cpu"):
        store_repriced(tmp_path, price(V6E))


def test_the_diff_of_two_tables() -> None:
    held = price(V6E)
    dearer = replace(held, id="x", usd_per_chip_hour=3.0, as_of=dt.date(2026, 11, 1))
    other = replace(held, id="y", region="us-west9")
    assert diff([held], [held]) == []
    changes = {c.region: c for c in diff([held], [held, dearer, other])}
    assert changes["us-east5"].ratio == pytest.approx(3.0 / 2.7)
    assert changes["us-west9"].before is None
    assert changes["us-west9"].ratio is None


def test_what_could_not_be_read_is_named(tmp_path: Path) -> None:
    store.write(tmp_path, "0", [row()])
    (tmp_path / "odd.parquet").write_bytes(b"odd")
    (bad,) = store_repriced(tmp_path, given(1.0)).unreadable
    assert bad.path == tmp_path / "odd.parquet"
