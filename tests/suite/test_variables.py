"""Settings of the environment that change what is measured are kept, and hold rows apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpubench.errors import RunFailedError
from tpubench.results.gate.rows import differences
from tpubench.results.row import Row
from tpubench.suite import run as suite_run
from tpubench.suite import variables
from tpubench.suite.backends import _dynamo
from tpubench.suite.request import Request

SIZES = {"m": ["8"], "n": ["8"], "k": ["8"], "dtype": ["float32"]}


@pytest.fixture(autouse=True)
def none_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables.changing():
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OMP_NUM_THREADS", "1"),
        ("KMP_AFFINITY", "granularity=fine,compact,1,0"),
        ("TORCHINDUCTOR_MAX_AUTOTUNE", "1"),
        ("TORCH_COMPILE_DISABLE", "1"),
        ("TORCHDYNAMO_SUPPRESS_ERRORS", "1"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
        ("PYTORCH_ALLOC_CONF", "expandable_segments:True"),
        ("XLA_FLAGS", "--xla_gpu_autotune_level=0 --xla_cpu_enable_fast_math=true"),
        ("XLA_USE_BF16", "1"),
        ("LIBTPU_INIT_ARGS", "--xla_tpu_enable_async_collective_fusion=true"),
        ("NCCL_ALGO", "Ring"),
        ("NVIDIA_TF32_OVERRIDE", "0"),
        ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1"),
        ("CUDA_LAUNCH_BLOCKING", "1"),
        ("ONEDNN_MAX_CPU_ISA", "AVX2"),
        ("ATEN_CPU_CAPABILITY", "default"),
        ("MALLOC_CONF", "narenas:1"),
        ("GLIBC_TUNABLES", "glibc.malloc.arena_max=1"),
    ],
)
def test_what_changes_a_measurement_is_kept_as_it_is(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert variables.changing() == {name: value}
    assert name in str(variables.in_words())


@pytest.mark.parametrize(
    "name",
    [
        "HOME", "PATH", "PYTHONPATH", "TORCH_LOGS", "NCCL_DEBUG", "TORCH_HOME", "XLA_DUMP_DIR",
        "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CUDA_VISIBLE_DEVICES", "CUDA_VERSION",
        "TORCH_HUB_TOKEN", "XLA_API_KEY", "TORCH_PASSWORD", "PJRT_DEVICE", "NCCL_SOCKET_IFNAME",
        "TORCH_DEVICE_BACKEND_AUTOLOAD",
    ],
)  # fmt: skip
def test_what_changes_none_is_left_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert variables.changing() == {}
    assert variables.in_words() is None


def test_folders_and_odd_values_do_not_leave_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/home/ann/lib/libtcmalloc.so:/opt/lib/b.so")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/home/ann/dump --xla_x=../ann/y --z=1")
    monkeypatch.setenv("OMP_PLACES", "\x1b[31m" + "x" * 1000)
    held = variables.changing()
    assert held["LD_PRELOAD"] == "libtcmalloc.so:b.so"
    assert held["XLA_FLAGS"] == "--xla_dump_to=dump --xla_x=y --z=1"
    assert held["OMP_PLACES"].startswith("sha256:") and len(held["OMP_PLACES"]) < 30
    assert "ann" not in str(held)


def row(store: Path) -> Row:
    asked: dict[str, Any] = {"workload": "gemm", "backend": "fake", "preset": "square-512"}
    plan = suite_run.make_plan(Request(**asked, overrides=SIZES, repeats=1))
    report = suite_run.execute(plan, store, lambda event: None)
    assert report.failed == 0
    return report.rows[0]


def test_rows_that_differ_in_one_are_not_gated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = row(tmp_path)
    assert "variables" not in json.loads(plain.environment)["fingerprint"]  # as before they were
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = row(tmp_path)
    assert differences(plain, threads) == {"variables.OMP_NUM_THREADS": ("(missing)", "1")}
    assert differences(threads, row(tmp_path)) == {}
    assert plain.fingerprint != threads.fingerprint


@pytest.mark.parametrize("name", variables.DISABLES_COMPILING)
def test_a_mode_that_compiles_is_refused_where_compiling_is_off(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row would say compiled and have run as written."""
    monkeypatch.setenv(name, "1")
    with pytest.raises(RunFailedError, match=f"{name}=1 turns compiling off"):
        _dynamo.refuse_disabled()
    monkeypatch.setenv(name, "0")
    _dynamo.refuse_disabled()
