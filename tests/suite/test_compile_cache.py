"""Persistent compile caches: where they are, and that a warm compile is never called a cold one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tpubench.results.row import Row
from tpubench.suite import compile_cache, launch, registry
from tpubench.suite import run as suite_run
from tpubench.suite.job import Job, Outcome
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
    assert list((tmp_path / "cache" / "compile" / "cpu").glob("*/inductor/*"))


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


def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job on a machine whose compile cache holds something."""
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path / "cache"))
    kept = compile_cache.folder("cpu")
    assert kept is not None
    (kept / "inductor" / "program.so").write_bytes(b"x")
    plan = suite_run.make_plan(
        Request(workload="gemm", backend="cpu", preset="square-512", compile_mode="eager")
    )
    return Job(
        backend="cpu",
        compile_mode="blocks",
        case=plan.cases[0],
        weights=plan.weights,
        pace=QUICK,
        repetition=0,
    )


def child(tmp_path: Path, when_cached: str, otherwise: str = "") -> str:
    """A program that stands in for the child: what it does where the cache holds something, and
    where it does not before it says that all is well."""
    well = json.dumps({"outcome": Outcome(status="ok", device="cpu").to_json()}).encode()
    wrong = Outcome(
        status="invalid", reason="parity", device="cpu", parity_error=1.0, parity_tolerance=0.1,
        compile_cache={"hits": 1, "misses": 0},
    )  # fmt: skip
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable} -S\n"
        "import os, signal, sys\n"
        "def say(line): os.write(int(sys.argv[-1]), line + b'\\n')\n"
        f"well, wrong = {well!r}, {json.dumps({'outcome': wrong.to_json()}).encode()!r}\n"
        'say(b\'{"phase": "compile", "expected_s": null}\')\n'
        "cached = os.listdir(os.environ['TORCHINDUCTOR_CACHE_DIR'])\n"
        f"if cached: {when_cached}\n"
        f"{otherwise}\n"
        "say(well)\n"
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.parametrize(
    "fault",
    [
        "os.kill(os.getpid(), signal.SIGILL)",  # code for another processor
        "os.kill(os.getpid(), signal.SIGSEGV)",
        "print('Traceback (\\n File torch/_inductor/codecache.py\\nOSError'); sys.exit(1)",
        "say(wrong); sys.exit(0)",
    ],
)
def test_what_a_damaged_cache_fails_is_run_again_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    asked = job(tmp_path, monkeypatch)
    ended = launch.run_child(asked, python=child(tmp_path, fault), timeout_s=60)
    assert ended.outcome.status == "ok"
    assert "was emptied" in str(ended.note)
    assert not compile_cache.in_use("cpu")


@pytest.mark.parametrize(
    ("fault", "otherwise", "status"),
    [
        ("sys.exit(3)", "", "failed"),  # no sign of compiled code
        ("print('MemoryError'); sys.exit(1)", "", "failed"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", "failed"),
        # It is the program that is at fault: with and without a cache.
        ("os.kill(os.getpid(), 11)", "os.kill(os.getpid(), 11)", "failed"),
        ("say(wrong); sys.exit(0)", "say(wrong); sys.exit(0)", "invalid"),
    ],
)
def test_a_fault_that_is_not_the_caches_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, otherwise: str, status: str
) -> None:
    asked = job(tmp_path, monkeypatch)
    ended = launch.run_child(asked, python=child(tmp_path, fault, otherwise), timeout_s=60)
    assert ended.outcome.status == status
    assert ended.note is None
    assert compile_cache.in_use("cpu")


@pytest.mark.nightly
def test_a_real_cache_whose_programs_were_overwritten_costs_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(suite_run.calibration, "cases", lambda *arguments: [])
    run(tmp_path, "attention", ATTENTION)
    programs = [file for file in (tmp_path / "cache" / "compile").rglob("*") if file.is_file()]
    assert programs
    for program in programs:
        program.write_bytes(b"")  # the compiler imports its empty module, and finds nothing in it
    row = run(tmp_path, "attention", ATTENTION)["compile_time_s"]
    assert row.status == "ok"
    assert counted(row)["hits"] == 0


def test_each_kind_of_processor_has_programs_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home that two machines share must not give one the other's AVX-512."""
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path))
    told = {"flags": "fpu sse2 avx2 avx512f"}
    read = Path.read_text

    def cpuinfo(path: Path, *given: Any, **named: Any) -> str:
        if str(path) == "/proc/cpuinfo":
            return f"model name\t: X\nflags\t\t: {told['flags']}\n" * 4
        return read(path, *given, **named)

    monkeypatch.setattr(Path, "read_text", cpuinfo)
    folders = []
    for told["flags"] in ("fpu avx2 avx512f", "fpu avx2", "fpu avx2"):
        compile_cache._host.cache_clear()
        folders.append(compile_cache.folder("cpu"))
    compile_cache._host.cache_clear()
    assert folders[0] != folders[1] == folders[2]


def test_it_is_bounded_and_what_was_used_least_lately_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(compile_cache, "MOST_BYTES", 35_000)
    for number, name in enumerate(["cpu", "cuda", "cpu", "xla", "cpu"]):
        kept = compile_cache.folder(name)
        assert kept is not None
        file = kept / "inductor" / str(number)
        file.write_bytes(bytes(10_000))
        os.utime(file, (1000 + number, 1000 + number))
    compile_cache.prune()
    left = sorted(file.name for file in tmp_path.rglob("*") if file.is_file())
    assert left == ["2", "3", "4"]
    compile_cache.clear("cpu")
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["3"]
    assert compile_cache.in_use("xla") and not compile_cache.in_use("cpu")


@pytest.mark.parametrize("spoil", ["open", "file", "home"])
def test_a_cache_that_cannot_be_trusted_or_written_is_none_and_a_run_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    monkeypatch.setenv("TPUBENCH_CACHE", str(tmp_path / "cache"))
    assert compile_cache.absence() is None
    if spoil == "open":
        kept = compile_cache.folder("cpu")
        assert kept is not None
        kept.chmod(0o777)
    elif spoil == "file":
        monkeypatch.setenv("TPUBENCH_CACHE", str(Path(__file__)))
    else:
        for name in ("TPUBENCH_CACHE", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", "relative")
    assert compile_cache.inductor("cpu") == {}
    if spoil != "open":
        plan = suite_run.make_plan(
            Request(workload="gemm", backend="cpu", preset="square-512", compile_mode="eager")
        )
        assert any(note.startswith("no compile cache: ") for note in plan.notes)
