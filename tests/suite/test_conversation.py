"""Children that misbehave: each is one line, in bounded time and memory, and leaves nothing behind.

The children are real programs, given as the interpreter of a run; each says nothing that a child of
tpubench would say, or does what none would.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tpubench.errors import RunFailedError, UsageError
from tpubench.results.gate.policy import Rules
from tpubench.suite import conversation, keeper, launch, messages
from tpubench.suite import run as suite_run
from tpubench.suite.duets import ab
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.job import Job, Outcome
from tpubench.suite.request import Request

GEMM = {"m": ["8"], "n": ["8"], "k": ["8"], "dtype": ["float32"]}
MOST_MEMORY_KB = 400_000
"""Beyond what pytest itself had taken before."""


def stranger(folder: Path, code: str) -> str:
    """An executable that ignores what it is asked and runs ``code``; ``pipe`` is its descriptor."""
    path = folder / "python"
    head = f"#!{sys.executable} -S\nimport json, os, sys, time\npipe = int(sys.argv[-1])\n"
    path.write_text(head + textwrap.dedent(code))
    path.chmod(0o755)
    return str(path)


def job() -> Job:
    asked = Request(workload="gemm", backend="fake", preset="square-512", overrides=GEMM)
    plan = suite_run.make_plan(asked)
    return Job(
        backend="fake", compile_mode="eager", case=plan.cases[0], weights=plan.weights,
        pace=plan.pace, repetition=0,
    )  # fmt: skip


def outcome_of(folder: Path, code: str, timeout_s: float = 60.0) -> Outcome:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ended = launch.run_child(job(), python=stranger(folder, code), timeout_s=timeout_s)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY_KB
    assert len(ended.log.encode()) <= 4 * conversation.LOG_TAIL_BYTES
    assert ended.outcome.status == "failed" and "\n" not in str(ended.outcome.reason)
    return ended.outcome


SAY = "import os; os.write(pipe, {!r})\ntime.sleep(600)\n"
OK = (
    '{"outcome": {"status": "ok", "device": "cpu", "windows": {"pass": {"marks": ["pass"],'
    ' "laps_s": [[%s]], "wall_s": 1.0, "passes": 1, "how": "host clock"}}}}\n'
)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (SAY.format(b"garbage\n"), "no message but garbage"),
        (SAY.format(b"\xff\x00\n"), "no message but"),
        (SAY.format(b"[" * 200_000 + b"\n"), "no message but"),
        (SAY.format(b"{}\n"), "without a phase or an outcome"),
        (SAY.format(b'{"phase": 7}\n'), "no message but phase: string type"),
        (SAY.format(b'{"phase": "\\u001b[2J"}\n'), "without a phase or an outcome"),
        (SAY.format(b'{"outcome": {"status": "splendid"}}\n'), "unknown status"),
        (SAY.format(b'{"outcome": {"status": "ok"}}\n'), "without a device"),
        (SAY.format(b'{"outcome": {"status": 1}}\n'), "no message but outcome.status"),
        (SAY.format((OK % "NaN").encode()), "laps_s that are no times"),
        (SAY.format((OK % "1e999").encode()), "laps_s that are no times"),
        (SAY.format((OK % "-1").encode()), "laps_s that are no times"),
        (SAY.format((OK % "1, 2").encode()), "do not have its marks"),
        ('os.write(pipe, b\'{"outcome": {"stat\')\n', "exit code 0 in phase start"),
        ("while True: os.write(pipe, bytes(1 << 16))\n", "sent more than 64 MiB without an end"),
        ('while True: os.write(pipe, b\'{"phase": "x"}\\n\' * 999)\n', "more than 1000 phases"),
        ("while True: os.write(1, bytes(1 << 16))\n", "printed more than 64 MiB in phase start"),
        ("while True: print('error: ' * 99)\n", "printed more than 64 MiB in phase start"),
    ],
)
def test_what_a_child_says_is_bounded_and_named(tmp_path: Path, code: str, reason: str) -> None:
    began = time.monotonic()
    assert reason in str(outcome_of(tmp_path, code).reason)
    assert time.monotonic() - began < 30  # and not the 600 s that it would have stayed


def test_a_child_that_closes_its_pipe_and_stays_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_LEAVE_S", 0.2)
    ended = outcome_of(tmp_path, "os.close(pipe)\ntime.sleep(600)\n")
    assert "stopped answering in phase start" in str(ended.reason)


def test_a_long_job_does_not_wait_for_a_child_that_never_reads() -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with conversation.Conversation.start(command, dict(os.environ)) as child:
        child.say(bytes(1 << 20))
        with pytest.raises(TimeoutError):
            child.line(time.monotonic() + 0.1)


DAEMON = """
started = {started!r}
def daemon(clean):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    env = {{}} if clean else dict(os.environ)
    os.set_inheritable(pipe, True)
    os.execve(sys.executable, [sys.executable, "-S", "-c", "import os, sys, time\\n"
        "open(sys.argv[1], 'a').write(f'{{os.getpid()}}\\\\n')\\ntime.sleep(600)", started], env)
