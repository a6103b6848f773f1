"""A whole run on the scripted clock: children, faults, facts, prices, interruption."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tpubench import cli
from tpubench.devices import prices
from tpubench.errors import RunFailedError, UsageError
from tpubench.results import store as facts
from tpubench.results.calibration import is_calibration
from tpubench.results.events import Event, RunReport
from tpubench.results.row import Row
from tpubench.results.verify import verify
from tpubench.suite import calibration, registry
from tpubench.suite import run as suite_run
from tpubench.suite.interpreters import OWN
from tpubench.suite.request import Request

TINY = {"batch": ["1"], "input_len": ["4"], "output_len": ["3"]}


def run(store: Path, **asked: Any) -> RunReport:
    request = Request(
        **{
            "workload": "llama-infer",
            "backend": "fake",
            "preset": "tiny",
            "overrides": TINY,
            "repeats": 1,
            **asked,
        }
    )
    return suite_run.execute(suite_run.make_plan(request), store, lambda event: None)


def value(rows: list[Row], metric: str) -> float | None:
    (row,) = [row for row in rows if row.metric == metric]
    return row.value


def script(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps(values))


def test_the_scripted_clock_decides_every_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A pass of 3 tokens is 3 marks of 0.5 s: one prefill, two decode steps.
    script(monkeypatch, pass_s=[0.5])
    report = run(tmp_path, price=prices.given(3.6))
    assert (report.failed, report.exit_code) == (0, 0)
    rows = report.rows
    # Timed by itself, from an idle device, by what its operators cost.
    assert 0 < (value(rows, "ttft_s") or 0) < 0.5
    assert value(rows, "tpot_s") == pytest.approx(0.5, rel=1e-3)
    assert value(rows, "output_tok_s") == pytest.approx(2.0, rel=1e-3)
    assert value(rows, "prefill_tok_s") == pytest.approx(8.0, rel=1e-3)
    assert value(rows, "decode_tok_s") == pytest.approx(2.0, rel=1e-3)
    assert value(rows, "usd_per_mtok_out") == pytest.approx(1e6 * 3.6 / 3600 / 2.0, rel=1e-3)
    assert {row.evidence for row in rows} == {"modelled"}
    assert verify(rows) == []


def test_what_cannot_be_known_is_null_with_a_reason(tmp_path: Path) -> None:
    rows = {row.metric: row for row in run(tmp_path, overrides={**TINY, "output_len": ["1"]}).rows}
    for metric, reason in {
        "tpot_s": "one output token",
        "mfu": "no known peak",
        "joules_per_token": "no power",
        "usd_per_mtok_out": "no price",
    }.items():
        assert rows[metric].value is None
        assert reason in str(rows[metric].reason)


@pytest.mark.parametrize(
    ("phase", "fault", "status", "reason"),
    [
        ("build", "abort", "failed", "killed by SIGABRT in phase build"),
        ("compile", "oom", "failed", "out of memory in phase compile"),
        ("window", "exit", "failed", "exit code 3 in phase window"),
        ("open", "lost", "failed", "the device was lost"),
        ("warm-up", "hang", "failed", "timed out after 15 s in phase warm-up"),
        ("build", "wrong", "invalid", "parity check failed"),
        ("window", "recompile", "invalid", "recompilations inside the timed window"),
    ],
)
def test_a_fault_is_recorded_and_the_rest_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    phase: str,
    fault: str,
    status: str,
    reason: str,
) -> None:
    script(monkeypatch, faults={"0": [phase, fault]})
    report = run(tmp_path, repeats=2, timeout_s=15.0 if fault == "hang" else 60.0)
    (bad,) = [row for row in report.rows if row.repetition == 0]
    assert (bad.status, bad.value, bad.metric) == (status, None, "output_tok_s")
    assert reason in str(bad.reason)
    good = [row for row in report.rows if row.repetition == 1]
    assert value(good, "output_tok_s") is not None
    assert (report.failed, report.exit_code) == (1, 5)
    assert facts.scan(facts.files(tmp_path)).table.num_rows == len(report.rows)


def test_each_repetition_is_stored_before_the_next_begins(tmp_path: Path) -> None:
    stored_at_start: list[int] = []

    def observe(event: Event) -> None:
        if event.kind == "start":
            stored_at_start.append(len(facts.files(tmp_path)))

    request = Request(
        workload="llama-infer", backend="fake", preset="tiny", overrides=TINY, repeats=3
    )
    suite_run.execute(suite_run.make_plan(request), tmp_path, observe)
    assert stored_at_start == [0, 1, 2]


def test_nothing_is_said_while_the_window_is_open(tmp_path: Path) -> None:
    said: list[str] = []
    request = Request(
        workload="llama-infer", backend="fake", preset="tiny", overrides=TINY, repeats=1
    )
    suite_run.execute(
        suite_run.make_plan(request),
        tmp_path,
        lambda event: said.append(str(event.phase if event.kind == "phase" else event.kind)),
    )
    phases = ["open", "clock", "build", "reference", "compile", "warm-up", "window"]
    phases += ["other windows", "check"]
    assert said == ["start", *phases, "end"]


def test_a_secret_in_the_environment_or_a_traceback_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "canary-5f1d"
    monkeypatch.setenv("SERVICE_TOKEN", canary)
    script(monkeypatch, faults={"1": ["build", "abort"]}, note=canary)
    run(tmp_path, repeats=2)
    for path in facts.files(tmp_path):
        assert canary not in json.dumps(facts.load(path).to_pylist(), default=str)


def test_a_cpu_is_placed_against_its_own_peaks_measured_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    overrides = {"batch": ["1"], "input_len": ["64"], "output_len": ["4"], "dtype": ["float32"]}
    report = run(tmp_path, backend="cpu", compile_mode="eager", overrides=overrides)
    assert report.failed == 0
    assert {row.workload for row in report.rows} == {"hbm", "gemm", "llama-infer"}
    assert {row.workload for row in report.rows if is_calibration(row)} == {"hbm", "gemm"}
    (mfu,) = [r for r in report.rows if r.metric == "mfu" and r.workload == "llama-infer"]
    peaks = json.loads(mfu.environment)["peaks"]
    assert peaks["measured"] is True
    assert re.fullmatch(
        r"measured by hbm and gemm on this machine, \d{4}-\d\d-\d\d", peaks["source"]
    )
    assert mfu.value is not None and 0 < mfu.value < 1

    again = run(tmp_path, backend="cpu", compile_mode="eager", overrides=overrides)
    assert {row.workload for row in again.rows} == {"llama-infer"}
    (mfu,) = [row for row in again.rows if row.metric == "mfu"]
    assert json.loads(mfu.environment)["peaks"] == peaks
    assert any("measured by hbm and gemm" in note and "once a day" in note for note in again.notes)

    (held,) = (tmp_path / "cache" / "tpubench" / "calibration").iterdir()
    for damage in ('{"', "[]", '{"hbm-x": 7}', held.read_text().replace('"value": ', '"value": -')):
        held.write_text(damage)
        memory = calibration.Memory(registry.backend("cpu"), OWN, "eager")
        assert memory.recall(registry.workload("hbm").cases("read", {})[0]) is None


def test_every_parity_check_is_stored_and_a_failed_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, faults={"1": ["build", "wrong"]})
    rows = {row.repetition: row for row in run(tmp_path, repeats=2).rows}
    right, wrong = (strictly(rows[number].environment)["timing"]["parity"] for number in (0, 1))
    assert {"float32 twin", "poisoned cache", "logits", "regret", "worst token"} <= set(right)
    assert all(check["error"] <= check["tolerance"] for check in right.values())
    assert set(wrong) == set(right)
    assert rows[1].status == "invalid"
    failed = [name for name in wrong if f"parity check failed: {name}: " in str(rows[1].reason)]
    assert len(failed) == 1
    assert wrong[failed[0]]["error"] is None, "its weights are never there: NaN, which JSON lacks"


def strictly(text: str) -> Any:
    """JSON without the NaN and Infinity that Python alone would read."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_a_limit_is_not_measured_against_itself(tmp_path: Path) -> None:
    settings = {"m": ["8"], "n": ["8"], "k": ["8"]}
    report = run(tmp_path, workload="gemm", preset="square-512", overrides=settings, repeats=2)
    fractions = [row for row in report.rows if row.metric == "mfu"]
    assert len(fractions) == 4  # two precisions, two repetitions
    assert all(row.value is None and "no known peak" in str(row.reason) for row in fractions)


