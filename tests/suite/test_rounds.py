"""Rounds: one process runs every case, each is kept as it ends, and a fault takes nothing along."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_contract import cases_of

from tpubench.reports import progress, time_spent
from tpubench.results import spent
from tpubench.results import store as facts
from tpubench.results.events import Event, RunReport
from tpubench.results.fingerprint import GitState
from tpubench.results.row import Row
from tpubench.suite import launch, registry, rounds
from tpubench.suite import run as suite_run
from tpubench.suite.conversation import Conversation
from tpubench.suite.job import Job, Outcome, from_line, to_line
from tpubench.suite.launch import Ended
from tpubench.suite.request import Request
from tpubench.suite.workload import Device, Step, Weights

SIZES = {"m": ["8", "16", "24"], "n": ["8"], "k": ["8"], "dtype": ["float32"]}


class Ran:
    """A run of three small cases, and what it said and started."""

    def __init__(self, store: Path, monkeypatch: pytest.MonkeyPatch, **asked: Any) -> None:
        self.events: list[Event] = []
        self.processes = 0
        begin = Conversation.start.__func__  # type: ignore[attr-defined]

        def counted(cls: type[Conversation], *arguments: Any) -> Conversation:
            self.processes += 1
            started: Conversation = begin(cls, *arguments)
            return started

        monkeypatch.setattr(Conversation, "start", classmethod(counted))
        fields = {
            "workload": "gemm",
            "backend": "fake",
            "preset": "square-512",
            "overrides": SIZES,
            "repeats": 1,
            **asked,
        }
        plan = suite_run.make_plan(Request(**fields))
        self.report: RunReport = suite_run.execute(plan, store, self.events.append)

    def status(self, m: int, repetition: int = 0) -> str:
        (status,) = {row.status for row in self._rows(m, repetition)}
        return status

    def reason(self, m: int, repetition: int = 0) -> str:
        return str(self._rows(m, repetition)[0].reason)

    def spent_s(self, m: int, repetition: int = 0) -> dict[str, float]:
        environment = json.loads(self._rows(m, repetition)[0].environment)
        spent_s: dict[str, float] = environment["timing"]["spent_s"]
        return spent_s

    def order(self, repetition: int) -> list[str]:
        started = [e for e in self.events if e.kind == "start" and e.repetition == repetition]
        return [re.findall(r"m=(\d+)", event.case)[0] for event in started]

    def _rows(self, m: int, repetition: int) -> list[Row]:
        return [
            row
            for row in self.report.rows
            if json.loads(row.params)["m"] == m and row.repetition == repetition
        ]


def script(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    monkeypatch.setenv("TPUBENCH_FAKE", json.dumps(values))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Two rounds without a fault."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("TPUBENCH_FAKE", raising=False)
        yield Ran(tmp_path_factory.mktemp("store"), monkeypatch, repeats=2)


def test_a_round_is_one_process_that_takes_the_device_once(sound: Ran) -> None:
    assert sound.processes == 2
    assert sound.report.failed == 0
    phases = [event.phase for event in sound.events if event.kind == "phase"]
    assert phases.count("open") == phases.count("clock") == 2
    assert phases.count("build") == phases.count("window") == 6


def test_the_order_of_the_cases_changes_from_round_to_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_runs(jobs: Sequence[Job], **asked: Any) -> Generator[Ended]:
        for _ in jobs:
            yield Ended(outcome=Outcome(status="invalid", reason="not run"), log="")

    monkeypatch.setattr(rounds, "run_jobs", none_runs)
    monkeypatch.setattr("secrets.token_hex", lambda size: "a1b2c3")
    ran = Ran(tmp_path, monkeypatch, repeats=8)
    orders = [tuple(ran.order(repetition)) for repetition in range(8)]
    assert all(sorted(order) == ["16", "24", "8"] for order in orders)
    assert len(set(orders)) > 2


@pytest.mark.parametrize(
    ("phase", "fault", "reason"),
    [
        ("window", "abort", "killed by SIGABRT in phase window"),
        ("compile", "lost", "the device was lost"),
    ],
)
def test_a_crash_loses_one_case_and_the_rest_run_in_a_fresh_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, fault: str, reason: str
) -> None:
    script(monkeypatch, faults={"*": [phase, fault, "m=16"]})
    ran = Ran(tmp_path, monkeypatch)
    assert [ran.status(m) for m in (8, 16, 24)] == ["ok", "failed", "ok"]
    assert reason in ran.reason(16)
    assert ran.processes == (1 if ran.order(0)[-1] == "16" else 2)
    assert ran.report.exit_code == 5
    assert facts.scan(facts.files(tmp_path)).table.num_rows == len(ran.report.rows)


def test_a_case_that_failed_has_a_process_of_its_own_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, faults={"0": ["build", "abort", "m=16"]})
    ran = Ran(tmp_path, monkeypatch, repeats=2)
    first = 1 if ran.order(0)[-1] == "16" else 2
    assert ran.processes == first + 2
    assert ran.order(1)[-1] == "16"
    assert [ran.status(m, 1) for m in (8, 16, 24)] == ["ok", "ok", "ok"]
    assert "import" in ran.spent_s(16, 1)


def test_a_process_that_falls_silent_loses_the_case_that_it_was_at(tmp_path: Path) -> None:
    said = Outcome(status="ok", device="fake").to_json()
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable} -S\nimport os, sys, time\n"
        f"os.write(int(sys.argv[-1]), {json.dumps({'outcome': said}).encode()!r} + b'\\n')\n"
        "time.sleep(600)\n"
    )
    program.chmod(0o755)
    ends = list(launch.run_jobs(jobs()[:2], python=str(program), timeout_s=3.0))
    # The second is then alone in a second such process, which answers for it at once.
    assert [ended.outcome.status for ended in ends] == ["ok", "failed"]
    assert ends[1].outcome.reason == "timed out after 3 s in phase release"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("ValueError: no", "ValueError"),
        ("torch._dynamo.exc.BackendCompilerFailed: inductor raised:", "BackendCompilerFailed"),
        ("torch._dynamo.exc.Unsupported: Graph break", "Unsupported"),
        ("nothing of the kind", "exit code 1"),
    ],
)
def test_a_compiler_that_gave_up_is_named_by_its_exception(line: str, kind: str) -> None:
    dead = subprocess.Popen(["false"])
    dead.wait()
    log = f"Traceback (most recent call last):\n{line}\n\nSet TORCHDYNAMO_VERBOSE=1 for more"
    reason = launch.why_it_ended(dead, registry.backend("cpu"), "compile", log, None)
    assert reason == f"{kind} in phase compile"


def test_a_process_that_a_signal_has_stopped_is_not_called_silent(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text(
        f"#!{sys.executable} -S\nimport os, signal, time\n"
        "if os.fork() == 0:\n    os.kill(os.getpid(), signal.SIGSTOP)\n"  # a rank, say
        "time.sleep(600)\n"
    )
    program.chmod(0o755)
    (ended,) = launch.run_jobs(jobs()[:1], python=str(program), timeout_s=2.0)
    assert ended.outcome.reason == (
        "timed out after 2 s in phase start:"
        " a signal had stopped a process of it (SIGSTOP, SIGTSTP)"
    )


def test_a_wrong_answer_of_one_case_does_not_stain_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(monkeypatch, faults={"*": ["build", "wrong", "m=16"]})
    ran = Ran(tmp_path, monkeypatch)
    assert [ran.status(m) for m in (8, 16, 24)] == ["ok", "invalid", "ok"]
    assert ran.processes == 1  # the process is sound: the answer was wrong


def test_what_was_spent_where_is_stored_and_adds_up(sound: Ran) -> None:
    first, *others = (int(m) for m in sound.order(0))
    every = {"build", "reference", "compile", "warm-up", "window", "other windows", "check"}
    assert sound.spent_s(first).keys() == {"import", "open", "clock"} | every
    for m in others:  # the device is taken once, and what was before is cleared away
        assert sound.spent_s(m).keys() == {"release"} | every
    total = spent.by_phase(sound.report.rows)
    share = spent.measured_share(total)
    assert share is not None and 0 < share < 1
    assert share == (total["window"] + total["other windows"]) / sum(total.values())
    (line,) = time_spent.lines(sound.report.rows, {"store": sound.report.store_s})
    assert line.startswith("time of gemm: ") and "% of it measuring: import " in line


def test_rows_without_a_timing_record_say_nothing_of_their_time(sound: Ran) -> None:
    for environment in ("{}", "[]", '{"timing": 3}', '{"timing": {"spent_s": {"a": "b"}}}'):
        rows = [replace(row, environment=environment) for row in sound.report.rows]
        assert spent.by_phase(rows) == {}
        assert time_spent.lines(rows) == []


def test_progress_names_the_phase_and_the_time_left(
    sound: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = [event for event in sound.events if event.kind == "end"]
    left = [event.left_s for event in ends]
    assert all(seconds is not None for seconds in left) and left[-1] == 0.0
    assert sound.events[0].left_s is None  # nothing has ended yet
    with progress.observer(show=True) as observe:
        for event in sound.events:
            observe(replace(event, left_s=event.left_s and 42.0))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert lines[0].endswith("repetition 1 ok · 42 s left")
    assert lines[-1].endswith("repetition 2 ok")


def test_a_case_that_cannot_fit_is_refused_before_anything_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 10**6
    script(monkeypatch, free_bytes=free)
    sizes = {"m": ["8", "1024"], "n": ["512"], "k": ["8"], "dtype": ["float32"]}
    ran = Ran(tmp_path, monkeypatch, overrides=sizes)
    assert (ran.status(8), ran.status(1024)) == ("ok", "failed")
    needed = (1024 * 8 + 512 * 8 + 1024 * 512) * 4
    assert f"needs at least {needed:,} bytes, {free:,} are free" in ran.reason(1024)
    assert "\n" not in ran.reason(1024)
    assert ran.report.exit_code == 5
    tried = [e.phase for e in ran.events if e.kind == "phase" and "m=1024" in e.case]
    assert "build" not in tried


@pytest.mark.parametrize("name", registry.workloads())
def test_every_workload_says_what_it_holds_at_least(name: str) -> None:
    """Held against what building the program takes, by the sizes of its tensors."""
    workload = registry.workload(name)
    case = cases_of(name, dtype=["float32"])[0]
    needed = workload.memory_bytes(case)
    step = workload.build(case, Device(torch_device="cpu"), Weights())
    if not workload.trains:
        step.run(lambda *_: None)  # so that a product is there
    held = {id(t): t for t in _tensors(step)}
    # Gradients come with the first step of what learns, and AdamW's moments, Adagrad's squares or
    # SGD's momentum.
    learnt = 3 if name in {"dlrm-train", "resnet50-train"} else 4
    least = sum(t.nbytes * (learnt if t.requires_grad else 1) for t in held.values())
    if name == "h2d":
        least //= 2  # its source stands in the memory of the host
    assert needed is not None
    assert 0.8 * least < needed < 1.3 * least


def _tensors(step: Step) -> Iterator[torch.Tensor]:
    """The weights, caches and operands that a step holds."""
    for value in vars(step).values():
        if isinstance(value, torch.nn.Module):
            yield from value.parameters()
            yield from value.buffers()
        elif isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from (each for each in value if isinstance(each, torch.Tensor))


def jobs() -> list[Job]:
    """The small cases as jobs of one process."""
    plan = suite_run.make_plan(
        Request(workload="gemm", backend="fake", preset="square-512", overrides=SIZES)
    )
    return [
        Job(
            backend="fake",
            compile_mode="eager",
            case=case,
            weights=plan.weights,
            pace=plan.pace,
            repetition=0,
        )
        for case in plan.cases
    ]


def test_what_compiles_only_as_it_is_first_run_is_not_awaited_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a first run, whose cache is empty, ends after one round and without an interval."""
    monkeypatch.setattr(rounds.compile_cache, "in_use", lambda backend: True)
    asked = Request(
        workload="gemm", backend="fake", preset="square-512", overrides={"dtype": ["float32"]}
    )
    plan = suite_run.make_plan(asked)
    (case,) = plan.cases
    taken = rounds.Rounds(
        plan=plan, where=tmp_path, git=GitState(sha=None, dirty=None), budget_s=60.0,
        observe=lambda event: None,
    )  # fmt: skip
    job = taken._job(case, 0)
    ended = Outcome(
        status="failed", reason="x", compile_s=20.0, warm_up_s=[15.5, 0.5],
        compile_cache={"hits": 0, "misses": 2},
    )  # fmt: skip
    taken._keep(job, Ended(outcome=ended, log=""), taken._start(job))
    taken.time_left.took_s[case.key] = [50.0]
    for since_s, fits in ((44.0, True), (46.0, False)):  # 15 s without the 20 and the other 15
        taken.began = time.monotonic() - since_s
        assert taken.another_fits() is fits


