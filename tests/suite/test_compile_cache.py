"""Persistent compile caches: where they are, and that a warm compile is never called a cold one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpubench.results.row import Row
from tpubench.suite import compile_cache, registry
from tpubench.suite import run as suite_run
from tpubench.suite.request import Request
from tpubench.suite.timing import Pace

PREFILL = {"batch": ["1"], "input_len": ["4"], "dtype": ["float32"]}
ATTENTION = {"phase": ["decode"], "context": ["12"], "dtype": ["float32"]}
QUICK = Pace(warm_up_s=0.05, window_s=0.05, most_warm_up_s=0.5, latency_s=0.0)


def run(store: Path, workload: str, settings: dict[str, list[str]]) -> dict[str, Row]:
    fields: dict[str, Any] = {"workload": workload, "overrides": settings, "preset": "tiny"}
    fields |= {"backend": "cpu", "compile_mode": "blocks", "pace": QUICK, "repeats": 1}
    plan = suite_run.make_plan(Request(**fields))
    report = suite_run.execute(plan, store, lambda event: None)
    assert report.failed == 0
    return {row.metric: row for row in report.rows if row.workload == workload}


def counted(row: Row) -> dict[str, int]:
    cache_counts: dict[str, int] = json.loads(row.environment)["timing"]["compile_cache"]
    return cache_counts


@pytest.mark.parametrize(
    ("workload", "settings"),
    [
        ("attention", ATTENTION),  # one small program
        pytest.param("llama-prefill", PREFILL, marks=pytest.mark.nightly),
    ],
)
def test_the_second_process_compiles_from_the_cache_and_says_so(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workload: str,
    settings: dict[str, list[str]],
) -> None:
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(suite_run.calibration, "cases", lambda *arguments: [])
    cold, warm = (run(tmp_path, workload, settings) for _ in range(2))
    assert counted(cold["compile_time_s"])["hits"] == 0
    assert counted(cold["compile_time_s"])["misses"] > 0
    assert cold["compile_time_s"].value is not None
    assert "warm_compile_time_s" not in cold
    assert counted(warm["compile_time_s"])["misses"] == 0
    assert warm["compile_time_s"].value is None
    assert "came from the compile cache" in str(warm["compile_time_s"].reason)
    assert warm["warm_compile_time_s"].value is not None
    if workload == "llama-prefill":  # long enough to compile that it shows on any machine
        assert warm["warm_compile_time_s"].value < cold["compile_time_s"].value
    assert (tmp_path / "cache" / "compile" / "cpu" / "inductor").is_dir()


@pytest.mark.parametrize("name", ["cpu", "cuda", "xla", "tpu"])
def test_every_backend_keeps_what_it_compiled_in_the_users_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TPUBENCH_CACHE", raising=False)
    monkeypatch.delenv("PJRT_DEVICE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = str(tmp_path / "tpubench" / "compile" / name)
    environment = registry.backend(name).child_environment()
    assert any(value.startswith(folder) for value in environment.values())


def test_without_a_place_to_write_there_is_no_cache_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path / "file"))
    assert compile_cache.folder("cpu") is None
    assert compile_cache.inductor("cpu") == {}
    assert "TORCH_DEVICE_BACKEND_AUTOLOAD" in registry.backend("xla").child_environment()


def test_exact_float32_leaves_the_key_of_the_compile_cache_as_it_was() -> None:
    """Or the case after the first parity check would compile to another program than before it."""
    torch = pytest.importorskip("torch")

    def settings() -> tuple[object, ...]:
        return (
            torch.get_float32_matmul_precision(),
            torch.backends.cuda.matmul.fp32_precision,
            torch.backends.mkldnn.matmul.fp32_precision,
        )

    before = settings()
    with registry.backend("cpu").exact_float32():
        assert torch.get_float32_matmul_precision() == "highest"
    assert settings() == before
