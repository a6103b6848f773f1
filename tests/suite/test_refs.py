"""Git revisions as sides of a duet: unpacked once, and installed where dependencies differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from wheels import wheel

from tpubench.errors import RunFailedError, UsageError
from tpubench.results.gate.policy import Rules
from tpubench.suite.duets import ab, refs, sides
from tpubench.suite.request import Request

REQUEST = Request(
    workload="gemm",
    backend="fake",
    preset="square-512",
    overrides={"m": ["8"], "n": ["8"], "k": ["8"], "dtype": ["float32"]},
)
BUILD = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import pathlib, sys
sys.path.insert(0, {helper!r})
from wheels import wheel

def build_wheel(folder, config_settings=None, metadata_directory=None):
    code = pathlib.Path("model.py").read_text()
    needs = pathlib.Path("needs.txt").read_text().split()
    return wheel(pathlib.Path(folder), "p", "1", {{"model.py": code}}, needs).name
"""


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    git("init", "--quiet")
    (folder / "pyproject.toml").write_text('[project]\nname = "p"\nversion = "1"\n')
    (folder / "model.py").write_text("SPEED = 1\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "First")
    git("tag", "v1.0")
    (folder / "model.py").write_text("SPEED = 2\n")
    git("commit", "--quiet", "-am", "Make it slow")
    return folder


def test_a_revision_is_unpacked_once_and_put_in_front(project: Path) -> None:
    assert refs.commit("nothing") is None and refs.commit("--all") is None
    assert refs.commit("release") == refs.commit("v1.0") == refs.commit("HEAD~1")
    assert [line.split(" ", 1)[1] for line in refs.between("v1.0", "HEAD")] == ["Make it slow"]
    built = refs.build("release")
    assert built.python == sys.executable and "same dependency files" in built.how
    front = Path(built.environment["PYTHONPATH"].split(":")[0])
    assert (front / "model.py").read_text() == "SPEED = 1\n"
    assert (project / "model.py").read_text() == "SPEED = 2\n"
    assert refs.build("v1.0") == built


def test_the_sides_of_two_revisions_name_the_commits_between(project: Path) -> None:
    arranged = ab.arrange("release", "HEAD", REQUEST, Rules())
    assert any("Make it slow" in note for note in arranged.notes)
    a, b = arranged.cases[0]
    assert a.commit == refs.commit("v1.0") and b.commit == refs.commit("HEAD")
    assert sides.parse("release+set:steps=2").settings == {"steps": "2"}
    with pytest.raises(UsageError, match="nothing to compare"):
        ab.arrange("v1.0", "release", REQUEST, Rules())


def test_a_revision_with_other_dependencies_gets_them_and_keeps_the_rest(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for version in ("1", "2"):
        wheel(shelf, "tinydep", version, {"tinydep.py": f"VERSION = {version}\n"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    stated = (project / "pyproject.toml").read_text()
    (project / "backend.py").write_text(BACKEND.format(helper=str(Path(__file__).parent)))
    for version in ("1", "2", "3"):
        (project / "needs.txt").write_text(f"tinydep=={version}\n")
        (project / "pyproject.toml").write_text(f"{stated}# needs {version}\n{BUILD}")
        git("add", ".")
        git("commit", "--quiet", "-m", f"Needs {version}")

    built = refs.build("HEAD~2")
    assert built.python != sys.executable and "an environment of its own" in built.how
    asked = "import model, tinydep, typer; print(model.SPEED, tinydep.VERSION)"
    done = subprocess.run(
        [built.python, "-c", asked],
        env={**built.environment},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "2 1\n"
    assert refs.build("HEAD~2") == built
    (project / "pyproject.toml").write_text(f"{stated}# another\n")
    with pytest.raises(RunFailedError, match=r"pip cannot install .*tinydep==3"):
        refs.build("HEAD")