@pytest.mark.parametrize(
    ("cache", "spared_s"),
    [
        (None, 0.0),  # it does not say
        ({"hits": 0, "misses": 0}, 0.0),
        ({"hits": 0, "misses": 4}, 35.0),
        ({"hits": 3, "misses": 1}, 8.75),
        ({"hits": 4, "misses": 0}, 0.0),
    ],
)
def test_only_what_the_cache_will_give_is_not_awaited(
    cache: dict[str, int] | None, spared_s: float
) -> None:
    said = Outcome(status="ok", compile_s=20.0, warm_up_s=[15.5, 0.5], compile_cache=cache)
    assert rounds._not_again_s(said) == spared_s


def test_jobs_survive_the_line_that_carries_them() -> None:
    assert from_line(to_line(jobs())) == jobs()


def test_closing_the_jobs_ends_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    begin = Conversation.start.__func__  # type: ignore[attr-defined]

    def remembered(cls: type[Conversation], *arguments: Any) -> Conversation:
        started: Conversation = begin(cls, *arguments)
        children.append(started.process.pid)
        return started

    monkeypatch.setattr(Conversation, "start", classmethod(remembered))
    ends = launch.run_jobs(jobs(), python=None, timeout_s=300)
    assert next(ends).outcome.status == "ok"
    ends.close()
    (pid,) = children
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
