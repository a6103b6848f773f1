"""What a child imports does not depend on where it was started, and git runs nothing unasked."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tpubench.errors import RunFailedError
from tpubench.estimates.compiled import children
from tpubench.results import fingerprint
from tpubench.results.gate.policy import Rules
from tpubench.suite import processes
from tpubench.suite import run as suite_run
from tpubench.suite.duets import ab, duet, refs
from tpubench.suite.interpreters import Interpreter
from tpubench.suite.request import Request

ROOT = Path(__file__).parent.parent.parent
GEMM = {"m": ["8"], "n": ["8"], "k": ["8"], "dtype": ["float32"]}
STRANGERS = ("json.py", "torch.py", "numpy.py", "sitecustomize.py", "tpubench/__init__.py")


@pytest.fixture(params=["absent", ":", "{other}:"])
def strange_place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working directory full of modules that say that they ran; yields what they would write."""
    ran = tmp_path / "ran"
    here = tmp_path / "here"
    for name in STRANGERS:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(f"open({str(ran)!r}, 'a').write({name!r})\nraise SystemExit(9)\n")
    info = here / "stranger-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[tpubench.workloads]\nx = numpy:X\n")
    monkeypatch.chdir(here)
    if request.param == "absent":
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", request.param.format(other=tmp_path))
    return ran


def test_no_child_sees_the_working_directory(strange_place: Path, tmp_path: Path) -> None:
    asked = Request(workload="gemm", backend="fake", preset="square-512", overrides=GEMM, repeats=1)
    report = suite_run.execute(suite_run.make_plan(asked), tmp_path / "store", lambda event: None)
    assert report.exit_code == 0
    contest = ab.arrange("set:steps=1", "set:steps=2", asked, Rules(), quads=1)
    with duet.stage(*contest.cases[0], timeout_s=120, quads=1) as stage:
        assert stage.pair().pair.order
    assert Interpreter(path=sys.executable).versions(["stranger"]) == {"stranger": None}
    with pytest.raises(RunFailedError):  # no such request; its imports are what matters
        children.ask(
            "tpubench.suite.compiling.export",
            {},
            python=None,
            timeout_s=60,
            what="an empty request",
        )
    assert not strange_place.exists(), strange_place.read_text()


def test_a_path_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a::/b:")
    assert processes.environment()["PYTHONPATH"] == "/a:/b"
    assert processes.environment({"PYTHONPATH": ":"}).get("PYTHONPATH") is None


def test_how_the_caller_wants_python_to_behave_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With warnings as errors torch cannot compile anything."""
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    program = (
        "import os, sys, warnings; warnings.warn('old');"
        " print(sys.flags.inspect, 'PYTHONWARNINGS' in os.environ)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=processes.environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "0 False\n")


def test_every_interpreter_that_the_product_starts_is_started_safely() -> None:
    for room in ("suite", "workloads", "results", "costs", "estimates", "reports", "commands"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.List | ast.Tuple):
                    words = {e.value for e in node.elts if isinstance(e, ast.Constant)}
                    shell = "/bin/sh" in words  # of a container: no interpreter of Python
                    assert shell or "-P" in words or not words & {"-m", "-c"}, (path, node.lineno)


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_asking_git_runs_nothing_that_a_repository_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, here = tmp_path / "ran", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$0 $@" >> {ran}\ncat\n')
    program.chmod(0o755)
    git("init", "--quiet")
    (here / "code.py").write_text("SPEED = 1\n")
    (here / "benchmarks").mkdir()
    (here / "benchmarks" / "case.py").write_text("CASE = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "First")
    (here / ".gitattributes").write_text("*.py filter=x=y diff=show\nbenchmarks export-ignore\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "Second")
    for hook in ("post-index-change", "post-checkout", "reference-transaction"):
        link = here / ".git" / "hooks" / hook
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(program)
    for key in (
        *("core.fsmonitor", "filter.x=y.clean", "filter.x=y.smudge", "filter.x=y.process"),
        *("diff.show.textconv", "diff.external", "core.pager", "gpg.program", "core.sshCommand"),
    ):
        git("config", key, str(program))
    git("config", "filter.x=y.required", "true")
    git("config", "log.showSignature", "true")
    os.utime(here / "code.py", (1, 1))  # git must look into it to see whether it has changed
    ran.unlink(missing_ok=True)

    state = fingerprint.git_state(here)
    assert state.sha == refs.commit("HEAD") and state.dirty is False
    assert refs.between("HEAD~1", "HEAD")[0].endswith("Second")
    built = refs.build("HEAD")
    (tree,) = (tmp_path / "cache" / "tpubench" / "refs").glob("*/tree")
    assert (tree / "benchmarks" / "case.py").read_text() == "CASE = 1\n", built
    (here / "code.py").write_text("SPEED = 2\n")
    assert fingerprint.git_state(here).dirty is True
    assert not ran.exists(), ran.read_text()
