"""What the tests of serving share: the command line with a store of its own, and AIPerf."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Call, caller

from tpubench.errors import RunFailedError
from tpubench.suite.serving import generator


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Call:
    monkeypatch.setenv("TPUBENCH_STORE", str(tmp_path / "store"))
    return caller(monkeypatch, capfd)


@pytest.fixture
def aiperf() -> None:
    try:
        generator.find()
    except RunFailedError:
        pytest.skip("AIPerf is not installed: make serve-env builds its environment")
