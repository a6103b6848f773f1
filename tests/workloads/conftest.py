"""The real checkpoint that several tests read, and how they run."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tpubench.suite.reference_cache import ReferenceCache


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny models run twenty times slower when two threads share busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ReferenceCache:
    """References that the tests of a file compute once."""
    return ReferenceCache(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct, Q4_1: downloaded once, then taken from ``.cache/``."""
    script = Path(__file__).parents[1] / "smollm2.py"
    path: Path = runpy.run_path(str(script))["gguf"]()
    return path
