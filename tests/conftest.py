"""Shared fixtures. Tests import the package as users do: ``tpubench.*``."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from hypothesis import settings

from tpubench.suite.backend import Backend
from tpubench.suite.timing import Pace

settings.register_profile("no speed", deadline=None)
settings.load_profile("no speed")


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TPUBENCH_STORE", "TPUBENCH_FAKE", "TPUBENCH_DEBUG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def _a_pytest_started_here_is_nobodys_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest-benchmark goes by to stand back, and a child would inherit."""
    for variable in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True)
def _no_test_waits_for_times_to_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a backend warms up and measures is seconds, unless told; no test depends on speed."""
    moment = Pace(warm_up_s=0.05, window_s=0.05, most_warm_up_s=1.0, latency_s=0.0)
    monkeypatch.setattr(Backend, "pace", moment)


SLOW = frozenset((Path(__file__).with_name("slow_files.txt")).read_text("utf-8").split())
"""Files that make check leaves to make test: ``python tests/slow_files.py`` writes the list."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if str(item.path.relative_to(Path(__file__).parent)) in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What was imported stays: the windows of a run collect garbage first, half a second of it."""
    gc.collect()
    gc.freeze()