def test_without_options_the_best_backend_and_preset_are_chosen_and_said() -> None:
    plan = suite_run.make_plan(Request(workload="llama-infer"))
    assert plan.backend.name != "fake"
    assert any(note.startswith("backend ") for note in plan.notes)
    assert any(note.startswith("preset ") for note in plan.notes)
    assert [case.params["batch"] for case in plan.cases][:2] == [1, 8]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"preset": "llama-9"}, "has no preset 'llama-9'"),
        ({"overrides": {"batsch": ["1"]}}, "has no parameter 'batsch'"),
        ({"overrides": {"batch": ["0"]}}, "batch=0 is below 1"),
        ({"overrides": {"input_len": ["-5"]}}, "input_len=-5 is below 1"),
        ({"overrides": {"batch": ["two"]}}, "not a whole number"),
        ({"overrides": {"dtype": ["int3"]}}, "is not one of float32"),
        ({"overrides": {"input_len": ["5000"]}}, "longer than the 2048 tokens"),
        ({"compile_mode": "magic"}, "no compile mode 'magic'"),
        ({"prompt": "hello"}, "needs --weights"),
        ({"prompt_ids": (999,)}, "outside the vocabulary"),
        ({"prompt_ids": ()}, "the prompt is empty"),
        ({"workload": "gemm", "preset": "standard", "prompt_ids": (1,)}, "gemm has no weights"),
        ({"prompt_ids": (1,), "overrides": {"batch": ["8"]}}, "drop --set batch"),
        ({"prompt_ids": (1,), "overrides": {"input_len": ["8"]}}, "drop --set input_len"),
        ({"weights": Path("model")}, "--weights or --preset"),
        ({"seed": 1, "overrides": {"seed": ["2"]}}, "--seed or --set seed"),
    ],
)
def test_bad_input_is_one_clear_error_before_anything_runs(
    asked: dict[str, Any], reason: str
) -> None:
    fields = {"workload": "llama-infer", "backend": "fake", "preset": "tiny", **asked}
    with pytest.raises(UsageError, match=reason):
        suite_run.make_plan(Request(**fields))


