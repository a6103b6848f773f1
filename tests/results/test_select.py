"""Selectors pick rows by run, file, commit and column, and say so when there is nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from sample_rows import make_row

import tpubench.results
from tpubench.errors import DamagedError, UsageError
from tpubench.results import labels
from tpubench.results import store as facts
from tpubench.results.select import select

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for run, batch, sha in (
        ("20260101T000000-aaaaaa", 1, None),
        ("20260102T000000-bbbbbb", 8, SHA),
    ):
        params = json.dumps({"batch": batch, "dtype": "bfloat16"})
        rows = [
            make_row(metric, run_id=run, params=params, git_sha=sha)
            for metric in ("output_tok_s", "ttft_s")
        ]
        facts.write(tmp_path, "case-000", rows)
    return tmp_path


def runs(store: Path, *selectors: str) -> set[str]:
    return set(select(store, selectors).table["run_id"].to_pylist())


def test_everything_a_run_and_the_latest(store: Path) -> None:
    assert len(runs(store)) == 2
    assert runs(store, "20260101T000000-aaaaaa") == {"20260101T000000-aaaaaa"}
    assert runs(store, "latest") == {"20260102T000000-bbbbbb"}
    assert len(runs(store, "latest", "20260101T000000-aaaaaa")) == 2


def test_of_two_runs_that_started_within_a_second_the_latest_was_written_last(
    tmp_path: Path,
) -> None:
    order = ("20260101T000000-ffffff", "20260101T000000-000000", "20251231T235959-999999")
    for age, run in enumerate(order):
        facts.write(tmp_path, "case-000", [make_row("ttft_s", run_id=run)])
        (written,) = (tmp_path / run).iterdir()
        os.utime(written, ns=(age * 10**9, age * 10**9))
    assert runs(tmp_path, "latest") == {"20260101T000000-000000"}


def test_a_file_and_a_commit(store: Path) -> None:
    path = next((store / "20260101T000000-aaaaaa").iterdir())
    assert runs(store, str(path)) == {"20260101T000000-aaaaaa"}
    assert runs(store, SHA[:8]) == {"20260102T000000-bbbbbb"}


def test_columns_and_parameters(store: Path) -> None:
    assert select(store, ["metric=ttft_s"]).table.num_rows == 2
    assert runs(store, "batch=8") == {"20260102T000000-bbbbbb"}
    assert select(store, ["metric=ttft_s", "batch=8"]).table.num_rows == 1
    assert select(store, ["batch=64"]).table.num_rows == 0
    both = ["20260101T000000-aaaaaa", "20260102T000000-bbbbbb"]
    assert runs(store, f"run_id={both[0]}", f"run_id={both[1]}") == set(both)
    assert runs(store, "batch=8", "batch=64") == runs(store, "batch=8")


@pytest.mark.parametrize(
    "selector", ["nonsense", "colour=red", "metric=mfuu", "20260103T000000-cccccc"]
)
def test_what_names_nothing_is_an_error(store: Path, selector: str) -> None:
    with pytest.raises(UsageError):
        select(store, [selector])


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="run a workload first"):
        select(tmp_path / "none", [])


def test_python_reads_a_typed_frame(store: Path) -> None:
    frame = tpubench.results.read(store, metric="output_tok_s", batch=8)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["chips"]) == [1]
    assert str(frame.dtypes["repetition"]) == "int64[pyarrow]"
    assert str(frame.dtypes["value"]) == "double[pyarrow]"
    assert str(frame.dtypes["started_at"]) == "timestamp[us, tz=UTC][pyarrow]"
    assert list(frame["samples"][0]) == [10.0, 11.0, 12.0]
    assert frame["usd_per_chip_hour"].isna().all()


def test_python_does_not_leave_damage_out_silently(store: Path) -> None:
    path = next((store / "20260101T000000-aaaaaa").iterdir())
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedError, match=str(path)):
        tpubench.results.read(store)


def test_a_device_and_a_precision_by_any_of_their_names(tmp_path: Path) -> None:
    for chips, device in ((1, "tpu-v6e"), (4, "tpu-v6e"), (1, "nvidia-h100-sxm"), (1, "cpu")):
        facts.write(tmp_path, f"{device}-{chips}", [make_row(device=device, chips=chips)])

    def devices(*selectors: str) -> list[tuple[str, int]]:
        table = select(tmp_path, selectors).table
        return sorted(zip(table["device"].to_pylist(), table["chips"].to_pylist(), strict=True))

    assert devices("device=v6e") == [("tpu-v6e", 1), ("tpu-v6e", 4)]
    assert devices("device=TPU v6 lite") == devices("device=v6e")
    assert devices("device=v6e-4") == [("tpu-v6e", 4)]  # a slice says how many chips
    assert devices("device=NVIDIA H100 80GB HBM3") == [("nvidia-h100-sxm", 1)]
    assert devices("device=CPU", "dtype=bf16") == [("cpu", 1)]
    assert devices("device=v5p") == devices("dtype=fp8") == []  # known, and not here
    assert len(devices("workload=llama_infer")) == 4
    either = devices("device=v6e", "device=h100-sxm", "chips=1")
    assert either == [("nvidia-h100-sxm", 1), ("tpu-v6e", 1)]
    with pytest.raises(UsageError, match=r"differ in how many chips .* chips=N"):
        devices("device=v6e-4", "device=h100-sxm")
    with pytest.raises(UsageError, match=r"perhaps nvidia-h100-sxm; here: cpu, "):
        devices("device=h100")
    with pytest.raises(UsageError, match="names no device"):
        devices("device=abacus")


def test_a_run_is_found_by_its_tag(store: Path) -> None:
    labels.say(store, "20260101T000000-aaaaaa", tags=["baseline"])
    assert runs(store, "tag=baseline") == {"20260101T000000-aaaaaa"}
    assert runs(store, "tag=baseline", "batch=8") == set()
    with pytest.raises(UsageError, match=r"no run in .* has the tag 'base'"):
        runs(store, "tag=base")


def test_latest_says_so_when_a_run_from_the_future_hides_others(store: Path) -> None:
    assert select(store, ["latest"]).unreadable == []
    future = "29990101T000000-ffffff"
    facts.write(store, "case-000", [make_row(run_id=future)])
    selected = select(store, ["latest"])
    assert set(selected.table["run_id"].to_pylist()) == {future}
    (note,) = selected.unreadable
    assert "20260102T000000-bbbbbb" in str(note.error) and future in str(note.error)
    assert select(store, [future]).unreadable == []  # it was asked for
