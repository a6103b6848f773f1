"""Progress in a log: a line a repetition, and one for a phase that begins after a long silence."""

from __future__ import annotations

import io
import re
import sys
from dataclasses import replace

import pytest

from tpubench.reports import progress
from tpubench.results.events import Event

EVENT = Event(kind="start", case="gemm m=8", repetition=0, done=0, total=3)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_log_names_the_phase_after_a_silence(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    observe = progress.lines(lambda: now)
    phase = replace(EVENT, kind="phase", left_s=300.0)
    observe(EVENT)
    observe(replace(phase, phase="build"))
    assert said(capsys) == []
    now = 25.0
    observe(replace(phase, phase="compile"))
    assert said(capsys) == ["[0/3] gemm m=8 · repetition 1: compiling · 5 min left"]
    now = 26.0
    observe(replace(phase, phase="warm-up"))
    assert said(capsys) == []
    now = 40.0
    observe(replace(phase, phase="window", expected_s=12.0, left_s=80.0))
    assert said(capsys) == ["[0/3] gemm m=8 · repetition 1: measuring, about 12 s · 80 s left"]


def test_a_log_has_a_line_a_repetition(capsys: pytest.CaptureFixture[str]) -> None:
    observe = progress.lines(lambda: 0.0)
    observe(replace(EVENT, kind="end", done=1, status="ok", left_s=20.0))
    observe(replace(EVENT, kind="end", done=2, status="invalid", reason="wrong", repetition=1))
    assert said(capsys) == [
        "[1/3] gemm m=8 repetition 1 ok · 20 s left",
        "[2/3] gemm m=8 repetition 2 invalid: wrong",
    ]


BEHIND = """I0000 device_rt.cc:166] a library's own words
Traceback (most recent call last):
  File "step.py", line 3, in run
    loss.backward()
torch._dynamo.exc.BackendCompilerFailed: backend='tpu' raised:
RuntimeError: failed to inline functions

While executing %submod_0
I0000 compilation_cache.cc:356] Compilation cache evicted.
peak_compilation_memory_bytes=unknown
"""


def test_a_failure_says_what_was_raised_whatever_a_library_writes_after_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failed = replace(
        EVENT, kind="end", done=1, status="failed", reason="RuntimeError in phase compile"
    )
    observe = progress.lines(lambda: 0.0)
    observe(replace(failed, log=BEHIND))
    observe(replace(failed, log="no traceback\nkilled by somebody"))
    assert said(capsys) == [
        "[1/3] gemm m=8 repetition 1 failed: RuntimeError in phase compile",
        "  torch._dynamo.exc.BackendCompilerFailed: backend='tpu' raised:",
        "  RuntimeError: failed to inline functions",
        "  (TPUBENCH_DEBUG=1 shows where)",
        "[1/3] gemm m=8 repetition 1 failed: RuntimeError in phase compile",
        "  killed by somebody",
    ]


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_of_80_columns_shows_the_phase_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    case = "llama-infer batch=64 input_len=128 output_len=64 dtype=bfloat16"
    event = replace(EVENT, kind="phase", case=case, done=10, total=11, left_s=150.0)
    with progress.observer(show=True) as observe:
        observe(replace(event, phase="other windows"))
        observe(replace(event, phase="window", expected_s=120.0))
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())
    assert "10/11" in shown
    assert "measuring more · 2 min left · llama-infer batch=64" in shown
    assert "measuring, about 120 s · 2 min left · llama-infer" in shown
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]", shown))
