"""Readiness from evidence: what each kind of it says, what it does not, and a plan that uses it."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import pytest

from tpubench.costs.allocation.plan import read_plan
from tpubench.costs.allocation.resolve import resolve
from tpubench.costs.readiness import base_rate, readiness_of, rows, support
from tpubench.devices.prices import prices
from tpubench.devices.sheets import devices
from tpubench.errors import UsageError

VLLM = "tpu-inference-vllm"
PLAN = Path(__file__).parent / "plans" / "lead-and-porting.toml"


def test_every_row_has_a_device_a_source_and_a_date() -> None:
    assert len(rows()) >= len(support())
    for row in rows():
        assert row.device in devices() or row.device == "cpu"
        assert row.source and row.why
        assert dt.date(2024, 1, 1) < row.date <= dt.date.today()
        assert row.value is None or 0 <= row.value <= 1.5


@pytest.mark.parametrize(
    ("device", "model", "value"),
    [
        ("tpu-v7", "Qwen/Qwen3-32B", 1.0),  # all three pass
        ("tpu-v7", "qwen3-32b", 1.0),  # without its organisation
        ("tpu-v7", "Qwen/Qwen2.5-VL-7B-Instruct", 0.0),  # answers wrongly
        ("tpu-v6e", "Qwen/Qwen3-Coder-480B-A35B-Instruct", 0.0),  # does not fit
    ],
)
def test_a_model_that_was_tested_has_a_number(device: str, model: str, value: float) -> None:
    assert readiness_of(device, VLLM, model).value == value


def test_right_answers_at_an_untested_rate_count_as_the_devices_tested_models_do() -> None:
    passed, tested = base_rate("tpu-v7", VLLM)
    assert 0 < passed < tested, "one model of the matrix misses its rate"
    row = readiness_of("tpu-v7", VLLM, "openai/gpt-oss-120b")
    assert row.value == passed / tested
    assert f"of {tested} models tested there {passed}" in row.why


@pytest.mark.parametrize(
    ("device", "software", "model", "words"),
    [
        ("tpu-v7", VLLM, "zai-org/GLM-5", "untested; write a number"),
        ("tpu-v7", VLLM, "Qwen/Qwen3.5-397B-A17B", "by how much is not told"),
        ("tpu-v7", VLLM, "gpt-2", "no readiness of 'gpt-2'"),
        ("tpu-v7", "sglang", "Qwen/Qwen3-32B", "there is .*tpu-inference-vllm on tpu-v7"),
    ],
)
def test_what_the_evidence_does_not_say_is_no_number(
    device: str, software: str, model: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        readiness_of(device, software, model)


def test_a_plan_takes_it_and_says_so(tmp_path: Path) -> None:
    path = Path(shutil.copy(PLAN, tmp_path / "plan.toml"))
    text = path.read_text(encoding="utf-8")
    head, table, rest = text.partition("[[throughput]]\n")
    assert table
    evidence = (
        f'readiness_from = {{ software = "{VLLM}", model = "gpt-oss-120b", device = "tpu-v7" }}'
    )
    block, *after = rest.split("\n\n", 1)
    kept = [line for line in block.splitlines() if not line.startswith("readiness")]
    path.write_text("\n".join([head + table + "\n".join([*kept, evidence]), "", *after]))
    plan, notes = resolve(read_plan(path), prices(), tmp_path / "none", dt.date(2026, 11, 28))
    passed, tested = base_rate("tpu-v7", VLLM)
    assert plan.throughput[0].readiness == passed / tested
    assert any("readiness of" in note and "github.com/vllm-project" in note for note in notes)


def test_a_plan_gives_one_of_the_two(tmp_path: Path) -> None:
    text = PLAN.read_text(encoding="utf-8")
    both = 'readiness = 0.9\nreadiness_from = { software = "x", model = "y" }\n'
    path = tmp_path / "plan.toml"
    block = text.split("[[throughput]]\n", 1)[1].split("\n\n", 1)[0]
    kept = "\n".join(line for line in block.splitlines() if not line.startswith("readiness"))
    path.write_text(text.replace(block, kept + "\n" + both, 1))
    with pytest.raises(UsageError, match="give readiness or readiness_from"):
        read_plan(path)
