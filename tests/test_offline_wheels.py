"""Wheels for a machine without a package index: what is needed there, and nothing that it has.

pip itself chooses and fetches, from a folder in place of an index.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import offline_wheels


def wheel(folder: Path, name: str, *requires: str, tag: str = "py3-none-any") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-{tag}.whl"
    info = f"{name}-1.0.dist-info"
    lines = [f"Name: {name}", "Version: 1.0", *(f"Requires-Dist: {one}" for one in requires)]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


def test_what_a_requirement_requires_comes_along_and_what_is_there_does_not(
    index: Path, tmp_path: Path
) -> None:
    wheel(index, "checks", "checks-core==1.0", "typing-extensions>=4")
    core = "cp312-cp312-manylinux2014_x86_64"
    wheel(index, "checks_core", tag=core)
    wheel(index, "checks_core", tag="cp311-cp311-manylinux2014_x86_64")
    out = tmp_path / "out"
    wheel(out, "tool", "checks>=1", "numpy>=2", "torch>=2.6; extra == 'cuda'", "jax; extra == 'x'")
    there = offline_wheels.packages_there("numpy==2.5.2\nTorch==2.5.1+cu130\ntyping_extensions\n")
    old = offline_wheels.fill(out, there, "cuda", "3.12")
    assert sorted(path.name for path in out.iterdir()) == [
        "checks-1.0-py3-none-any.whl",
        f"checks_core-1.0-{core}.whl",
        "tool-1.0-py3-none-any.whl",
    ]
    assert len(old) == 1 and "2.5.1+cu130 is there" in old[0]


def test_a_requirement_of_another_python_is_none(index: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wheel(out, "tool", "backport; python_version < '3.12'", "winapi; sys_platform == 'win32'")
    assert offline_wheels.fill(out, {}, "cuda", "3.12") == []
    assert [path.name for path in out.iterdir()] == ["tool-1.0-py3-none-any.whl"]
