"""The first screen: a verdict for each kind of work, with contracts, flips, and what is missing."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sample_rows import make_row

from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.prices import Price, prices
from tpubench.errors import UsageError
from tpubench.reports.answers import words
from tpubench.reports.answers.build import Answers, build
from tpubench.reports.answers.settings import ReportSettings, parse
from tpubench.reports.findings import find
from tpubench.results.row import Row, to_table
from tpubench.results.select import select
from tpubench.results.store import Scan

NOW = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def published() -> Any:
    published_facts = with_list_prices(select(Path("nowhere"), ["published"]))
    return find(published_facts, NOW)


def measured(device: str, *rates: float, **changes: Any) -> list[Row]:
    """One repetition for each rate, of the same llama-infer case."""
    params = json.dumps({"batch": 8, "input_len": 16, "output_len": 16})
    common: dict[str, Any] = {"device": device, "backend": "cuda", "params": params, **changes}
    return [
        make_row("output_tok_s_per_chip", [rate], repetition=i, **common)
        for i, rate in enumerate(rates)
    ]


def answers(
    *groups: list[Row],
    settings: ReportSettings | None = None,
    table: dict[str, Price] | None = None,
) -> Answers:
    rows = [row for group in groups for row in group]
    return build(find(Scan(table=to_table(rows), unreadable=[]), NOW, table), settings)


def test_training_is_answered_on_demand_and_under_a_contract(published: Any) -> None:
    """The B200's middle price and TPU v7's list and three-year price, by hand."""
    built = build(published)
    line = next(line for line in built.lines if line.kind == "training")
    one = built.answers[line.answer or 0]
    first, last = one.verdicts[0], one.verdicts[-1]
    assert words.head(one, first) == "Nvidia 1.88 × cheaper"
    tpu, gpu = one.ways[first.tpu], one.ways[first.gpu]
    assert tpu.cost.point == pytest.approx(12.00 * 1e6 / 3600 / 2968.5, rel=1e-3)
    assert gpu.cost.point == pytest.approx(7.15 * 1e6 / 3600 / 3328.0, rel=1e-3)
    assert last.at == "3-year contract"
    assert one.ways[last.tpu].usd_per_chip_hour == 5.40
    assert last.compared.ratio == pytest.approx(1.18, abs=0.005)
    assert words.head(one, last) == "Too close to call"


def test_a_kind_without_like_evidence_says_none_and_how_to_get_it(published: Any) -> None:
    built = build(published)
    gaps = {line.kind: line.gap for line in built.lines if line.gap is not None}
    assert set(gaps) == {"serving", "batch"}
    assert "no TPU and GPU in the same way" in gaps["serving"].reason
    assert "↔" in gaps["serving"].nearest
    assert all(gap.commands[0].startswith("tpubench ") for gap in gaps.values())


@pytest.mark.parametrize("path", ["TPU prices", "GPU prices", "readiness"])
def test_at_a_flip_both_cost_the_same(published: Any, path: str) -> None:
    """For every piece of work, whichever device takes over on the way there."""
    built = build(published)
    for number, one in enumerate(built.answers):
        flip = next(flip for flip in one.flips if flip.input == path)
        again = build(published, parse([flip.setting])).answers[number]
        assert again.verdicts[0].compared.ratio == pytest.approx(1.0, rel=1e-5)


def test_utilisation_moves_what_is_paid_for_every_hour(published: Any) -> None:
    before = build(published).answers[0]
    flip = next(flip for flip in before.flips if flip.input.startswith("utilisation of TPU"))
    after = build(published, parse([flip.setting])).answers[0]
    assert after.verdicts[0].compared == before.verdicts[0].compared
    assert after.verdicts[-1].compared.ratio == pytest.approx(1.0, rel=1e-5)


def test_a_tie_of_measured_repetitions_is_called_a_tie() -> None:
    answered = answers(
        measured("tpu-v6e", 900.0, 1000.0, 1100.0, usd_per_chip_hour=None),
        measured("nvidia-h100-sxm", 2000.0, 2200.0, 2400.0),
    )
    (one,) = answered.answers
    assert not any(contender.assumed for contender in one.work.contenders)
    assert words.head(one, one.verdicts[0]) == "Too close to call"
    assert "P(TPU cheaper)" in words.sure(one, one.verdicts[0])


def test_what_costs_the_same_is_level() -> None:
    money = {"usd_per_chip_hour": 2.0, "price_id": "given", "price_as_of": "2026-11-01"}
    rows = []
    for device in ("tpu-v6e", "nvidia-h100-sxm"):
        rows += measured(device, 900.0, 1000.0, 1100.0)
        cost = [
            replace(row, metric="usd_per_mtok_out", unit="USD/Mtoken", **money)
            for row in measured(device, 1.0, 1.0, 1.0)
        ]
        rows += cost
    (one,) = answers(rows).answers
    assert one.verdicts[0].at == "as stored with the run"
    assert words.sure(one, one.verdicts[0]).startswith("level on the figures; P(TPU cheaper) 50 %")


def test_measured_rows_are_priced_without_a_price_of_their_own() -> None:
    answered = answers(
        measured("tpu-v6e", 1000.0, 1001.0, 1002.0),
        measured("nvidia-h100-sxm", 500.0, 501.0, 502.0),
    )
    (one,) = answered.answers
    assert words.head(one, one.verdicts[0]).startswith("TPU ")
    assert answered.trust.evidence == {"measured": 2}
    assert answered.trust.assumed == 0


def test_a_tpu_and_gpu_that_do_not_pair_are_not_passed_over_in_silence() -> None:
    other = json.dumps({"batch": 1, "input_len": 16, "output_len": 16})
    answered = answers(
        measured("tpu-v6e", 1000.0), measured("nvidia-h100-sxm", 500.0, params=other)
    )
    (line,) = answered.lines
    assert line.gap is not None
    assert "batch 8 ↔ 1" in line.gap.nearest
    assert line.gap.commands[0].endswith("--backend tpu")
    assert "--set batch=8" in line.gap.commands[0]


def test_only_one_side_names_the_other() -> None:
    (line,) = answers(measured("tpu-v6e", 1000.0)).lines
    assert line.gap is not None
    assert line.gap.reason == "only TPU v6e: no GPU did this work"
    assert [c.rpartition(" ")[2] for c in line.gap.commands] == ["cuda"]


@pytest.mark.parametrize("backend", ["cpu", "fake"])
def test_limits_alone_leave_every_kind_of_work_open_and_say_how_to_get_it(backend: str) -> None:
    gemm: dict[str, Any] = {"workload": "gemm", "device": "cpu", "backend": backend}
    lines = answers([make_row("flop_s", [1e12], **gemm)]).lines
    assert [line.kind for line in lines] == ["training", "serving", "batch", "images"]
    for line in lines:
        assert line.gap is not None
        assert line.gap.commands
        assert line.gap.reason.startswith("nothing measured")


def test_a_scripted_clock_never_gets_a_verdict() -> None:
    answered = answers(
        measured("tpu-v6e", 1000.0, backend="fake", evidence="modelled"),
        measured("nvidia-h100-sxm", 500.0, backend="fake", evidence="modelled"),
    )
    assert not answered.answers
    assert answered.trust.evidence == {"fake": 2}
    assert "made-up times" in answered.trust.hole


def test_a_negotiated_price_goes_before_every_list_price() -> None:
    own = replace(
        prices()["gcp-us-central1-tpu-v6e-on_demand-2025-01-01"],
        id="ours", usd_per_chip_hour=0.5, layer="negotiated", as_of=NOW.date(), term="3y",
    )  # fmt: skip
    rows = [measured("tpu-v6e", 1000.0, 1001.0), measured("nvidia-h100-sxm", 2000.0, 2001.0)]
    (one,) = answers(*rows, table=prices() | {"ours": own}).answers
    chosen = one.ways[one.verdicts[0].tpu]
    assert (chosen.price_id, chosen.usd_per_chip_hour, chosen.every_hour) == ("ours", 0.5, True)
    assert one.verdicts[0].at == "yours, 3-year contract and on demand"


def test_a_device_without_a_price_is_named() -> None:
    answered = answers(
        measured("tpu-v6e", 1000.0, 1001.0), measured("nvidia-gh200-144gb", 2000.0, 2001.0)
    )
    (one,) = answered.answers
    assert one.missing == "no price with the host for nvidia-gh200-144gb"
    priced = answers(
        measured("tpu-v6e", 1000.0, 1001.0),
        measured("nvidia-gh200-144gb", 2000.0, 2001.0),
        settings=parse(["price[gh200-144gb]=3.0"]),
    )
    assert priced.answers[0].verdicts


@pytest.mark.parametrize(
    "argument",
    ["readiness", "readiness=no", "readiness=0", "utilisation=1.5", "price[tpu]=2", "colour=3"],
)
def test_a_setting_that_is_none_is_one_line(argument: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse([argument])


def test_everything_is_json(published: Any) -> None:
    document = json.loads(json.dumps(build(published).to_json(), allow_nan=False))
    assert document["works"][0]["verdicts"][0]["compared"]["word"] == "gpu"
    assert document["settings"]["price[tpu]*"] == 1.0
