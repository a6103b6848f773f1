"""Shared fixtures. Tests import the package as users do: ``tpubench.*``."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TPUBENCH_STORE", "TPUBENCH_FAKE", "TPUBENCH_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