def bare_python(folder: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def test_a_python_without_torch_is_named_before_anything_runs(tmp_path: Path) -> None:
    python = str(bare_python(tmp_path / "bare"))
    with pytest.raises(RunFailedError, match="torch is not installed") as raised:
        suite_run.choose_backend("fake", python)
    assert f"{python} -m pip install 'tpubench[cpu]'" in str(raised.value)


def test_a_python_without_tpubench_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    python = bare_python(tmp_path / "bare")
    (packages,) = (tmp_path / "bare").glob("lib/python*/site-packages")
    # The folder that holds torch, but not the link that stands for this checkout.
    (packages / "torch.pth").write_text(str(Path(torch.__file__).parent.parent))
    report = run(tmp_path / "store", python=str(python))
    assert report.exit_code == 5
    assert "its Python has no tpubench" in str(report.rows[0].reason)


def test_prompt_ids_generate_the_asked_number_of_tokens(tmp_path: Path) -> None:
    report = run(tmp_path, overrides={"output_len": ["5"]}, prompt_ids=(1, 2, 3))
    assert report.generated is not None
    assert len(report.generated.ids) == 5
    assert report.generated.text is None
    again = run(tmp_path, overrides={"output_len": ["5"]}, prompt_ids=(1, 2, 3))
    assert again.generated == report.generated


def test_a_checkpoint_without_a_tokenizer_still_generates_ids(tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent.parent / "workloads"))
    import tiny_checkpoints

    settings = {"output_len": ["3"], "dtype": ["float32"]}
    names = []
    for attention_bias in (True, False):
        folder = tmp_path / str(attention_bias) / "model"
        tiny_checkpoints.save(folder, attention_bias=attention_bias)
        asked = {"preset": None, "weights": folder, "prompt_ids": (1, 2), "overrides": settings}
        for backend, mode in (("fake", None), ("cpu", "compiled" if attention_bias else "packed")):
            report = run(tmp_path / "store", backend=backend, compile_mode=mode, **asked)
            assert report.failed == 0
            assert report.generated is not None
            assert (len(report.generated.ids), report.generated.text) == (3, None)
        names.append(json.loads(report.rows[-1].params)["weights"])
    assert names[0] != names[1]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted: "),
        # A scheduler or a container that is stopped, a terminal that was closed.
        (signal.SIGTERM, "ended by SIGTERM: "),
        (signal.SIGHUP, "ended by SIGHUP: "),
    ],
)
def test_an_interruption_keeps_what_was_finished(
    tmp_path: Path, number: signal.Signals, said: str
) -> None:
    command = [sys.executable, "-m", "tpubench.cli", "run", "--workload", "llama-infer"]
    command += ["--backend", "fake", "--preset", "tiny", "--repeats", "50"]
    command += ["--set", "batch=1", "--set", "input_len=4", "--set", "output_len=3"]
    process = subprocess.Popen(
        [*command, "--store", str(tmp_path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A job in the background inherits SIGINT ignored; a user's terminal does not.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    assert process.stderr is not None
    process.stderr.readline()  # the first repetition is stored
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 5
    last = stderr.strip().splitlines()[-1]
    assert said in last and "finished repetitions are kept" in last
    assert "Traceback" not in stderr
    scanned = facts.scan(facts.files(tmp_path))
    assert scanned.table.num_rows > 0 and not scanned.unreadable
    assert _children_of(process.pid) == []


def a_full_disk(monkeypatch: pytest.MonkeyPatch, *, after: int) -> None:
    """So many files are stored, then no more."""
    sync, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced.append(descriptor)
            if len(synced) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_disk_that_fills_up_keeps_what_had_ended_and_still_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_full_disk(monkeypatch, after=1)
    words = ["run", "--workload", "llama-infer", "--backend", "fake", "--preset", "tiny"]
    words += [word for key, (value,) in TINY.items() for word in ("--set", f"{key}={value}")]
    monkeypatch.setattr(
        sys, "argv", ["tpubench", *words, "--repeats", "3", "--json", "--store", str(tmp_path)]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert ended.value.code == 5
    (line,) = err.strip().splitlines()
    assert "No space left on device" in line and "what had ended before is kept" in line
    document = json.loads(out)
    assert {row["repetition"] for row in document["rows"]} == {0, 1}  # the second is only printed
    assert "No space left" in document["cut_short"]
    scanned = facts.scan(facts.files(tmp_path))
    assert set(scanned.table["repetition"].to_pylist()) == {0} and not scanned.unreadable


def test_a_store_on_a_full_disk_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(facts.NotStoredError, match="cannot be written: No space left on device"):
        run(tmp_path)


def _children_of(pid: int) -> list[int]:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        alive = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _parent(entry) == pid
        ]
        if not alive:
            return []
        os.sched_yield()
    return alive


def _parent(entry: Path) -> int | None:
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def test_no_backend_present_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(RunFailedError, match=r"pip install 'tpubench\[cpu\]'"):
        suite_run.choose_backend("auto")
    with pytest.raises(RunFailedError, match="cpu cannot run here"):
        suite_run.choose_backend("cpu")
