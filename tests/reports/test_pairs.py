"""TPU against GPU, and evidence side by side: what is paired, what is not, what is said."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from sample_rows import make_row

from tpubench.costs.published_cost import with_list_prices
from tpubench.devices.list_price import device_price
from tpubench.devices.prices import Price, prices
from tpubench.reports.answers import words
from tpubench.reports.answers.build import build
from tpubench.reports.blocks import Table, Text
from tpubench.reports.findings import Findings, find
from tpubench.reports.pairs import pairs
from tpubench.reports.sections import s03_tpu_gpu, s06_evidence
from tpubench.results.model_names import model_key
from tpubench.results.row import Row, to_table
from tpubench.results.store import Scan

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


def row(device: str, value: float, metric: str = "train_tok_s_per_chip", **changes: Any) -> Row:
    params = {"seq_len": 4096, "global_batch": 256, **changes.pop("params", {})}
    fields: dict[str, Any] = {
        "workload": "llm-training",
        "preset": "llama-3.1-8b",
        "evidence": "published",
        "backend": "imported",
        "device": device,
        "chips": 8,
        "params": json.dumps(params),
        "source": f"a source of {device}",
        "value": value,
        "ci_low": None,
        "ci_high": None,
    }
    return make_row(metric, [], **{**fields, **changes})


def findings(*rows: Row) -> Findings:
    return find(Scan(table=to_table(list(rows)), unreadable=[]), NOW)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("LLAMA3_70B", "llama3.1-70b", True),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3-8B", True),
        ("deepseek-v3", "DeepSeekV3 (w/o MTP)", True),
        ("LLAMA3_70B (LoRA)", "LLAMA3_70B", False),
        ("llama3.1-8b", "llama3.1-70b", False),
    ],
)
def test_spellings_of_one_architecture(a: str, b: str, same: bool) -> None:
    assert (model_key(a) == model_key(b)) is same


def test_like_is_paired_with_like_and_the_rest_is_said() -> None:
    (pair,) = pairs(
        findings(row("tpu-v6e", 100.0), row("nvidia-h100-sxm", 200.0, preset="LLAMA3_8B", chips=64))
    )
    assert pair.like
    assert pair.differences == ("chips 8 ↔ 64", "named llama-3.1-8b ↔ LLAMA3_8B")


@pytest.mark.parametrize(
    ("changes", "like"),
    [
        ({"dtype": "fp8"}, False),
        ({"dtype": "not-stated"}, False),
        ({"params": {"concurrency": 4}}, False),
        ({"params": {"global_batch": 512}}, True),
    ],
)
def test_another_precision_or_load_gets_no_verdict(changes: dict[str, Any], like: bool) -> None:
    (pair,) = pairs(findings(row("tpu-v6e", 100.0), row("nvidia-h100-sxm", 200.0, **changes)))
    assert pair.like is like


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"seq_len": 8192}},
        {"preset": "llama-3.1-70b"},
        {"workload": "llm-serving"},
        {"evidence": "modelled"},
    ],
)
def test_other_work_is_not_paired(changes: dict[str, Any]) -> None:
    assert not pairs(findings(row("tpu-v6e", 100.0), row("nvidia-h100-sxm", 200.0, **changes)))


def priced(device: str, value: float, rate: float) -> list[Row]:
    money = {"usd_per_chip_hour": rate, "price_id": "given", "price_as_of": "2026-11-22"}
    cost = 1e6 * rate / 3600 / value
    return [row(device, value), row(device, cost, "usd_per_train_mtok", **money)]


def test_the_verdict_names_cost_and_what_would_flip_it() -> None:
    answered = build(
        findings(*priced("tpu-v6e", 100.0, 2.0), *priced("nvidia-h100-sxm", 200.0, 8.0))
    )
    (one,) = answered.answers
    verdict = one.verdicts[0]
    assert words.head(one, verdict) == "TPU 2.00 × cheaper"
    assert words.sides(one, verdict) == "TPU v6e $2.00/h, H100 SXM $8.00/h"
    # At $4.00 an H100-hour a token would cost the same on both.
    assert any("H100 SXM above $4.00 an hour" in words.flip(flip) for flip in one.flips)


def test_a_training_to_a_target_is_compared_by_its_chip_hours() -> None:
    mlperf = {"workload": "mlperf-training", "preset": "gpt3", "dtype": "not-stated"}
    matched = pairs(
        findings(
            row(
                "tpu-v6e", 7200.0, "time_to_train_s", chips=512, params={"round": "v4.1"}, **mlperf
            ),
            row(
                "nvidia-h100-sxm",
                3600.0,
                "time_to_train_s",
                chips=512,
                params={"round": "v4.1"},
                **mlperf,
            ),
        )
    )
    (pair,) = matched
    assert pair.like
    assert (pair.tpu.text, pair.gpu.text) == ("1,020 chip-hours", "512 chip-hours")
    assert pair.tpu.value / pair.gpu.value == pytest.approx(0.5)
    asked = device_price("tpu-v6e")
    assert asked is not None
    assert pair.tpu.cost == pytest.approx(1024 * asked.price.usd_per_chip_hour)


def test_a_users_own_price_is_what_the_page_compares_at() -> None:
    own = Price(
        id="deal", provider="gcp", region="any", accelerator="tpu-v6e", term="3y",
        usd_per_chip_hour=1.0, includes_host=True, source="order form", as_of=NOW.date(),
        layer="negotiated",
    )  # fmt: skip
    table = {**prices(), own.id: own}
    rates = [
        row(device, chips * value, metric)
        for device, value in (("tpu-v6e", 100.0), ("nvidia-h100-sxm", 200.0))
        for metric, chips in (("train_tok_s_per_chip", 1), ("train_tok_s", 8))
    ]
    scan = with_list_prices(Scan(table=to_table(rates), unreadable=[]), table)
    report_findings = find(scan, NOW, table)
    section = s03_tpu_gpu.section(report_findings)
    assert section is not None
    shown = [block for block in section.blocks if isinstance(block, Table) and block.foot]
    (listed,) = [block for block in shown if "own price" in str(block.foot)]
    assert any("deal" in str(line) and "order form" in str(line) for line in listed.rows)
    h100 = device_price("nvidia-h100-sxm")
    assert h100 is not None
    (one,) = build(report_findings).answers
    times = h100.price.usd_per_chip_hour / 200 / (1.0 / 100)
    assert one.verdicts[0].compared.ratio == pytest.approx(times)


def test_mlperf_results_of_different_rounds_are_not_paired() -> None:
    mlperf = {"workload": "mlperf-training", "preset": "gpt3", "metric": "time_to_train_s"}
    assert not pairs(
        findings(
            row("tpu-v6e", 7200.0, params={"round": "v4.1"}, **mlperf),
            row("nvidia-h100-sxm", 3600.0, params={"round": "v4.0"}, **mlperf),
        )
    )


@pytest.mark.parametrize(
    "params",
    [
        {"seq_len": 10**400},
        {"seq_len": [4096]},
        {"seq_len": "4096"},
        {"seq_len": 0},
        {"scenario": {"a": []}, "round": []},
        {"resolution": ["<script>"]},
    ],
)
def test_parameters_that_make_no_sense_do_not_stop_a_report(params: dict[str, Any]) -> None:
    for workload in ("llm-training", "mlperf-training"):
        sides = [
            row(device, 100.0, params=params, workload=workload, chips=chips)
            for device, chips in (("tpu-v6e", 8), ("nvidia-h100-sxm", -3))
        ]
        s03_tpu_gpu.section(findings(*sides))
        build(findings(*sides))
        s06_evidence.section(findings(*sides, static("measured", 1.0)))


def test_without_a_tpu_there_is_no_such_section() -> None:
    assert s03_tpu_gpu.section(findings(row("nvidia-h100-sxm", 200.0))) is None


def static(evidence: str, value: float, **changes: Any) -> Row:
    params = {"batch": 8, "input_len": 128, "output_len": 64, "dtype": "bfloat16"}
    fields = {"preset": "llama-3.1-8b", "device": "tpu-v6e", "params": json.dumps(params)}
    samples = [value] if evidence == "measured" else []
    return make_row(
        "output_tok_s", samples, **{"evidence": evidence, "value": value, **fields, **changes}
    )


def test_kinds_of_evidence_stand_side_by_side_with_their_ratio() -> None:
    section = s06_evidence.section(
        findings(static("measured", 100.0), static("modelled", 120.0), static("compiled", 90.0))
    )
    assert section is not None
    text, table = section.blocks
    assert isinstance(text, Text)
    assert isinstance(table, Table)
    assert "modelled ÷ measured over 1 figure: median 1.20, from 1.20 to 1.20" in text.items
    ((_, metric, measured, published, compiled, modelled, ratio),) = table.rows
    assert (metric, measured, published) == ("output_tok_s", "100 tok/s", "")
    assert (compiled, modelled) == ("90.0 tok/s", "120 tok/s")
    assert getattr(ratio, "text", "") == "compiled 0.900×, modelled 1.20×"


def test_a_published_result_of_the_same_case_joins_from_the_shipped_set() -> None:
    modelled = row(
        "tpu-v6e",
        2e6,
        "train_tok_s",
        evidence="modelled",
        backend="tpu",
        workload="llama-pretrain",
        chips=256,
        params={"seq_len": 8192, "global_batch": 1024},
    )
    section = s06_evidence.section(findings(modelled))
    assert section is not None
    table = section.blocks[1]
    assert isinstance(table, Table)
    assert table.rows[0][3] == "1,850,000 tok/s"  # 256 × 7,207.336, tpu-recipes, 2025


def test_one_kind_of_evidence_alone_has_nothing_to_be_held_against() -> None:
    assert s06_evidence.section(findings(static("measured", 1.0))) is None
