"""The compiler's estimates on a terminal: memory to the digit that decides, no word too many."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sample_rows import make_row

from tpubench.reports.terminal import compiled as terminal_compiled


def phase(*, size: float, attentions: int = 0, fits: bool = True) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "fits": fits,
        "bytes_a_device": size,
        "available_bytes": 15.75 * 2**30,
        "attention": {"calls": attentions},
    }
    if not fits:
        return fields
    times = {"dense_s": 1e-3, "attention_s": 0.0, "collectives_s": 0.0}
    return fields | times | {"bound": "hbm", "cycles": 1.5e6, "uncovered": {}, "custom_calls": {}}


def shown(fields: dict[str, Any], capfd: pytest.CaptureFixture[str]) -> str:
    compiled = {
        "topology": "v5e:1x1",
        "clock_hz": 1.5e9,
        "versions": {"libtpu": "0.0.52"},
        "layers": "one and two, extrapolated",
        "attention": "TorchTPU's kernel",
        "phases": {"phase": fields},
    }
    environment = json.dumps({"compiled": compiled})
    row = make_row("step_time_s", evidence="compiled", environment=environment)
    terminal_compiled.show([row], Path("store"), as_json=False)
    return capfd.readouterr().out


def test_layers_and_attention_are_spoken_of_only_where_there_are_any(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert "Layers compiled" not in shown(phase(size=2.66 * 2**20), capfd)
    assert "Layers compiled: one and two" in shown(phase(size=2**32, attentions=32), capfd)


def test_memory_is_told_to_the_digit_that_decides(capfd: pytest.CaptureFixture[str]) -> None:
    assert "15.78 GiB of 15.75 GiB" in shown(phase(size=15.78 * 2**30, fits=False), capfd)
    assert "2.66 MiB" in shown(phase(size=2.66 * 2**20), capfd)