daemon({clean})
while not os.path.exists(started) or not open(started).read().endswith("\\n"):
    time.sleep(0.01)
"""


def daemon_of(tmp_path: Path, code: str, *, clean: bool = False) -> tuple[str, Path]:
    """A program that leaves a process of a session of its own behind, holding its pipe."""
    started = tmp_path / "started"
    return DAEMON.format(started=str(started), clean=clean) + code, started


def ended(started: Path) -> bool:
    """Whether every process that wrote its number has ended, or has ended within a moment."""
    pids = [int(line) for line in started.read_text().splitlines()]
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return bool(pids)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize(
    ("then", "reason"),
    [("", "exit code 0 in phase start"), ("time.sleep(600)\n", "timed out after 5 s")],
)
def test_what_a_child_left_running_ends_with_it(tmp_path: Path, then: str, reason: str) -> None:
    code, started = daemon_of(tmp_path, then)
    began = time.monotonic()
    assert reason in str(outcome_of(tmp_path, code, timeout_s=5.0).reason)
    assert time.monotonic() - began < 60
    assert ended(started)


# Asked for versions it answers; what it is asked next is the child of a run.
HONEST = f"""
if '-c' in sys.argv:
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
"""
IN_A_COMMAND = """
import sys
from tpubench.suite import processes
from tpubench.suite.interpreters import Interpreter
processes.adopt_orphans()
try:
    Interpreter(path=sys.argv[1]).versions(["torch"])
except Exception as error:
    print(error)
"""


def test_a_command_also_ends_what_has_hidden_its_mark(tmp_path: Path) -> None:
    code, started = daemon_of(tmp_path, "", clean=True)
    path = stranger(tmp_path, code)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_COMMAND, path], capture_output=True, text=True, check=True
    )
    assert "does not answer as a Python interpreter" in done.stdout
    assert ended(started)


def test_a_kill_of_the_run_ends_what_its_children_have_started(tmp_path: Path) -> None:
    code, started = daemon_of(tmp_path, "time.sleep(600)\n")
    command = [sys.executable, "-m", "tpubench.cli", "run", "--workload", "gemm", "--repeats", "1"]
    where = ["--store", str(tmp_path / "store"), "--backend", "fake"]
    process = subprocess.Popen(
        [*command, *where, "--preset", "square-512", "--python", stranger(tmp_path, HONEST + code)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not started.exists() or not started.read_text():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert ended(started)


@pytest.mark.parametrize("answer", ["[]", '{"torch": 5}', "null", "{" * 99, '{"other": null}'])
def test_an_interpreter_that_answers_nonsense_is_no_interpreter(
    tmp_path: Path, answer: str
) -> None:
    path = stranger(tmp_path, SAY.format(f"{answer}\n".encode()))
    with pytest.raises(UsageError, match="does not answer as a Python interpreter"):
        Interpreter(path=path).versions(["torch"])


@pytest.mark.parametrize("flood", ["pipe", "1"])
def test_an_interpreter_that_never_stops_is_no_interpreter(tmp_path: Path, flood: str) -> None:
    path = stranger(tmp_path, f"while True: os.write({flood}, bytes(1 << 16))\n")
    with pytest.raises(UsageError, match="does not answer as a Python interpreter"):
        Interpreter(path=path).versions(["torch"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("garbage", "its answer is garbage"),
        ("[1]", "its answer is garbage"),
        ('{"passes_s": [1.0]}', "its answer has no prepared"),
        ('{"prepared": 1}', "it sent no message but"),
        ('{"prepared": {"device": "cpu"}}', "it sent no message but"),
        ('{"failed": "the device\\n was lost"}', "the device"),
    ],
)
def test_a_side_that_talks_nonsense_is_named(tmp_path: Path, answer: str, reason: str) -> None:
    path = stranger(tmp_path, HONEST + SAY.format(answer.encode() + b"\n"))
    asked = Request(workload="gemm", backend="fake", preset="square-512", overrides=GEMM)
    contest = ab.arrange(f"python:{path}", ".", asked, Rules())
    with pytest.raises(RunFailedError, match=f"baseline: .*{reason}"):
        ab.run(contest, tmp_path / "store", lambda taken: None)


def test_a_mark_that_others_may_have_kills_nobody() -> None:
    for short in (b"", b"x", b"0123456789abcde"):
        with pytest.raises(ValueError, match="is no mark"):
            keeper.kill_marked(short)


def test_a_whole_outcome_passes() -> None:
    said = messages.parse((OK % "0.5").encode())
    assert said.outcome is not None and said.outcome.windows["pass"].laps_s == [[0.5]]
    assert messages.parse(b'{"phase": "build", "expected_s": null}').phase == "build"
