"""Which Python runs a backend: the option, the configuration file, and what a bad one answers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tpubench.errors import UsageError
from tpubench.suite import config, doctor
from tpubench.suite import run as suite_run
from tpubench.suite.interpreters import OWN, Interpreter
from tpubench.suite.request import Request


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(config.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_without_a_file_every_backend_runs_here() -> None:
    assert config.interpreter("xla") == OWN


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(config.VARIABLE, "tpubench.toml")


@pytest.mark.usefixtures("asked_for")
def test_the_file_names_an_interpreter_relative_to_itself(tmp_path: Path) -> None:
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "tpubench.toml").write_text('[backends.fake]\npython = "python"\n')
    assert config.interpreter("fake").path == str(tmp_path / "python")
    assert config.interpreter("cpu") == OWN
    plan = suite_run.make_plan(Request(workload="gemm", backend="fake"))
    assert plan.python == str(tmp_path / "python")
    assert not any("not read" in note for note in plan.notes)


def test_a_file_of_the_working_directory_is_pointed_out_and_runs_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "python").write_text(f'#!/bin/sh\ntouch {ran}\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    text = "".join(f"[backends.{name}]\npython = 'python'\n" for name in ("fake", "cpu", "xla"))
    (tmp_path / "tpubench.toml").write_text(text)
    for backend in ("fake", "auto"):
        plan = suite_run.make_plan(Request(workload="gemm", backend=backend))
        assert plan.python is None
        assert any("tpubench.toml" in n and config.VARIABLE in n for n in plan.notes)
    assert any("not read" in finding.detail for finding in doctor.examine().findings)
    assert not ran.exists()


def test_the_option_wins_over_the_file(tmp_path: Path) -> None:
    home = tmp_path / "home" / "tpubench" / "config.toml"
    home.parent.mkdir(parents=True)
    home.write_text('[backends.fake]\npython = "/nowhere"\n')
    plan = suite_run.make_plan(Request(workload="gemm", backend="fake", python=sys.executable))
    assert plan.python == sys.executable


def test_the_variable_comes_first_then_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "tpubench" / "config.toml"
    home.parent.mkdir(parents=True)
    home.write_text("")
    (tmp_path / "tpubench.toml").write_text("")
    assert config.find() == home
    monkeypatch.setenv(config.VARIABLE, "tpubench.toml")
    assert config.find() == Path("tpubench.toml")
    monkeypatch.setenv(config.VARIABLE, "missing.toml")
    with pytest.raises(UsageError, match=r"TPUBENCH_CONFIG: missing\.toml is not a file"):
        config.find()


@pytest.mark.usefixtures("asked_for")
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[backends.xla]\npyhton = 'x'\n", r"backends\.xla\."),
        ("[backend.xla]\npython = 'x'\n", "backend: there is no such key"),
        ("[backends.gpu]\npython = 'x'\n", r"backends\.gpu: no such backend; known: .*cuda"),
        ("[backends.xla]\npython = 'nothing'\n", "is not an executable file"),
        ("[backends.xla]\npython = 3\n", r"backends\.xla\.python"),
        ("not toml", "is not valid TOML"),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "tpubench.toml").write_text(text)
    with pytest.raises(UsageError, match=complaint) as raised:
        config.interpreters()
    assert "tpubench.toml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_versions_are_asked_of_the_other_interpreter() -> None:
    other = Interpreter(path=sys.executable)
    assert other.versions(["torch", "absent-package"]) == OWN.versions(["torch", "absent-package"])


def test_a_program_that_is_no_python_is_named() -> None:
    with pytest.raises(UsageError, match="/bin/true does not answer as a Python interpreter"):
        Interpreter(path="/bin/true").versions(["torch"])
