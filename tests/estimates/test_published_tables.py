"""Rows of published tables: cells as people write them, and files that are none."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tpubench.errors import UsageError
from tpubench.estimates.published import cells, table
from tpubench.estimates.published.table import INFERENCE_COLUMNS, TRAINING_COLUMNS
from tpubench.estimates.regression import model
from tpubench.estimates.roofline import physics

SERVING = dict.fromkeys(INFERENCE_COLUMNS, "") | {
    "source_id": "s", "device": "NVIDIA H100-SXM-80GB", "chips": "1", "software": "TensorRT-LLM 1",
    "model": "Llama-3.1-8B", "weight_dtype": "fp8", "tensor_parallel": "1",
    "scenario": "offline (all requests queued)", "batch_or_concurrency": "KV-limited max",
    "input_len": "1000", "output_len": "1000", "metric": "output_tokens_per_s", "value": "15000",
    "unit": "tokens/s",
}  # fmt: skip
TRAINING = dict.fromkeys(TRAINING_COLUMNS, "") | {
    "source_id": "s", "device": "TPU v6e (Trillium)", "chips": "64", "software": "MaxText",
    "model": "llama3.1-8b", "seq_len": "8192", "global_batch": "256", "dtype": "bf16",
    "metric": "step_time_s", "value": "4.5", "unit": "s",
}  # fmt: skip


def test_cells() -> None:
    assert cells.number("27K") == 27000
    assert cells.number("256 (derived out/req)") == 256
    assert cells.number("1,280") == 1280
    assert cells.number("8192 (default)") == 8192
    assert cells.number("KV-limited max") is None
    assert cells.size("-1") is None and cells.size("0") is None
    assert cells.year("2025-02 (data v0.14)") == pytest.approx(2025.125)
    assert cells.year("26.04.01") == pytest.approx(2026 + 3.5 / 12)
    assert cells.software_family("TensorRT-LLM 1.0 (PyTorch backend)") == "trtllm-pytorch"
    assert cells.software_family("something new") == "other"
    assert cells.source_family("mlperf_inf_v5.1") == cells.source_family("mlperf_inf_v4.1")


def test_what_is_said_of_a_serving_run() -> None:
    changed = {"tensor_parallel": "8 devices, ep 8", "chips": "4", "device": "TPU v7x (Ironwood)"}
    entry = table.entry(2, SERVING | changed, training=False)
    assert entry.problem is not None
    assert (entry.problem.tensor, entry.problem.expert) == (4, 4)
    changed = {"scenario": "server (fixed QPS)", "batch_or_concurrency": "QPS=8"}
    rate = table.entry(2, SERVING | changed, training=False)
    assert rate.problem is not None and (rate.problem.kind, rate.problem.qps) == ("server", 8)


@pytest.mark.parametrize(
    ("notes", "requests"),
    [("100 prompts; cached", 100.0), ("3 prompts x concurrency", 192.0), ("0 prompts", None),
     ("nothing of that", None)],
)  # fmt: skip
def test_requests_of_a_run(notes: str, requests: float | None) -> None:
    changed = {"scenario": "serving-concurrency", "batch_or_concurrency": "64", "notes": notes}
    problem = table.entry(2, SERVING | changed, training=False).problem
    assert problem is not None and problem.requests == requests


def test_what_is_said_of_a_training_run() -> None:
    layout = "FSDP=0 TP=4 PP=16 CP=2 VP=8 EP=n/a MBS=1"
    problem = table.entry(2, TRAINING | {"parallelism": layout}, training=True).problem
    assert problem is not None
    assert (problem.tensor, problem.pipeline, problem.context, problem.virtual) == (4, 16, 2, 8)
    assert (problem.expert, problem.microbatch, problem.sharded) == (1, 1, False)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"value": ""}, "not a positive number"),
        ({"value": "-3"}, "not a positive number"),
        ({"device": "Abacus"}, "no data sheet"),
        ({"model": "Secret", "params_b": ""}, "size is not known"),
        ({"metric": "happiness"}, "not modelled"),
        ({"input_len": ""}, "length is not stated"),
        ({"chips": "", "tensor_parallel": ""}, "number of chips"),
        ({"scenario": "prefill (prefix cached)"}, "cached prefixes"),
        ({"scenario": "server (fixed QPS)", "batch_or_concurrency": ""}, "request rate"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(changes: dict[str, str], why: str) -> None:
    entry = table.entry(2, SERVING | changes, training=False)
    assert entry.problem is None
    assert why in (entry.skipped or "")


def test_an_unknown_scenario_is_told_by_its_batch() -> None:
    for batch, kind in (("64", "concurrency"), ("QPS=4", "server"), ("max", "offline")):
        row = SERVING | {"scenario": "novel way", "batch_or_concurrency": batch}
        problem = table.entry(2, row, training=False).problem
        assert problem is not None and problem.kind == kind


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\xff\xfe\x00", "UTF-8"),
        (b"a,b\n1,2\n", "columns missing"),
        (",".join(TRAINING_COLUMNS).encode() + b",value\n", "twice"),
        (b'source_id,"dev\n', "not a CSV"),
        (b"a\0b", "NUL"),
    ],
)
def test_a_file_that_is_no_table_is_one_clear_error(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        table.read(path)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            table.read(path)


def test_a_line_of_another_width_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(",".join(TRAINING_COLUMNS) + "\n1,2\n", encoding="utf-8")
    (entry,) = table.read(path)
    assert entry.skipped == f"2 cells under {len(TRAINING_COLUMNS)} columns"


HOSTILE = st.one_of(
    st.text(max_size=30),
    st.sampled_from([
        "1e308", "-1", "0", "nan", "inf", "QPS=0", "QPS=INF", "=cmd()", "1e-300", "9" * 40,
        "0.0001b", "Model-999999T", "a1b", "TP=0 PP=99999", "A22B-1B", "DROP TABLE",
    ]),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.booleans(), st.data())
def test_hostile_cells_give_a_reason_or_a_finite_prediction(
    training: bool, data: st.DataObject
) -> None:
    base = TRAINING if training else SERVING
    changed = data.draw(
        st.dictionaries(st.sampled_from(sorted(base)), HOSTILE, min_size=1, max_size=5)
    )
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(base))
    writer.writeheader()
    writer.writerow(base | changed)
    entry = table.entry(2, {k: v.strip() for k, v in (base | changed).items()}, training=training)
    if entry.problem is None or entry.value is None:
        assert entry.skipped
        return
    physics.implausible(entry.problem, entry.value)
    (prediction,) = model.shipped().predict([entry.problem])
    assert 0 < prediction.low <= prediction.value <= prediction.high < float("inf")
